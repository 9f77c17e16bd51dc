"""Ingest by workers: the same bytes as without them, whoever dies."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import attrs
import pytest
from fakes import tone, write_corpus, write_track
from ingest_workers import contents, counting_encoder, energy_encoder, ingest, mortal_encoder

from accomp.core.errors import DataError, UserError, WorkError
from accomp.core.spec.runner import RunnerSpec
from accomp.zarr_store.reader import Store

TWO = RunnerSpec(workers=2, cpus=1)


@pytest.fixture
def corpus(tmp_path) -> Path:
    """Six songs, one of them too short."""
    root = write_corpus(tmp_path / "c", {"train": 3, "test": 2}, stems=3, seconds=1.1)
    write_track(root / "train/t9", {"a-0": tone(0.2, 0), "b-0": tone(0.2, 1)})
    return root


def test_workers_give_the_same_bytes_and_build_their_encoder_once(corpus, tmp_path):
    (tmp_path / "built").mkdir()
    by_workers = ingest(corpus, tmp_path / "s", TWO, partial(counting_encoder, str(tmp_path / "built")))
    alone = ingest(corpus, tmp_path / "alone")
    assert contents(tmp_path / "s") == contents(tmp_path / "alone")
    assert attrs.evolve(by_workers, store=alone.store) == alone
    assert [skip.track for skip in by_workers.skipped] == ["t9"]
    built = [path.name.partition("-")[0] for path in (tmp_path / "built").iterdir()]
    assert 1 <= len(built) == len(set(built)) <= 2
    assert str(os.getpid()) not in built


def test_a_song_that_kills_its_worker_is_named_and_the_others_are_stored(corpus, tmp_path, capfd):
    write_track(corpus / "train/t1", {"s0-0": tone(2.0, 0), "s1-4": tone(2.0, 1), "s2-8": tone(2.0, 2)})
    with pytest.raises(WorkError, match=r"train/t1: its process was killed by SIGKILL.*\n1 songs failed.*goes on"):
        ingest(corpus, tmp_path / "s", TWO, mortal_encoder)
    assert "train/t1: its process was killed" in capfd.readouterr().err, "and it was tried again"
    store = Store(tmp_path / "s")
    assert not store.finished
    assert sorted((record.split, record.id) for record in store.records()) == [
        ("test", "t0"), ("test", "t1"), ("train", "t0"), ("train", "t2"),
    ]  # fmt: skip
    assert ingest(corpus, tmp_path / "s").added == 1
    ingest(corpus, tmp_path / "alone")
    assert contents(tmp_path / "s") == contents(tmp_path / "alone")


def test_an_ingest_whose_runner_is_killed_goes_on(corpus, tmp_path):
    program = str(Path(__file__).parents[1] / "killed_ingest.py")
    words = [sys.executable, program, str(corpus), str(tmp_path / "s"), "3", "1", "2"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 1, "so many runners were killed"
    ingest(corpus, tmp_path / "alone")
    assert contents(tmp_path / "s") == contents(tmp_path / "alone")


def test_a_worker_with_another_tokenizer_is_refused(corpus, tmp_path):
    with pytest.raises(DataError, match="fingerprint other here, the ingest was begun with loud"):
        ingest(corpus, tmp_path / "s", TWO, partial(energy_encoder, "other"))
    assert Store(tmp_path / "s").records() == []


def test_an_engine_that_is_missing_is_told_before_anything_is_written(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"accomp\[ray\]"):
        ingest(corpus, tmp_path / "s", RunnerSpec(engine="ray"))
    assert not (tmp_path / "s").exists()
