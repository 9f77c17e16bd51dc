"""The token store: what is written is read, whole or not at all, and only by those who expect these tokens."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from accomp.zarr_store.layout import (
    FRAMES,
    Identity,
    Pair,
    Part,
    SkipRecord,
    StemFile,
    StoreError,
    TrackRecord,
    key,
)
from accomp.zarr_store.reader import Store
from accomp.zarr_store.writer import StoreWriter

IDENTITY = Identity({"sample_rate": 32000, "hop": 640, "codebooks": 4, "codebook_size": 1024}, "dac", "abc123")
INGEST = {"submixes": 2, "seed": 0}


def record(track: str, frames: int, split: str = "train") -> TrackRecord:
    return TrackRecord(
        id=track,
        split=split,
        source="somewhere",
        licence="CC0",
        samples=frames * 640,
        frames=frames,
        bandwidth=8000.0,
        parts=(Part("stem", ("bass",), 4), Part("stem", ("keys",), 0), Part("mix", ("bass", "keys"))),
        pairs=(Pair(0, 1, 0), Pair(1, 0, 0)),
        files=(
            StemFile("bass", 44100, 7, "aa"),
            StemFile("keys", 44100, 7, "bb", 12),
            StemFile("x", 0, -1, "", 0, "no"),
        ),
    )


def tokens(frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 1024, (3, frames, 4)), rng.uniform(-100, 0, (2, frames)).astype(np.float32)


def write(path: Path, names: dict[str, int]) -> None:
    with StoreWriter(path, IDENTITY, INGEST) as writer:
        for seed, (name, frames) in enumerate(names.items()):
            writer.add(record(name, frames), *tokens(frames, seed))


@pytest.mark.parametrize("frames", [1, 7, FRAMES - 1, FRAMES, FRAMES + 1, 2 * FRAMES + 300])
def test_what_is_written_is_read(tmp_path, frames):
    codes, levels = tokens(frames)
    codes[1, : frames // 2] = 0
    with StoreWriter(tmp_path / "s", IDENTITY, INGEST) as writer:
        writer.add(record("song", frames), codes, levels)
    (track,) = Store(tmp_path / "s", IDENTITY).tracks("train")
    assert track.record == record("song", frames)
    np.testing.assert_array_equal(track.levels(), levels.astype(np.float16))
    rng = np.random.default_rng(1)
    for part in range(3):
        np.testing.assert_array_equal(track.codes(part), codes[part])
        for _ in range(20):
            start, stop = sorted(rng.integers(0, frames + 1, 2))
            np.testing.assert_array_equal(track.codes(part, start, stop), codes[part, start:stop])


def test_zeros_and_nothing_are_read_too(tmp_path):
    with StoreWriter(tmp_path / "s", IDENTITY, INGEST) as writer:
        writer.add(record("song", 1500), np.zeros((3, 1500, 4), int), np.full((2, 1500), -100.0))
    (track,) = Store(tmp_path / "s").tracks("train")
    assert not track.codes(2, 1000, 1400).any()
    assert track.codes(0, 20, 20).shape == (0, 4)
    for part, start, stop in ((0, 0, 1501), (0, -1, 5), (3, 0, 1), (-1, 0, 1), (0, 9, 8)):
        with pytest.raises(IndexError):
            track.codes(part, start, stop)


def test_any_zarr_library_reads_it(tmp_path):
    write(tmp_path / "s", {"a": 1500, "b": 20})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(tmp_path / "s", mode="r", zarr_format=3)
        names = {name for name, _ in group["tracks/train"].members()}
        array = group["tracks/train/a/codes"]
        level = group["tracks/train/a/level"]
    assert names == {"a", "b"}
    assert group.attrs["identity"]["fingerprint"] == "abc123"
    assert group["tracks/train/a"].attrs["licence"] == "CC0"
    np.testing.assert_array_equal(array[:], tokens(1500, 0)[0])
    np.testing.assert_array_equal(level[:], tokens(1500, 0)[1].astype(np.float16))
    assert array.dtype == np.uint16
    assert array.shards is not None
    assert array.chunks == (1, FRAMES, 4)
    assert "blosc" in json.dumps([codec.to_dict() for codec in array.metadata.codecs])


def test_each_track_has_its_own_files(tmp_path):
    write(tmp_path / "s", {"a": 10, "b": 10})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s/tracks/train/a").rglob("*")}
    write(tmp_path / "s", {"c": 10})
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "s/tracks/train/a").rglob("*")}
    assert sum(path.is_file() for path in (tmp_path / "s/tracks/train/c/codes").rglob("*")) == 2  # metadata, one shard


def test_tokens_of_another_codec_are_refused(tmp_path):
    write(tmp_path / "s", {"a": 10})
    others = (
        replace(IDENTITY, fingerprint="def"),
        replace(IDENTITY, tokenizer="magnitude"),
        replace(IDENTITY, space={**IDENTITY.space, "hop": 320}),
    )
    for other in others:
        for attempt in (lambda: Store(tmp_path / "s", other), lambda: StoreWriter(tmp_path / "s", other, INGEST)):  # noqa: B023
            with pytest.raises(StoreError) as caught:
                attempt()
            assert str(IDENTITY) in str(caught.value)
            assert str(other) in str(caught.value)
            assert "another store path" in str(caught.value)
    assert len(Store(tmp_path / "s", IDENTITY).tracks("train")) == 1


def test_other_settings_are_refused(tmp_path):
    write(tmp_path / "s", {"a": 10})
    with pytest.raises(StoreError, match=r"submixes = 2, seed = 0.*submixes = 3, seed = 0.*another store path"):
        StoreWriter(tmp_path / "s", IDENTITY, {"submixes": 3, "seed": 0})


def test_what_is_no_store_is_refused_and_left_alone(tmp_path):
    with pytest.raises(StoreError, match="no such token store"):
        Store(tmp_path / "nowhere")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/dear.txt").write_text("keep me")
    with pytest.raises(StoreError, match="without a token store"):
        Store(tmp_path / "letters")
    with pytest.raises(StoreError, match=r"dear\.txt"):
        StoreWriter(tmp_path / "letters", IDENTITY, INGEST)
    zarr.create_group(tmp_path / "foreign")
    for attempt in (lambda: Store(tmp_path / "foreign"), lambda: StoreWriter(tmp_path / "foreign", IDENTITY, INGEST)):
        with pytest.raises(StoreError, match="not a token store"):
            attempt()
    write(tmp_path / "s", {"a": 10})
    root = tmp_path / "s/zarr.json"
    root.write_text(root.read_text().replace('"version": 4', '"version": 6'))
    with pytest.raises(StoreError, match=r"format version 6, this version of accomp reads 1, 2, 3, 4 and 5"):
        Store(tmp_path / "s")
    root.write_text("{")
    with pytest.raises(StoreError, match="broken metadata"):
        Store(tmp_path / "s")
    assert (tmp_path / "letters/dear.txt").read_text() == "keep me"


def test_a_broken_shard_is_named(tmp_path):
    write(tmp_path / "s", {"a": 1500})
    shard = tmp_path / "s/tracks/train/a/codes/c/0/0/0"
    whole = shard.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", whole[:8] + b"\xff" * 64 + whole[72:]):
        shard.write_bytes(broken)
        (track,) = Store(tmp_path / "s").tracks("train")
        with pytest.raises(StoreError, match=r"ingest again.*tracks/train/a"):
            track.codes(0)
    shard.unlink()
    with pytest.raises(StoreError, match="gone"):
        Store(tmp_path / "s").tracks("train")[0].codes(0)


def test_a_track_can_be_replaced(tmp_path):
    write(tmp_path / "s", {"a": 100, "b": 100})
    with StoreWriter(tmp_path / "s", IDENTITY, INGEST) as writer:
        writer.add(record("a", 50), *tokens(50, 9))
        assert {name for _, name in writer.records} == {"a", "b"}
    first, second = Store(tmp_path / "s").tracks("train")
    assert (first.record.frames, second.record.frames) == (50, 100)
    np.testing.assert_array_equal(first.codes(2), tokens(50, 9)[0][2])


def test_skipped_tracks_are_remembered_until_they_succeed(tmp_path):
    with StoreWriter(tmp_path / "s", IDENTITY, INGEST) as writer:
        writer.add(record("b", 10), *tokens(10))
        writer.skip(SkipRecord("a", "train", "too short"))
        writer.skip(SkipRecord("b", "train", "now it is broken"))
    assert [(r.id, r.reason) for r in Store(tmp_path / "s").skipped()] == [
        ("a", "too short"),
        ("b", "now it is broken"),
    ]
    assert Store(tmp_path / "s").tracks("train") == []
    with StoreWriter(tmp_path / "s", IDENTITY, INGEST) as writer:
        assert writer.skipped == {("train", "a"): "too short", ("train", "b"): "now it is broken"}
        writer.add(record("a", 10), *tokens(10))
        assert set(writer.skipped) == {("train", "b")}
    assert [r.id for r in Store(tmp_path / "s").skipped()] == ["b"]
    assert Store(tmp_path / "s").splits == ("train",)


def test_arrays_that_do_not_fit_are_refused_and_nothing_stays(tmp_path):
    codes, levels = tokens(10)
    with StoreWriter(tmp_path / "s", IDENTITY, INGEST) as writer:
        for bad_codes, bad_levels in (
            (codes[:2], levels),
            (codes[:, :9], levels),
            (codes, levels[:1]),
            (codes + 1024, levels),
            (codes - 1024, levels),
        ):
            with pytest.raises(ValueError, match="codes"):
                writer.add(record("a", 10), bad_codes, bad_levels)
    assert Store(tmp_path / "s").tracks("train") == []
    assert not list((tmp_path / "s").rglob("*.partial"))


@pytest.mark.parametrize(
    "track", ["plain", "A/B", "..", ".hidden", "__x", "Ünïcode ♫", "%2E", "a~b", "x" * 300, " lead", "CON:"]
)
def test_any_id_can_be_stored(tmp_path, track):
    write(tmp_path / "s", {track: 5, "other": 5})
    assert track in [song.record.id for song in Store(tmp_path / "s").tracks("train")]
    assert not set(key(track)) & set("/\\:*?<>|")
    assert {path.name for path in tmp_path.iterdir()} == {"s"}


def test_different_ids_have_different_keys():
    ids = ["a/b", "a%2Fb", "a%252Fb", ".a", "%2Ea", "__a", "%5F_a", "x" * 300, "x" * 301, key("x" * 300), "a b", "a_b"]
    assert len({key(name) for name in ids}) == len(ids)
    with pytest.raises(StoreError, match="empty"):
        key("")


def test_one_writer_at_a_time(tmp_path):
    with StoreWriter(tmp_path / "s", IDENTITY, INGEST) as first:
        with pytest.raises(StoreError, match="another process is writing"):
            StoreWriter(tmp_path / "s", IDENTITY, INGEST)
        told = threading.Event()
        seen = []

        def second():
            with StoreWriter(tmp_path / "s", IDENTITY, INGEST, on_wait=told.set) as writer:
                seen.extend(writer.records)

        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(60)
        first.add(record("a", 10), *tokens(10))
    thread.join(60)
    assert seen == [("train", "a")]


def test_a_failed_writer_lets_the_next_one_in(tmp_path):
    write(tmp_path / "s", {"a": 10})
    with pytest.raises(StoreError):
        StoreWriter(tmp_path / "s", replace(IDENTITY, tokenizer="other"), INGEST)
    write(tmp_path / "s", {"b": 10})


def test_readers_see_whole_tracks_only_while_a_writer_adds(tmp_path):
    songs = {f"t{number:02d}": 700 + 100 * number for number in range(12)}
    expected = {name: tokens(frames, seed)[0] for seed, (name, frames) in enumerate(songs.items())}
    with StoreWriter(tmp_path / "s", IDENTITY, INGEST):
        """Only makes the store."""
    written = threading.Event()

    def read_on() -> set[int]:
        growth = set()
        while not written.is_set():
            tracks = Store(tmp_path / "s", IDENTITY).tracks("train")
            growth.add(len(tracks))
            for track in tracks:
                for part in range(3):
                    np.testing.assert_array_equal(track.codes(part), expected[track.record.id][part])
        return growth

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read_on) for _ in range(2)]
        try:
            write(tmp_path / "s", songs)
        finally:
            written.set()
    assert all(len(reader.result()) > 1 for reader in readers), "the readers saw the store grow"
    assert len(Store(tmp_path / "s").tracks("train")) == 12


READER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_store import Store, np, tokens
folder, growth = Path(sys.argv[2]), set()
(folder / f"ready{sys.argv[3]}").touch()
while True:
    last = (folder / "written").exists()
    tracks = Store(folder / "s").tracks("train")
    growth.add(len(tracks))
    for track in tracks:
        expected = tokens(track.record.frames, int(track.record.id))[0]
        for part in range(3):
            np.testing.assert_array_equal(track.codes(part), expected[part])
    if last:
        break
print(len(growth), max(growth))
"""


def test_other_processes_read_while_one_writes(tmp_path):
    with StoreWriter(tmp_path / "s", IDENTITY, INGEST):
        """Only makes the store."""
    words = [sys.executable, "-c", READER, str(Path(__file__).parent), str(tmp_path)]
    readers = [subprocess.Popen([*words, str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for n in range(2)]
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("ready*"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    try:
        with StoreWriter(tmp_path / "s", IDENTITY, INGEST) as writer:
            for number in range(15):
                writer.add(record(str(number), 300 + 100 * number), *tokens(300 + 100 * number, number))
    finally:
        (tmp_path / "written").touch()
    for reader in readers:
        out, problems = reader.communicate(timeout=120)
        assert reader.returncode == 0, problems.decode()
        seen, most = map(int, out.split())
        assert seen > 1, "it saw the store grow"
        assert most == 15


def test_a_track_gets_its_name_when_all_of_it_is_on_the_disk(tmp_path, monkeypatch):
    final = tmp_path / "s/tracks/train/a"
    renamed, synced = [], set()
    rename, fsync = Path.rename, os.fsync

    def watched_rename(source, target):
        if target == final:
            assert not final.exists()
            renamed.append({path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()})
            assert {path.stat().st_ino for path in source.rglob("*")} <= synced
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", watched_rename)
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.add(os.fstat(handle).st_ino), fsync(handle)))
    write(tmp_path / "s", {"a": 10})
    arrays = {"codes/zarr.json", "codes/c/0/0/0", "level/zarr.json", "level/c/0/0"}
    assert renamed == [arrays | {"zarr.json"}]
    assert {path.relative_to(final).as_posix() for path in final.rglob("*") if path.is_file()} == renamed[0]


def test_finished_is_told(tmp_path):
    with StoreWriter(tmp_path / "s", IDENTITY, INGEST) as writer:
        assert not Store(tmp_path / "s").finished
        writer.finish()
        assert Store(tmp_path / "s").finished
    with StoreWriter(tmp_path / "s", IDENTITY, INGEST) as writer:
        writer.begin()
        assert not Store(tmp_path / "s").finished


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path):
    """The operating system refuses files beyond 30 kB, as a full disk would."""
    write(tmp_path / "s", {"a": 1000})
    program = f"""
        import resource
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_store import IDENTITY, INGEST, StoreWriter, record, tokens
        with StoreWriter(Path({str(tmp_path / "s")!r}), IDENTITY, INGEST) as writer:
            resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
            for name in ("a", "b"):
                try:
                    writer.add(record(name, 20_000), *tokens(20_000))
                except OSError as error:
                    print(type(error).__name__, error.errno)
            writer.add(record("c", 100), *tokens(100))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["OSError", str(27)] * 2, done.stderr
    tracks = Store(tmp_path / "s").tracks("train")
    assert [(track.record.id, track.record.frames) for track in tracks] == [("a", 1000), ("c", 100)]
    np.testing.assert_array_equal(tracks[0].codes(1), tokens(1000, 0)[0][1])
    assert not (tmp_path / "s/.partial").exists()


def test_what_a_killed_writer_left_is_cleared(tmp_path):
    write(tmp_path / "s", {"a": 10})
    left = tmp_path / "s/.partial/1234/codes"
    left.mkdir(parents=True)
    (left / "zarr.json").write_text("{")
    assert len(Store(tmp_path / "s").records()) == 1
    write(tmp_path / "s", {"b": 10})
    assert not (tmp_path / "s/.partial").exists()
    assert len(Store(tmp_path / "s").records()) == 2
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "s/tracks/train/a").stat().st_mode & 0o777 == 0o777 & ~umask
