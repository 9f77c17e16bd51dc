"""Files and folders appear whole or not at all."""

import os
from pathlib import Path

import pytest

from accomp.core import files


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "a.json"
    files.write_atomic(path, "first")
    files.write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert names(path.parent) == {"a.json"}
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "a.json"
    files.write_atomic(path, "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(path, "new" * 1000)
    assert path.read_text() == "old"
    assert names(tmp_path) == {"a.json"}


def test_a_file_is_not_there_until_it_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_atomic(path, "old")
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (seen.append(path.read_text()), fsync(handle)))
    files.write_atomic(path, "new")
    assert seen == ["old"]
    assert path.read_text() == "new"


def test_a_folder_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "deep" / "step_10"
    with files.folder_atomic(path) as work:
        (work / "weights").write_text("1")
        assert not path.exists()
        assert work.parent == path.parent, "the last step is a rename within one file system"
    assert (path / "weights").read_text() == "1"
    assert names(path.parent) == {"step_10"}


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "take"
    for text in ("a", "b"):
        with files.folder_atomic(path) as work:
            (work / text).write_text(text)
    assert names(path) == {"b"}
    assert names(tmp_path) == {"take"}


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "take"
    with files.folder_atomic(path) as work:
        (work / "a").write_text("a")
    with pytest.raises(KeyboardInterrupt), files.folder_atomic(path) as work:  # noqa: PT012
        (work / "b").write_text("b")
        raise KeyboardInterrupt
    assert names(path) == {"a"}
    assert names(tmp_path) == {"take"}


def test_hash_is_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert files.hash_file(tmp_path / "a") == expected


def test_a_folder_that_another_was_first_to_make_stays(tmp_path):
    path = tmp_path / "node"
    with files.folder_atomic(path, replace=False) as work:
        (work / "who").write_text("late")
        with files.folder_atomic(path, replace=False) as other:
            (other / "who").write_text("first")
    assert (path / "who").read_text() == "first"
    assert names(tmp_path) == {"node"}


def test_a_folder_that_cannot_take_its_name_is_told(tmp_path):
    path = tmp_path / "node"
    with pytest.raises(NotADirectoryError), files.folder_atomic(path, replace=False):
        path.write_text("a file")
    assert names(tmp_path) == {"node"}
