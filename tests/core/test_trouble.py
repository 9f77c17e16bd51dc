"""The machine's trouble is no result: every stage stops with 1 and the same words, and the same command goes on."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import tiny
import torch
from fakes import tone
from faults import before_change, refuse

from accomp.core import trouble
from accomp.core.audio import io as audio
from accomp.core.cli.main import main
from accomp.core.errors import CheckpointError, DataError, EmptyClip, WorkError
from accomp.core.report.page import toml
from accomp.core.runs.checkpoint import latest_checkpoint
from accomp.core.trouble import named, raise_trouble, trouble_in, words

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO, errno.EROFS, errno.EXDEV)
STAGES = ("ingest", "train", "generate", "evaluate", "report")


# -------------------------------------------------------------------------------------------- which errors they are


def made_of(error: Exception, kind: type[Exception]) -> Exception:
    """An error that was made of another one, twice."""
    try:
        try:
            raise error
        except Exception as first:
            raise ValueError("in between") from first
    except Exception:
        try:
            raise kind("at last")
        except Exception as last:
            return last


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
def test_each_is_known_whatever_was_made_of_it(number: int) -> None:
    error = OSError(number, os.strerror(number), "/here/x")
    for told in (error, made_of(error, RuntimeError), made_of(error, WorkError)):
        found = trouble_in(told)
        assert found is error
        with pytest.raises(OSError, match=os.strerror(number)):
            raise_trouble(told)
        assert f"{os.strerror(number)} @ /here/x" in words(found)
        assert "what is done is kept; " in words(found)
        assert words(found).endswith("run the same command again to go on")


def test_what_is_no_trouble_of_the_machine() -> None:
    for error in (
        FileNotFoundError(errno.ENOENT, "No such file"),
        ValueError("x"),
        DataError("x"),
        made_of(FileExistsError(errno.EEXIST, "File exists"), DataError),
        made_of(PermissionError(errno.EACCES, "Permission denied"), DataError),
        made_of(EmptyClip("silent"), ValueError),
        KeyError("os error 28"),
    ):
        assert trouble_in(error) is None
        raise_trouble(error)


def test_memory_and_what_rust_says() -> None:
    for error in (
        MemoryError("too big"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ):
        found = trouble_in(error)
        assert isinstance(found, MemoryError)
        assert words(found).startswith("out of memory: ")
        assert "train.batch" in words(found)
    found = trouble_in(RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert isinstance(found, OSError)
    assert found.errno == errno.ENOSPC


def test_a_full_disk_tells_how_much_room_there_is(tmp_path: Path) -> None:
    told = words(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "deep/file")))
    free = shutil.disk_usage(tmp_path).free / 1e6
    assert abs(float(told.partition("(")[2].partition(" MB free")[0]) - free) < 1000


def test_errors_get_the_name_of_what_was_written(tmp_path: Path) -> None:
    def write(path: str | None) -> None:
        with named(tmp_path / "take", tmp_path / ".take.x"):
            raise OSError(28, "No space left on device", path)

    for path, name in ((None, "take"), (str(tmp_path / ".take.x/stem.wav"), "take"), ("/else", None)):
        with pytest.raises(OSError, match="No space") as caught:
            write(path)
        assert caught.value.filename == (str(tmp_path / name) if name else "/else")


@pytest.mark.parametrize("what", ["checkpoint", "wav"])
def test_a_file_that_stops_growing_anywhere_is_told_alike(tmp_path: Path, what: str, trained: tiny.Trained) -> None:
    """A limit of the system on the size of files, so that writes fail in libraries below Python, too."""
    from accomp.core.runs import checkpoint as module
    from accomp.core.runs.checkpoint import load_run, save_checkpoint

    loaded = load_run(trained.run, trained.registry)
    state = {"optimizer": torch.zeros(30_000)}
    rng = random.Random(0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for _ in range(6):
        limit = rng.randrange(10, 100_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(Exception, match=r"(?s).") as caught:  # noqa: PT012
                if what == "wav":
                    audio.write(tmp_path / "a.wav", tone(4.0, 0), 32000)
                else:
                    save_checkpoint(tmp_path, 1, loaded.model, trained.plain(), loaded.tokenizer, state)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        found = trouble_in(caught.value)
        assert isinstance(found, OSError), caught.value
        assert found.errno == errno.EFBIG
        assert str(tmp_path) in words(found)
    assert what == "wav" or list((tmp_path / "checkpoints").iterdir()) == []
    assert module.FORMAT == 1


# ------------------------------------------------------------------------------------------------------- the stages


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stage -> a folder in which it comes next; "done": one in which all are done."""
    folder = tmp_path_factory.mktemp("states")
    tiny.corpus(folder / "corpus")
    data = tiny.plain(Path("../corpus"), Path("run"), Path("store.zarr"))
    train = {**data["train"], "steps": 6, "validate_every": 3, "checkpoint_every": 2, "log_every": 2}  # type: ignore[dict-item]
    now = folder / "first"
    now.mkdir()
    (now / "tiny.toml").write_text(toml({**data, "train": train, "generate": {"takes": 2, "seconds": 1.0}}))
    found = {}
    for stage in STAGES:
        found[stage] = folder / stage
        shutil.copytree(now, found[stage])
        run_in(now, stage)
    return {**found, "done": now}


def run_in(folder: Path, stage: str, expected: int = 0) -> None:
    before = Path.cwd()
    os.chdir(folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("accomp.core.cli.main.Registry", tiny.registry)
            assert main([stage, "tiny.toml"]) == expected
    finally:
        os.chdir(before)


def results(folder: Path) -> dict[str, Any]:
    """What the stages have made, without times."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".wav", ".npy") or ("store.zarr" in name and path.is_file() and path.name != "zarr.json"):
            found[name] = path.read_bytes()
    checkpoint = latest_checkpoint(folder / "run")
    if checkpoint is not None:
        found["weights"] = {
            name: weight.tolist()
            for name, weight in safetensors.torch.load_file(checkpoint.folder / "weights.safetensors").items()
        }
    for name in ("losses.jsonl", "metrics.json"):
        if (folder / "run" / name).is_file():
            records = [json.loads(line) for line in (folder / "run" / name).read_text().splitlines() if name[0] == "l"]
            found[name] = [{key: one.get(key) for key in ("kind", "step", "loss")} for one in records]
    if (folder / "run/metrics.json").is_file():
        cells = json.loads((folder / "run/metrics.json").read_text())["cells"]
        found["metrics"] = {name: cell["metrics"] for name, cell in cells.items()}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_at_any_write_stops_with_1_and_the_same_command_goes_on(
    states: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    after = states[STAGES[STAGES.index(stage) + 1]] if stage != "report" else states["done"]
    shutil.copytree(states[stage], tmp_path / "count")
    (tmp_path / "corpus").symlink_to(states["done"].parent / "corpus")
    with before_change(tmp_path / "count", -1, pytest.fail) as counter:
        run_in(tmp_path / "count", stage)
    rng = random.Random(STAGES.index(stage))
    for turn in range(2):
        number, at = rng.choice(ERRORS), rng.randrange(5, counter.count)
        folder = tmp_path / f"{turn}"
        shutil.copytree(states[stage], folder)
        capsys.readouterr()
        with before_change(folder, at, refuse(number), for_good=True):
            run_in(folder, stage, 1)
        err = capsys.readouterr().err
        assert f"{os.strerror(number)} @ " in err, (number, at)
        assert "what is done is kept; " in err
        assert "unexpected" not in err
        run_in(folder, stage)
        assert results(folder) == results(after)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO, "memory"])
def test_no_clip_fails_for_the_machines_trouble(
    states: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, number: int | str
) -> None:
    (tmp_path / "corpus").symlink_to(states["done"].parent / "corpus")
    shutil.copytree(states["evaluate"], tmp_path / "now")
    update, seen = tiny.Envelopes.update, []

    def refused(self: tiny.Envelopes, take: Any) -> None:
        seen.append(take.id)
        if len(seen) > 3:
            try:
                raise MemoryError("too big") if number == "memory" else OSError(number, os.strerror(int(number)))
            except Exception as error:
                raise ValueError("cannot compute") from error
        update(self, take)

    with monkeypatch.context() as patch:
        patch.setattr(tiny.Envelopes, "update", refused)
        run_in(tmp_path / "now", "evaluate", 1)
    assert "what is done is kept" in capsys.readouterr().err
    assert not (tmp_path / "now/run/metrics.json").exists()
    run_in(tmp_path / "now", "evaluate")
    assert results(tmp_path / "now") == results(states["report"])


def test_a_stem_that_cannot_be_read_for_the_machines_trouble_stops_ingest_and_generate(
    states: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corpus").symlink_to(states["done"].parent / "corpus")
    opened = Path.open

    def fails(self: Path, *arguments: Any, **named: Any) -> Any:
        if "test" in self.parts and self.suffix == ".flac":
            raise OSError(errno.EIO, "Input/output error", str(self))
        return opened(self, *arguments, **named)

    for stage in ("ingest", "generate"):
        shutil.copytree(states[stage], tmp_path / stage)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", fails)
            if stage == "generate":
                broken = audio.soundfile.LibsndfileError(2)
                patch.setattr(audio.soundfile, "SoundFile", lambda *_: (_ for _ in ()).throw(broken))  # noqa: B023
            run_in(tmp_path / stage, stage, 1)
        assert "the disk fails: Input/output error @ " in capsys.readouterr().err
        run_in(tmp_path / stage, stage)
        assert results(tmp_path / stage) == results(states[STAGES[STAGES.index(stage) + 1]])


def test_weights_of_nan_are_refused(trained: tiny.Trained, tmp_path: Path) -> None:
    from accomp.core.files import hash_file
    from accomp.core.runs.checkpoint import load_run

    made = trained.copy(tmp_path / "run")
    checkpoint = latest_checkpoint(made.run)
    assert checkpoint is not None
    path = checkpoint.folder / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    for value in (float("nan"), float("inf")):
        name = sorted(weights)[0]
        spoilt = {**weights, name: weights[name].clone()}
        spoilt[name].view(-1)[0] = value
        safetensors.torch.save_file(spoilt, path)
        card = json.loads((checkpoint.folder / "checkpoint.json").read_text())
        card["files"][path.name]["sha256"] = hash_file(path)
        (checkpoint.folder / "checkpoint.json").write_text(json.dumps(card))
        with pytest.raises(CheckpointError, match=f"weights hold NaN or Inf: {name}; remove the checkpoint"):
            load_run(made.run, made.registry)
    assert np.isfinite(1.0)
    assert trouble.fault(MemoryError("x")) == "out of memory: x"
