"""The cache of dear things: computed once, for memory and for every process that shares a folder; never mixed up."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from accomp.core.evaluation.cache import Cache

SOUND = np.arange(100, dtype=np.float32)


class Calls:
    """Counts how often it is asked."""

    def __init__(self, answer: np.ndarray | None = None):
        self.asked = 0
        self._answer = answer

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        self.asked += 1
        return audio * 2 if self._answer is None else self._answer


@pytest.fixture(params=[False, True], ids=["memory", "folder"])
def folder(request, tmp_path) -> Path | None:
    return tmp_path / "cache" if request.param else None


def test_the_same_question_is_asked_once(folder):
    cache, calls = Cache(folder), Calls()
    first = cache.array("double", SOUND, calls)
    again = cache.array("double", SOUND.copy(), calls)
    np.testing.assert_array_equal(first, SOUND * 2)
    np.testing.assert_array_equal(again, first)
    assert calls.asked == 1


@pytest.mark.parametrize(
    ("what", "sound"),
    [("double 2", SOUND), ("double", SOUND + 1e-3), ("double", SOUND[:-1]), ("double", np.r_[0.0, SOUND])],
    ids=["another version", "another sample", "shorter", "longer"],
)
def test_another_question_is_another(folder, what, sound):
    cache, calls = Cache(folder), Calls()
    cache.array("double", SOUND, calls)
    np.testing.assert_array_equal(cache.array(what, sound, calls), np.float32(sound) * 2)
    assert calls.asked == 2


def test_another_run_finds_what_one_left(tmp_path):
    first, later = Calls(), Calls()
    answer = Cache(tmp_path).array("x", SOUND, first)
    np.testing.assert_array_equal(Cache(tmp_path).array("x", SOUND, later), answer)
    assert (first.asked, later.asked) == (1, 0)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (4, 2)])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_shapes_and_types_survive_the_disk(tmp_path, shape, dtype):
    answer = np.ones(shape, dtype)
    Cache(tmp_path).array("x", SOUND, Calls(answer))
    read = Cache(tmp_path).array("x", SOUND, Calls())
    assert (read.shape, read.dtype) == (shape, np.dtype(dtype))


def test_nobody_can_change_what_others_will_read(folder):
    mine = np.ones(3)
    cache = Cache(folder)
    answer = cache.array("x", SOUND, Calls(mine))
    with pytest.raises(ValueError, match="read-only"):
        answer[0] = 5.0
    mine[0] = 7.0
    assert cache.array("x", SOUND, Calls())[0] == 1.0


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None], ids=["empty", "a beginning", "its end is missing"])
def test_a_damaged_file_is_made_anew(tmp_path, damage):
    answer = Cache(tmp_path).array("x", SOUND, Calls())
    (path,) = tmp_path.rglob("*.npy")
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] if damage is None else damage)
    np.testing.assert_array_equal(Cache(tmp_path).array("x", SOUND, Calls()), answer)
    assert path.read_bytes() == whole


def test_objects_are_refused(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        Cache(tmp_path).array("x", SOUND, Calls(np.array([None])))


def _fill(folder: Path) -> float:
    cache = Cache(folder)
    return sum(float(cache.array("x", SOUND + i % 10, Calls()).sum()) for i in range(60))


@pytest.mark.alone
def test_many_processes_share_a_folder(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        sums = pool.map(_fill, [tmp_path] * 4)
    assert len(set(sums)) == 1
    assert len(list(tmp_path.rglob("*.npy"))) == 10
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".npy"] == []
