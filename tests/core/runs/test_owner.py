"""A run folder has one owner, whoever dies; a typo does not occupy it; what killed processes left is cleared."""

# ruff: noqa: SIM117  what is raised comes when the inner block ends
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from accomp.core import files
from accomp.core.cli.main import main
from accomp.core.console import say
from accomp.core.errors import DataError, SpecError
from accomp.core.registry import Registry
from accomp.core.runs.checkpoint_folders import checkpoint_steps, strays
from accomp.core.runs.folder import run_of
from accomp.core.spec.schema import load_spec


def spec_for(run: Path, *settings: str):
    return load_spec("quickstart", Registry(), [f"run.folder={json.dumps(str(run))}", *settings])


HOLDER = """
import sys, time
from pathlib import Path
from accomp.core.files import folder_lock
with folder_lock(Path(sys.argv[1]), lambda who: print("waits for", who, flush=True)):
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_second_waits_and_is_told_who_is_there_and_a_killed_one_holds_nothing(tmp_path):
    first = hold(tmp_path / "run", 600)
    assert line(first) == "in"
    second = hold(tmp_path / "run", 0)
    told = line(second)
    assert told.startswith(f"waits for process {first.pid} on {os.uname().nodename} since 20")
    assert second.poll() is None
    first.kill()
    assert line(second) == "in"
    assert second.wait(60) == 0
    first.wait(60)
    assert [path.name for path in (tmp_path / "run").iterdir()] == []


def test_whoever_is_killed_at_whatever_moment_leaves_the_folder_free(tmp_path):
    for number in range(3):
        process = hold(tmp_path / "run", 600)
        time.sleep(0.3 * number)
        process.kill()
        process.wait(60)
    waited: list[str] = []
    with files.folder_lock(tmp_path / "run", waited.append):
        assert waited == []
        who = json.loads((tmp_path / "run" / files.OWNER).read_text())
        assert (who["process"], who["host"]) == (os.getpid(), os.uname().nodename)


def test_a_disk_without_locks_is_told(tmp_path, monkeypatch, capsys):
    import fcntl

    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with files.folder_lock(tmp_path / "run", pytest.fail):
        pass
    err = capsys.readouterr().err
    assert "cannot be locked (No locks available): see to it that only one process works there" in err


def test_a_folder_that_may_not_be_written_is_told_before_anything_is_done(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    with pytest.raises(DataError, match=r"may not be written to: Permission denied @ .*run"):
        with files.folder_lock(tmp_path / "run", pytest.fail):
            pytest.fail("was let in")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"no folder can be made here: .* @ .*file"):
        with files.folder_lock(tmp_path / "file", pytest.fail):
            pytest.fail("was let in")


def test_every_stage_owns_its_run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    def look(stage, spec, registry, folder):
        seen.append(json.loads((folder / files.OWNER).read_text())["process"])

    monkeypatch.setattr("accomp.experiment.run_stage", look)
    for stage in ("ingest", "train", "generate", "evaluate", "report", "run"):
        assert main([stage, "quickstart", "--run", "run"]) == 0
    assert set(seen) == {os.getpid()}
    assert not (tmp_path / "run" / files.OWNER).exists()


def test_two_commands_work_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    inside, together = [0], []

    def work(*_):
        inside[0] += 1
        together.append(inside[0])
        time.sleep(0.2)
        inside[0] -= 1

    assert main(["check", "quickstart"]) == 0  # imports the plugins; what an import prints is taken from all threads
    monkeypatch.setattr("accomp.experiment.run_stage", work)
    threads = [threading.Thread(target=main, args=(["report", "quickstart", "--run", "run"],)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert together == [1, 1]
    assert f"process {os.getpid()} on" in capsys.readouterr().out


def test_the_other_processes_of_a_training_belong_to_the_first(tmp_path, monkeypatch):
    with run_of(spec_for(tmp_path / "run")):
        for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"):
            monkeypatch.setenv(name, "1")
            with run_of(spec_for(tmp_path / "run")) as folder:
                assert folder == tmp_path / "run"
            monkeypatch.setenv(name, "0")


# --------------------------------------------------------------------------------------------------- typos


@pytest.mark.parametrize(
    "typo",
    [
        ["train", "quickstart", "--set", 'store.path="typo.zarr"'],
        ["ingest", "quickstart", "--set", 'corpus.root="typo"'],
        ["generate", "quickstart", "--model", "pretrained", "--set", 'corpus.root="typo"'],
        ["evaluate", "quickstart", "--set", "evaluate.anchors=3"],
    ],
    ids=lambda words: words[0],
)
def test_what_cannot_start_leaves_no_run(tmp_path, monkeypatch, typo):
    monkeypatch.chdir(tmp_path)
    assert main([*typo, "--run", "runs/one"]) == 2
    assert not (tmp_path / "runs/one").exists()
    with run_of(spec_for(Path("runs/one"))) as folder:
        assert folder.is_dir()


def test_a_run_in_which_nothing_was_made_is_nobodys(tmp_path):
    """A command that was killed before it had made anything has left its spec."""
    with run_of(spec_for(tmp_path / "run", 'store.path="typo.zarr"')) as folder:
        (folder / "losses.jsonl").touch()
        (folder / "takes").mkdir()
    with run_of(spec_for(tmp_path / "run", "model.width=64")):
        assert json.loads((folder / "spec.json").read_text())["store"]["path"] != "typo.zarr"
        (folder / "checkpoints/step_000001").mkdir(parents=True)
    with pytest.raises(SpecError, match="holds the run of another spec"), run_of(spec_for(tmp_path / "run")):
        pytest.fail("was let in")


def test_a_failure_leaves_what_was_made(tmp_path):
    def fail():
        with run_of(spec_for(tmp_path / "run")) as folder:
            (folder / "takes.json").touch()
            raise DataError("no")

    with pytest.raises(DataError):
        fail()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"spec.json", "versions.json", "takes.json"}


# -------------------------------------------------------------------------------------------------- litter


def test_what_killed_processes_left_is_cleared_and_nothing_else(tmp_path):
    run = tmp_path / "run"
    left = [".spec.json.abcd1234", ".losses.jsonl.a_b_c_d_", ".report.html.12345678", "..owner.json.abcdefgh"]
    left += ["checkpoints/.step_000024.abcd1234/weights.safetensors", "takes/.song-bass-3s.0a1b2c3d/stem.wav"]
    left += ["takes/.song-bass-3s.old.0a1b2c3d/song-bass-3s/stem.wav", "cache/0a/.1b2c.npy.0a1b2c3d"]
    left += ["anchors/51/.33b5.npy.0a1b2c3d"]
    kept = [".env.template", ".git/config", "notes.txt", "takes/.hidden/x", "takes/song-bass-3s/stem.wav", ".DS_Store"]
    kept += ["cache/0a/1b2c.npy", "cache/.mine/.1b2c.npy.0a1b2c3d"]
    kept += ["checkpoints/step_000024.bak/weights.safetensors", "checkpoints/.mine.abcd1234/x"]
    for name in [*left, *kept]:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    with run_of(spec_for(run)):
        """Opened, and left."""
    there = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert there == {*kept, "spec.json", "versions.json"}
    assert (run / "takes/song-bass-3s/stem.wav").read_text() == "takes/song-bass-3s/stem.wav"


CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def killed_before(operation: int, folder: Path, work) -> bool:
    """Whether a child that does `work` was killed, which it is before that change of what lies below `folder`."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = operation

    def watch(event, arguments):
        nonlocal left
        changes = event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and str(arguments[0]).startswith(str(folder)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    work()
    os._exit(0)


def write_take(run: Path, text: str) -> None:
    with files.folder_atomic(run / "take") as work:
        for name in ("a", "b"):
            (work / name).write_text(text)


@pytest.mark.alone
def test_killed_between_any_two_changes_a_folder_is_the_old_one_or_the_new_one(tmp_path):
    for operation in range(40):
        run = tmp_path / str(operation)
        write_take(run, "old")
        killed = killed_before(operation, run, lambda run=run: write_take(run, "new"))
        files.clear_unfinished(run, ".+?")
        assert [path.name for path in run.iterdir()] == ["take"], operation
        held = {path.name: path.read_text() for path in (run / "take").iterdir()}
        assert held in ({"a": "old", "b": "old"}, {"a": "new", "b": "new"})
        if not killed:
            assert held["a"] == "new"
            assert operation >= 7
            return
    pytest.fail("it never came through")


def test_what_is_no_checkpoint_is_passed_over_and_told(tmp_path, capsys):
    run = tmp_path / "run"
    names = ["step_000024", "step_000024.bak", "step_24", "step_0000024", "step_", "step_x", "old", "step_1000000"]
    for name in names:
        (run / "checkpoints" / name).mkdir(parents=True)
    (run / "checkpoints/step_000030").touch()
    (run / "checkpoints/.step_000036.abcd1234").mkdir()
    assert checkpoint_steps(run) == [24, 1000000]
    assert {path.name for path in strays(run)} == {*names, "step_000030"} - {"step_000024", "step_1000000"}
    with run_of(spec_for(run)):
        say("in")
    err = capsys.readouterr().err
    assert err.count("no checkpoint, passed over @") == 7
    assert "step_000024.bak" in err


def test_a_long_name_has_room_for_its_temporary_neighbour(tmp_path):
    for name in ("x" * 255, "é" * 127):
        files.write_atomic(tmp_path / name, "text")
        with files.folder_atomic(tmp_path / "deep" / name) as work:
            (work / "a").touch()
        with files.folder_atomic(tmp_path / "deep" / name) as work:
            (work / "b").touch()
        assert [path.name for path in (tmp_path / "deep" / name).iterdir()] == ["b"]
