"""Stores in an object store: the same bytes as in a folder, whole tracks only however a writer dies, one writer."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from test_store import IDENTITY, INGEST, record, tokens, write

from accomp.zarr_store import bucket
from accomp.zarr_store.layout import SkipRecord, StoreError
from accomp.zarr_store.places import ObjectPath
from accomp.zarr_store.reader import Store
from accomp.zarr_store.verify import remove, verify
from accomp.zarr_store.writer import StoreWriter

SONGS = {"a": 1500, "b/c": 20, "ü": 300}


@pytest.fixture
def url(request):
    """An empty place in fsspec's memory file system."""
    from fsspec.implementations.memory import MemoryFileSystem

    place = f"memory://{request.node.name.replace('[', '-').strip(']')}"
    yield place
    if MemoryFileSystem().exists(place):
        MemoryFileSystem().rm(place, recursive=True)


@pytest.fixture(params=["memory", "s3"])
def any_url(request, monkeypatch):
    """The same in memory, and on an S3 server of this machine where moto and s3fs are installed."""
    if request.param == "memory":
        yield request.getfixturevalue("url")
        return
    pytest.importorskip("s3fs", reason="the extra test is not installed")
    server = pytest.importorskip("moto.server", reason="the extra test is not installed")
    import s3fs

    serving = server.ThreadedMotoServer(port=0, verbose=False)
    serving.start()
    host, port = serving.get_host_and_port()
    settings = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    for name, value in (settings | {"AWS_DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("accomp-tests")
    yield "s3://accomp-tests/some/store"
    s3fs.S3FileSystem.clear_instance_cache()
    serving.stop()


def objects(url: str) -> dict[str, bytes]:
    root = ObjectPath.at(url)
    return {place.path.removeprefix(f"{root.path}/"): place.read_bytes() for place in root.below()}


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_is_read_and_is_what_a_folder_holds(any_url, tmp_path):
    write(any_url, SONGS)
    write(tmp_path / "s", SONGS)
    assert objects(any_url) == files(tmp_path / "s")
    store = Store(any_url, IDENTITY)
    rng = np.random.default_rng(0)
    assert [track.record for track in store.tracks("train")] == [record(name, SONGS[name]) for name in sorted(SONGS)]
    for track in store.tracks("train"):
        codes, levels = tokens(track.record.frames, list(SONGS).index(track.record.id))
        np.testing.assert_array_equal(track.levels(), levels.astype(np.float16))
        for part in range(3):
            start, stop = sorted(rng.integers(0, track.record.frames + 1, 2))
            np.testing.assert_array_equal(track.codes(part, start, stop), codes[part, start:stop])
    with StoreWriter(any_url, IDENTITY, INGEST) as writer:
        writer.add(record("a", 50), *tokens(50, 9))
        writer.skip(SkipRecord("ü", "train", "broken"))
        with pytest.raises(StoreError, match="another process is writing"):
            StoreWriter(any_url, IDENTITY, INGEST)
    assert [(r.id, r.frames) for r in Store(any_url).records()] == [("a", 50), ("b/c", 20)]
    assert [r.id for r in Store(any_url).skipped()] == ["ü"]
    shard = ObjectPath.at(any_url).joinpath("tracks", "train", "a", "codes", "c", "0", "0", "0")
    shard.write_bytes(shard.read_bytes()[:-1])
    (bad,) = [track for track in verify(Store(any_url)) if track.problems]
    assert (bad.id, bad.by_checksum) == ("a", True)
    remove(Store(any_url), [bad])
    assert [r.id for r in Store(any_url).records()] == ["b/c"]
    assert not any("train/a/" in name for name in objects(any_url))


def test_a_copy_on_the_disk_can_stand_between(url):
    write(url, SONGS)
    (track, *_) = Store(f"simplecache::{url}").tracks("train")
    np.testing.assert_array_equal(track.codes(1, 1000, 1200), tokens(1500, 0)[0][1, 1000:1200])


class Dead(BaseException):
    """Nothing is done any more by the process that raises it."""


def test_a_writer_that_dies_anywhere_leaves_whole_tracks_only(url, tmp_path, monkeypatch):
    """Killed 25 times before a random change of the store, from where on it can change nothing, not even the lock."""
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(bucket, "LEASE", 0.05)
    monkeypatch.setattr(bucket._Lock, "_keep", lambda lock: None)
    write(tmp_path / "s", SONGS)
    left = [0]

    def dying(change):
        def changed(filesystem, *arguments, **settings):
            left[0] -= 1
            if left[0] < 0:
                raise Dead
            return change(filesystem, *arguments, **settings)

        return changed

    for name in ("pipe_file", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, name, dying(getattr(MemoryFileSystem, name)))
    rng, killed = random.Random(2), 0
    while killed < 25:
        left[0] = rng.randrange(20)
        try:
            with StoreWriter(url, IDENTITY, INGEST, on_wait=lambda: None) as writer:
                for seed, (name, frames) in enumerate(SONGS.items()):
                    if rng.random() < 0.3 or ("train", name) not in writer.records:
                        writer.add(record(name, frames), *tokens(frames, seed))
        except Dead:
            killed += 1
        if ObjectPath.at(url).joinpath("zarr.json").exists():
            for track in Store(url).tracks("train"):
                expected = tokens(track.record.frames, list(SONGS).index(track.record.id))[0]
                np.testing.assert_array_equal([track.codes(part) for part in range(3)], expected)
    left[0] = 10**6
    with StoreWriter(url, IDENTITY, INGEST, on_wait=lambda: None) as writer:
        for seed, (name, frames) in enumerate(SONGS.items()):
            writer.add(record(name, frames), *tokens(frames, seed))
    assert objects(url) == files(tmp_path / "s")


def test_a_second_writer_waits_for_the_first(url, monkeypatch):
    monkeypatch.setattr(bucket, "LEASE", 0.4)
    told, seen = threading.Event(), []

    def second():
        with StoreWriter(url, IDENTITY, INGEST, on_wait=told.set) as writer:
            seen.extend(writer.records)

    with StoreWriter(url, IDENTITY, INGEST) as first:
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(60)
        time.sleep(1.2)  # three leases: the first one lives
        first.add(record("a", 10), *tokens(10))
    thread.join(60)
    assert seen == [("train", "a")]
    assert ".writer" not in objects(url)


def test_who_has_lost_the_lock_writes_no_more(url, monkeypatch):
    monkeypatch.setattr(bucket, "LEASE", 0.2)
    with StoreWriter(url, IDENTITY, INGEST) as writer:
        ObjectPath.at(url).joinpath(".writer").write_bytes(b"another one")
        time.sleep(0.5)
        with pytest.raises(StoreError, match="lost its hold of the store"):
            writer.add(record("a", 10), *tokens(10))
    assert objects(url)[".writer"] == b"another one"


def test_places_that_cannot_be_used_are_told(url, tmp_path):
    with pytest.raises(StoreError, match=f"no such token store.*{url}"):
        Store(url)
    with pytest.raises(StoreError, match="nonsense"):
        Store("nonsense://somewhere")
    ObjectPath.at(f"{url}/letter").write_bytes(b"dear")
    with pytest.raises(StoreError, match="without a token store"):
        Store(url)
    with pytest.raises(StoreError, match="letter"):
        StoreWriter(url, IDENTITY, INGEST)
    assert objects(url) == {"letter": b"dear"}


def test_a_missing_library_is_named(monkeypatch):
    import fsspec.core

    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(StoreError, match=r"Install s3fs.*accomp\[cloud\].*s3://bucket/x"):
        Store("s3://bucket/x")


def test_what_a_library_raises_names_the_place(url, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def refused(*_, **__):
        raise RuntimeError("no credentials")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", refused)
    with pytest.raises(StoreError, match=f"RuntimeError: no credentials @ {url}"):
        Store(url)
