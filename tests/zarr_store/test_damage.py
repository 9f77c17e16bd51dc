"""Damage: whatever bit of a store flips, whatever its metadata claims, no reader takes other codes for the song's."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path

import pytest
from earlier_writer import as_version_4
from test_store import IDENTITY, INGEST, record, tokens, write

from accomp.zarr_store.layout import FRAMES, SkipRecord, StoreError
from accomp.zarr_store.reader import Store
from accomp.zarr_store.verify import remove, verify
from accomp.zarr_store.writer import StoreWriter

SONGS = {"a": 1500, "b": 20}


@pytest.fixture
def store(tmp_path) -> Path:
    write(tmp_path / "s", SONGS)
    return tmp_path / "s"


def contents(store: Path) -> list:
    """All that a reader is told of a store."""
    opened = Store(store, IDENTITY)
    told: list = [opened.ingest, opened.finished, opened.skipped()]
    for track in opened.tracks("train"):
        rows = [track.codes(row).tolist() for row in range(len(track.record.parts))]
        told += [track.record, rows, track.levels().tolist()]
    return told


def flips(rng: random.Random, store: Path, count: int):
    """Flips one bit of a file, a random one of all below the store, and back again."""
    files = sorted(path for path in store.rglob("*") if path.is_file())
    for _ in range(count):
        file = rng.choice(files)
        whole = file.read_bytes()
        rotten = bytearray(whole)
        place = rng.randrange(8 * len(rotten))
        rotten[place // 8] ^= 1 << place % 8
        file.write_bytes(rotten)
        yield f"bit {place} of {file.relative_to(store)}"
        file.write_bytes(whole)


def test_no_flipped_bit_anywhere_is_read_as_something_else(store):
    with StoreWriter(store, IDENTITY, INGEST) as writer:
        writer.skip(SkipRecord("c", "train", "too short"))
    expected = contents(store)
    refused = 0
    for where in flips(random.Random(0), store, 300):
        try:
            assert contents(store) == expected, where
        except StoreError as error:
            refused += 1
            assert "store verify" in str(error) or "restore it from a copy" in str(error), (where, error)  # noqa: PT017
    assert refused > 150
    assert contents(store) == expected


def test_no_flipped_bit_of_a_chunk_is_read_as_other_codes(store):
    """Of version 4, a third of these were."""
    (shard,) = store.glob("tracks/train/a/codes/c/0/0/0")
    expected = contents(store)
    whole = shard.read_bytes()
    rng = random.Random(1)
    for _ in range(100):
        rotten = bytearray(whole)
        rotten[rng.randrange(len(rotten))] ^= 1 << rng.randrange(8)
        shard.write_bytes(rotten)
        with pytest.raises(StoreError, match=r"song train/a: .*checksum.*accomp store verify .* --remove"):
            contents(store)
        assert [track.id for track in verify(Store(store)) if track.problems] == ["a"]
    shard.write_bytes(whole)
    assert contents(store) == expected


def array(change):
    """An edit of the metadata of the codes of song a."""
    return lambda store: edited(store / "tracks/train/a/codes/zarr.json", change)


def attributes(change):
    """An edit of the record of song a."""
    return lambda store: edited(store / "tracks/train/a/zarr.json", lambda data: change(data["attributes"]))


def edited(path: Path, change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def unseal(track: Path) -> None:
    """Make the record one of version 2."""
    edited(track / "zarr.json", lambda data: [data["attributes"].pop(name) for name in ("checksums", "version")])


def inner(data) -> dict:
    return data["codecs"][0]["configuration"]


LIES = {
    "no shape": array(lambda m: m.update(shape=[])),
    "shape too small": array(lambda m: m.update(shape=[1, 1, 4])),
    "shape too large": array(lambda m: m.update(shape=[3, 10**9, 4])),
    "objects": array(lambda m: m.update(data_type="object")),
    "wider numbers": array(lambda m: m.update(data_type="float64")),
    "signed numbers": array(lambda m: m.update(data_type="int16")),
    "chunk of nothing": array(lambda m: inner(m).update(chunk_shape=[1, 0, 4])),
    "chunk of many": array(lambda m: inner(m).update(chunk_shape=[1, 10**9, 4])),
    "chunk of other frames": array(lambda m: inner(m).update(chunk_shape=[1, 512, 4])),
    "other shard": array(lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[3, 1024, 4])),
    "filled with ones": array(lambda m: m.update(fill_value=1)),
    "big end first": array(lambda m: inner(m)["codecs"][0]["configuration"].update(endian="big")),
    "no checksums": array(lambda m: inner(m)["codecs"].pop()),
    "index at the start": array(lambda m: inner(m).update(index_location="start")),
    "a list": lambda store: (store / "tracks/train/a/codes/zarr.json").write_text("[]"),
    "nested": lambda store: (store / "tracks/train/a/codes/zarr.json").write_text("[" * 100_000),
    "no parts": attributes(lambda a: a.pop("parts")),
    "pair of no part": attributes(lambda a: a["pairs"].append({"target": 99, "context": 98, "draw": 0})),
    "class of no instrument": attributes(lambda a: a["parts"][0].update(instrument=10**9)),
    "instrument of text": attributes(lambda a: a["parts"][0].update(instrument="bass")),
    "fewer frames": attributes(lambda a: a.update(frames=10)),
    "frames of text": attributes(lambda a: a.update(frames="many")),
    "more samples": attributes(lambda a: a.update(samples=10**12)),
    "another song's": attributes(lambda a: a.update(id="b")),
    "parts of none": attributes(lambda a: a.update(parts=None)),
}


@pytest.mark.parametrize(
    ("case", "sealed"),
    [(case, sealed) for sealed in (True, False) for case in LIES if sealed or case != "class of no instrument"],
)  # the store knows no classes; test_batches.py has that one
def test_metadata_that_lies_is_refused_when_it_is_opened(store, case, sealed):
    """Also where the lie has checksums of its own, or none: what differs from the rest is enough."""
    LIES[case](store)
    if not sealed:
        unseal(store / "tracks/train/a")
    with pytest.raises(StoreError, match=r"song train/a: .*accomp store verify .*tracks.train.a"):  # noqa: PT012
        for track in Store(store).tracks("train"):
            track.open()
            if case == "no checksums":
                track.codes(0)
    found = [track for track in verify(Store(store)) if track.problems]
    assert [track.id for track in found] == ["a"]
    remove(Store(store), found)
    with StoreWriter(store, IDENTITY, INGEST) as writer:
        writer.add(record("a", 1500), *tokens(1500, 0))
    assert len(contents(store)) == 3 + 6


def test_nothing_is_read_that_nobody_wrote(store):
    """A chunk that holds less than its array has room for leaves none of it to what lay in memory."""
    folder = store / "tracks/train/a/codes"
    edited(folder.parent / "zarr.json", lambda data: data["attributes"].update(frames=1024, samples=1024 * 640))
    unseal(folder.parent)
    with pytest.raises(StoreError, match="shape is"):
        Store(store).tracks("train")[0].codes(0)
    shorter = store.parent / "shorter"
    write(shorter, {"a": FRAMES - 24})
    (row,) = shorter.glob("tracks/train/a/codes")
    edited(row / "zarr.json", lambda m: (m.update(shape=[3, FRAMES, 4]), inner(m).update(chunk_shape=[1, FRAMES, 4])))
    edited(row / "zarr.json", lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[3, FRAMES, 4]))
    edited(row.parent / "zarr.json", lambda d: d["attributes"].update(frames=FRAMES, samples=FRAMES * 640))
    unseal(row.parent)
    with pytest.raises(StoreError, match=r"a chunk of \d+ bytes holds 8000, expected 8192"):
        Store(shorter).tracks("train")[0].codes(0)


def test_the_stores_own_description_is_checked(store):
    root = store / "zarr.json"
    whole = root.read_text()
    for change in (
        lambda a: a["ingest"].update(submixes=3),
        lambda a: a["identity"].update(tokenizer="dax"),
        lambda a: a.pop("identity"),
        lambda a: a.update(finished=True),
        lambda a: a.update(version=4),
        lambda a: a.update(format="accomp tokenz"),
        lambda a: a.pop("format"),
        lambda a: a.pop("checksums"),
    ):
        edited(root, lambda data, change=change: change(data["attributes"]))
        with pytest.raises(StoreError, match=r"description is damaged.*restore it from a copy, or ingest into another"):
            Store(store)
        root.write_text(whole)
    edited(root, lambda data: (data["attributes"].pop("checksums"), data["attributes"]["identity"].update(more=1)))
    edited(root, lambda data: data["attributes"].update(version=4))
    with pytest.raises(StoreError, match="description is damaged"):
        Store(store)


def test_a_store_that_may_not_be_read_is_told(store, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StoreError, match=r"may not be read: Permission denied @ .*zarr\.json"):
        Store(store)


def test_a_disk_that_fails_is_no_damage(store, monkeypatch):
    (track, _) = Store(store).tracks("train")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("accomp.zarr_store.shards.size_of", fail)
    with pytest.raises(OSError, match="Input/output error"):
        track.codes(0)


def test_a_store_of_version_4_is_read_and_gets_its_checksums(store):
    expected = contents(store)
    fresh = {path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    as_version_4(store)
    assert Store(store).version == 4
    assert contents(store) == expected
    assert not any(track.checked for track in Store(store).tracks("train"))
    assert all(track.by_checksum and not track.problems for track in verify(Store(store)))
    with StoreWriter(store, IDENTITY, INGEST) as writer:
        assert all(writer.renew(record) for record in list(writer.records.values()))
    assert contents(store) == expected
    assert all(track.checked for track in Store(store).tracks("train"))
    assert {path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()} == fresh


def test_what_has_rotted_in_a_store_of_version_4_gets_no_checksums(store):
    as_version_4(store)
    (shard,) = store.glob("tracks/train/a/codes/c/0/0/0")
    whole = shard.read_bytes()
    rng = random.Random(2)
    for _ in range(20):
        rotten = bytearray(whole)
        rotten[rng.randrange(len(rotten))] ^= 1 << rng.randrange(8)
        shard.write_bytes(rotten)
        with StoreWriter(store, IDENTITY, INGEST) as writer:
            assert [writer.renew(writer.records["train", id]) for id in "ab"] == [False, True]


def test_a_shard_of_another_song_is_found_by_verify(store, tmp_path):
    write(tmp_path / "other", {"a": 1500, "x": 3})
    with StoreWriter(tmp_path / "other", IDENTITY, INGEST) as writer:
        writer.add(record("a", 1500), *tokens(1500, 7))
    place = "tracks/train/a/codes/c/0/0/0"
    shutil.copyfile(tmp_path / "other" / place, store / place)
    (found,) = [track for track in verify(Store(store)) if track.problems]
    assert "codes/c/0/0/0 is not what was written" in found.problems[0]


def test_checksums_are_those_of_crc32c():
    """RFC 3720, B.4: of 32 zeros, of 32 ones, and of 0 to 31."""
    from google_crc32c import value

    assert [value(bytes(32)), value(b"\xff" * 32), value(bytes(range(32)))] == [0x8A9136AA, 0x62A8AB43, 0x46DD794E]
    assert len(hashlib.sha256(b"").hexdigest()) == 64
