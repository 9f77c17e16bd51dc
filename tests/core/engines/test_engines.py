"""Tasks on processes of this machine: each has its outcome, nothing is left over, and no more is begun than fits."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_tasks import Actor, keeps_its_promises, run

from accomp.core.engines import Task, local, run_tasks
from accomp.core.engines.attempts import Call, Worker, read
from accomp.core.errors import DataError, UserError
from accomp.core.spec.runner import RunnerSpec

TWO = RunnerSpec(workers=2, cpus=1)


def await_text(path: Path) -> str:
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not appear"
        time.sleep(0.02)
    return path.read_text()


def is_gone(process: int) -> bool:
    """Waits for it: whoever has been killed needs a moment to be no more."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_every_task_has_an_outcome_whatever_happens_to_it(tmp_path, capfd):
    keeps_its_promises(TWO, tmp_path)
    told = capfd.readouterr().err
    assert "1 die: its process was killed by SIGKILL, perhaps for lack of memory; trying again (1 of 1)" in told
    assert "be_given_nonsense" not in told


def test_tasks_are_taken_when_there_is_room_and_workers_keep_what_they_have_built():
    taken = []

    def tasks():
        for number in range(9):
            taken.append(number)
            yield Task(str(number), ("count", None))

    workers: dict[int, list[int]] = {}
    with run_tasks(TWO, tasks(), Actor()) as outcomes:
        for done, outcome in enumerate(outcomes, start=1):
            assert len(taken) - done <= 2, "two workers, and the outcome in hand"
            process, call = outcome.value
            workers.setdefault(process, []).append(call)
    assert len(workers) <= 2
    assert all(calls == list(range(1, len(calls) + 1)) for calls in workers.values()), "one copy of the function each"
    assert os.getpid() not in workers


def test_a_fresh_process_for_each_task():
    begun = []
    found = run(TWO, *[("count", None)] * 3, fresh=True, started=lambda task: begun.append(task.name))
    assert len({outcome.value[0] for outcome in found.values()}) == 3
    assert sorted(begun) == sorted(found)


def leave_early(place: Path) -> None:
    tasks = [Task("a", ("wait_with_a_child", str(place))), Task("b", ("square", 2))]
    with run_tasks(TWO, tasks, Actor()) as outcomes:
        assert next(outcomes).value == 4
        await_text(place)
        raise ZeroDivisionError


def test_who_leaves_early_leaves_no_process_behind(tmp_path):
    place = tmp_path / "processes"
    with pytest.raises(ZeroDivisionError):
        leave_early(place)
    assert (tmp_path / "processes.saved").exists(), "it had time to save itself"
    assert all(is_gone(int(word)) for word in place.read_text().split())


def test_a_worker_that_does_not_listen_is_killed_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "GRACE", 0.2)
    place = tmp_path / "process"
    with run_tasks(TWO, [Task("a", str(place)), Task("b", "")], do_not_listen) as outcomes:
        next(outcomes)
        process = int(await_text(place))
    assert is_gone(process)


def do_not_listen(path: str) -> None:
    if not path:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Path(f"{path}.draft").write_text(str(os.getpid()))
    Path(f"{path}.draft").rename(path)
    time.sleep(600)


def test_workers_die_with_a_runner_that_is_killed(tmp_path):
    place = tmp_path / "processes"
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from engine_tasks import Actor, Task, RunnerSpec, run_tasks\n"
        "if __name__ == '__main__':\n"
        "    with run_tasks(RunnerSpec(), [Task('a', ('wait_with_a_child', sys.argv[2]))], Actor()) as outcomes:\n"
        "        list(outcomes)\n"
    )
    (tmp_path / "program.py").write_text(program)
    runner = subprocess.Popen([sys.executable, tmp_path / "program.py", Path(__file__).parents[1], place])
    processes = [int(word) for word in await_text(place).split()]
    runner.kill()
    runner.wait()
    assert all(map(is_gone, processes))


def test_a_library_that_is_missing_is_named(monkeypatch):
    for engine, library in (("ray", "ray"), ("slurm", "submitit")):
        monkeypatch.setitem(sys.modules, library, None)
        with (
            pytest.raises(UserError, match=rf"'{engine}' needs the library '{library}'.*accomp\[{engine}\]"),
            run_tasks(RunnerSpec(engine=engine), [], Actor()),
        ):
            pass


def test_gpus_are_divided_among_the_workers():
    visible = ["7", "5", "3", "1"]
    assert local.shares(0, 3, ()) == [None] * 3
    assert local.shares(1, 3, visible) == ["7", "5", "3"]
    assert local.shares(2, 2, visible) == ["7,5", "3,1"]
    assert local.shares(0.5, 5, visible) == ["7", "7", "5", "5", "3"]
    with pytest.raises(UserError, match=r"3 workers with 2 GPU each need 6 GPUs, this machine has 4"):
        local.shares(2, 3, visible)
    with pytest.raises(UserError, match=r"need 5 GPUs, this machine has 4"):
        local.shares(0.3, 13, visible)


def test_threads_are_divided_among_the_workers(monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 7)
    call = Call.of(Actor())
    assert local.LocalPool(RunnerSpec(workers=3), call, False)._threads == 2
    assert local.LocalPool(RunnerSpec(workers=30), call, False)._threads == 1
    assert local.LocalPool(RunnerSpec(workers=3, cpus=5), call, False)._threads == 5


def test_a_machine_without_the_runners_folder_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    for name in ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    call = Call.of(Actor())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").rmdir()
    answer = read(Worker(call, 1).attempt(pickle.dumps(("square", 2))))
    assert isinstance(answer.error, UserError)
    assert f"has no folder {tmp_path / 'x'}" in answer.failure


def test_an_error_keeps_its_lines_on_its_way():
    error = pickle.loads(pickle.dumps(DataError("one", "two")))
    assert (type(error), error.problems, str(error)) == (DataError, ("one", "two"), "one\ntwo")
