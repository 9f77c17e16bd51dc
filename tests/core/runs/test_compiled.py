"""What is compiled for a run is kept beside it, and opened only where it may be."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from accomp.core.compute.compiled_code import torch_cache
from accomp.core.runs import compiled
from accomp.core.runs.compiled import ARCHIVE, FOLDER, RECORD, collected, keep, key_file, use

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configuration and torch's cache in a folder of the test -> that cache."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))
    return tmp_path / "torch"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run beside which something is kept."""
    with collected() as cache:
        (cache / "ab").mkdir()
        (cache / "ab" / "cabc.so").write_bytes(b"machine code")
        (cache / "ab" / "cabc.so").chmod(0o755)
        (cache / "fx").write_bytes(b"a graph")
        (cache / "locks.lock").write_bytes(b"")
        keep(cache, tmp_path / "run", CPU)
    return tmp_path / "run"


def test_what_is_kept_goes_into_the_cache_of_torch(run: Path, places: Path, tmp_path: Path, capsys: Any) -> None:
    """Also from where the run was moved to; what is there already is not replaced."""
    moved = run.rename(tmp_path / "moved")
    places.mkdir()
    (places / "fx").write_bytes(b"of torch")
    assert use(moved, CPU)
    assert (places / "ab" / "cabc.so").read_bytes() == b"machine code"
    assert (places / "ab" / "cabc.so").stat().st_mode & stat.S_IXUSR
    assert (places / "fx").read_bytes() == b"of torch"
    assert not (places / "locks.lock").exists()
    assert f"compiled steps @ {moved / FOLDER}" in capsys.readouterr().out
    assert key_file().stat().st_mode & 0o077 == 0, "nobody else reads the key"


def test_torch_keeps_what_it_compiles_in_a_folder_of_its_own(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    with collected() as cache:
        assert torch_cache() == cache != places
        os.environ["TRITON_CACHE_DIR"] = "set by torch"
    assert torch_cache() == places
    assert "TRITON_CACHE_DIR" not in os.environ
    assert not cache.exists()


def test_a_run_without_is_nothing_to_tell(tmp_path: Path, capsys: Any) -> None:
    assert not use(tmp_path, CPU)
    assert capsys.readouterr() == ("", "")


def changed(**values: Any) -> Callable[[Path], None]:
    """Change values of the record."""

    def change(folder: Path) -> None:
        record = json.loads((folder / RECORD).read_text()) | values
        (folder / RECORD).write_text(json.dumps(record))

    return change


def flip(folder: Path) -> None:
    data = bytearray((folder / ARCHIVE).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / ARCHIVE).write_bytes(data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(torch="1.0"), "torch 1.0 there,"),
        (changed(device="Abacus"), "device Abacus there,"),
        (changed(code="0"), "code 0 there,"),
        (changed(format=2), "format 2 there, 1 here"),
        (changed(sha256="0" * 64), "not made by you on this machine"),
        (changed(signature="0" * 64), "not made by you on this machine"),
        (changed(signature=None), "not made by you on this machine"),
        (flip, "the archive is damaged, its hash is not the recorded one"),
        (lambda folder: (folder / ARCHIVE).unlink(), "No such file"),
        (lambda folder: (folder / RECORD).write_text("[]"), "expected a JSON object"),
        (lambda folder: key_file().unlink(), "not made by you on this machine"),
        (lambda folder: key_file().write_bytes(b"another user's"), "not made by you on this machine"),
    ],
)
def test_nothing_else_is_opened(
    run: Path, places: Path, capsys: Any, change: Callable[[Path], None], said: str
) -> None:
    change(run / FOLDER)
    assert not use(run, CPU)
    error = capsys.readouterr().err
    assert "the compiled steps beside the run are not used: " in error
    assert said in error
    assert error.count("\n") == 1, "one line"
    assert not places.exists()


def test_no_file_of_an_archive_leaves_the_cache(places: Path) -> None:
    """Not even of one that is signed."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        entry = tarfile.TarInfo("../outside")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(tarfile.OutsideDestinationError):
        compiled._open(whole.getvalue(), places)


def test_an_earlier_one_is_replaced(run: Path, places: Path) -> None:
    with collected() as cache:
        (cache / "new").write_bytes(b"of today")
        keep(cache, run, CPU)
    assert use(run, CPU)
    assert [path.name for path in places.iterdir()] == ["new"]
