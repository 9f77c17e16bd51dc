"""Tasks as jobs, run by submitit's own stand-in for Slurm: every engine's promises, and what Slurm is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_tasks import Actor, Task, keeps_its_promises, run_tasks
from fakes import write_corpus
from ingest_workers import contents, ingest

from accomp.core.engines.attempts import Attempt, Call
from accomp.core.errors import UserError
from accomp.core.spec.runner import RunnerSpec, SlurmSpec

submitit = pytest.importorskip("submitit", reason="the extra slurm is not installed")


@pytest.fixture
def runner(tmp_path, monkeypatch) -> RunnerSpec:
    from accomp.core.engines import slurm

    monkeypatch.setattr(slurm, "CLUSTER", "local")
    monkeypatch.setattr(slurm, "POLL", 0.05)
    monkeypatch.setattr(submitit.core.core.Job, "_results_timeout_s", 1)  # wait for a file system's cache: none here
    return RunnerSpec(
        engine="slurm", workers=3, cpus=1, slurm=SlurmSpec(folder=str(tmp_path / "jobs"), tasks_per_job=2)
    )


def test_every_task_has_an_outcome_whatever_happens_to_its_job(runner, tmp_path, capfd):
    keeps_its_promises(runner, tmp_path)
    assert "1 die: its job" in capfd.readouterr().err


def test_songs_become_the_same_bytes(runner, tmp_path):
    corpus = write_corpus(tmp_path / "c", {"train": 2, "test": 1}, stems=2, seconds=1.1)
    ingest(corpus, tmp_path / "s", runner)
    ingest(corpus, tmp_path / "alone")
    assert contents(tmp_path / "s") == contents(tmp_path / "alone")


class Job:
    def __init__(self, cancelled: list[Job]):
        self._cancelled = cancelled

    def cancel(self) -> None:
        self._cancelled.append(self)


class Asked:
    """In place of submitit's executor: remembers what it is asked for, and never has a job done."""

    def __init__(self, folder: Path, cluster: str):
        self.folder, self.cluster, self.parameters, self.jobs, self.cancelled = folder, cluster, {}, [], []

    def update_parameters(self, **parameters):
        self.parameters |= parameters

    def submit(self, function, arguments):
        self.jobs.append((function, arguments))
        return Job(self.cancelled)


def test_slurm_is_asked_for_what_the_spec_says(monkeypatch, tmp_path):
    from accomp.core.engines.slurm import SlurmPool

    monkeypatch.setattr(submitit, "AutoExecutor", Asked)
    monkeypatch.chdir(tmp_path)
    spec = SlurmSpec(
        folder="jobs", partition="a100", minutes=90, memory=7.5, tasks_per_job=3, options={"account": "music"}
    )
    pool = SlurmPool(RunnerSpec(engine="slurm", workers=2, cpus=5, gpus=2, slurm=spec), Call.of(Actor()), False)
    asked = pool._executor
    assert (asked.cluster, asked.folder) == ("slurm", tmp_path / "jobs")
    assert asked.parameters == {
        "name": "accomp",
        "timeout_min": 90,
        "cpus_per_task": 5,
        "gpus_per_node": 2,
        "mem_gb": 7.5,
        "slurm_partition": "a100",
        "slurm_additional_parameters": {"account": "music"},
    }
    begun = 0
    while pool.has_room():
        pool.begin(Attempt(Task("x", begun)))
        begun += 1
    assert begun == 6, "two jobs of three tasks"
    assert [len(arguments) for _, arguments in asked.jobs] == [3, 3]
    pool.begin(Attempt(Task("again", 0), number=2))
    assert len(asked.jobs[-1][1]) == 1, "what failed harms no other task"
    function, arguments = asked.jobs[0]
    again = function.checkpoint(arguments)
    assert (again.function, again.args) == (function, (arguments,)), "out of time: the same once more"
    pool.close()
    assert len(asked.cancelled) == len(asked.jobs) == 3
    silent = SlurmPool(RunnerSpec(engine="slurm"), Call.of(Actor()), False)._executor.parameters
    assert silent == {"name": "accomp", "timeout_min": 24 * 60, "cpus_per_task": 1}


def test_what_slurm_cannot_do_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for runner, words in (
        (RunnerSpec(engine="slurm"), "there is no Slurm here"),
        (RunnerSpec(engine="slurm", gpus=0.5), "Slurm gives whole GPUs, got 0.5"),
    ):
        with pytest.raises(UserError, match=words), run_tasks(runner, [], Actor()):
            pass
