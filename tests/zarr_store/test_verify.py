"""Verification: whatever byte of a song rots, it is found, and named; what is taken out can be written anew."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_store import IDENTITY, INGEST, record, tokens, write

from accomp.zarr_store.layout import StoreError
from accomp.zarr_store.reader import Store
from accomp.zarr_store.verify import remove, verify
from accomp.zarr_store.writer import StoreWriter

SONGS = {"a": 1500, "b": 20, "Ünï/c": 300}


def broken(path: Path) -> dict[str, str]:
    return {track.id: "; ".join(track.problems) for track in verify(Store(path)) if track.problems}


@pytest.fixture
def store(tmp_path) -> Path:
    write(tmp_path / "s", SONGS)
    return tmp_path / "s"


def test_a_sound_store_is_found_sound(store):
    checked = list(verify(Store(store)))
    assert {(track.split, track.id) for track in checked} == {("train", name) for name in SONGS}
    assert all(track.by_checksum and not track.problems for track in checked)


def test_every_byte_counts(store):
    """One bit of any file of a song, at 60 random places: found every time, in that song, and in no other."""
    rng = random.Random(0)
    files = sorted(path for path in (store / "tracks/train/a").rglob("*") if path.is_file())
    assert len(files) == 5
    for number in range(60):
        file = files[number % 5]
        whole = file.read_bytes()
        rotten = bytearray(whole)
        place = rng.randrange(len(rotten))
        rotten[place] ^= 1 << rng.randrange(8)
        file.write_bytes(rotten)
        spared = file.name == "zarr.json" and same_json(whole, bytes(rotten))  # between its tokens, say
        assert set(broken(store)) == (set() if spared else {"a"}), (file, place)
        file.write_bytes(whole)
    assert broken(store) == {}


def same_json(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda track: (track / "codes/c/0/0/0").unlink(), "codes/c/0/0/0 is gone"),
        (
            lambda track: (track / "level/zarr.json").write_text("{}"),
            "level/zarr.json is not what was written (2 bytes",
        ),
        (lambda track: (track / "zarr.json").unlink(), "its record, zarr.json, is gone"),
        (lambda track: (track / "zarr.json").write_text("{"), "its record, zarr.json, cannot be read"),
        (lambda track: (track / "zarr.json").write_text('{"attributes": {"id": 1}}'), "cannot be read"),
        (lambda track: edit(track, licence="mine"), "its record is not what was written"),
        (lambda track: shutil.copytree(track, track.parent / "elsewhere"), "the record is that of train/a"),
    ],
)
def test_what_is_wrong_is_said(store, spoil, told):
    spoil(store / "tracks/train/a")
    ((id, reason),) = broken(store).items()
    assert told in reason
    assert id == ("elsewhere" if told.startswith("the record is that") else "a")


def edit(track: Path, **attributes: str) -> None:
    group = json.loads((track / "zarr.json").read_bytes())
    group["attributes"] |= attributes
    (track / "zarr.json").write_text(json.dumps(group))


def forget_checksums(store: Path) -> None:
    """Makes a store one of version 2."""
    for path in store.rglob("zarr.json"):
        group = json.loads(path.read_bytes())
        if "format" in group.get("attributes", {}):
            group["attributes"]["version"] = 2
        for name in ("checksums", "version") if "id" in group.get("attributes", {}) else ("checksums",):
            group.get("attributes", {}).pop(name, None)
        path.write_text(json.dumps(group, indent=2))


def test_without_checksums_the_tokens_are_decoded(store):
    forget_checksums(store)
    assert [(track.by_checksum, track.problems) for track in verify(Store(store))] == [(False, ())] * 3
    shard = store / "tracks/train/a/codes/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-30])
    edit(store / "tracks/train/b", frames=21)  # type: ignore[arg-type]
    assert set(broken(store)) == {"a", "b"}
    assert "broken array" in broken(store)["a"]
    assert "21 frames for 12800 samples" in broken(store)["b"]


def test_a_writer_adds_checksums_to_what_it_writes_and_vouches_for_nothing_else(store):
    forget_checksums(store)
    with StoreWriter(store, IDENTITY, INGEST) as writer:
        writer.add(record("b", 20), *tokens(20, 1))
        writer.rewrite(record("a", 1500))
    assert {track.id: track.by_checksum for track in verify(Store(store))} == {"a": False, "b": True, "Ünï/c": False}


def test_other_labels_keep_the_checksums(store):
    with StoreWriter(store, IDENTITY, INGEST) as writer:
        writer.rewrite(replace(record("a", 1500), labels={"genre": "rock"}))
    assert broken(store) == {}
    assert {t.record.id: t for t in Store(store).tracks("train")}["a"].record.labels == {"genre": "rock"}
    assert all(track.by_checksum for track in verify(Store(store)))


def test_what_is_taken_out_can_be_written_again(store, tmp_path):
    whole = {path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    (store / "tracks/train/a/zarr.json").write_text("{")
    (store / "tracks/train/b/level/c/0/0").unlink()
    opened = Store(store)
    with StoreWriter(tmp_path / "other", IDENTITY, INGEST), pytest.raises(StoreError, match="broken metadata"):
        StoreWriter(store, IDENTITY, INGEST)
    remove(opened, [track for track in verify(opened) if track.problems])
    assert broken(store) == {}
    with StoreWriter(store, IDENTITY, INGEST) as writer:
        assert set(writer.records) == {("train", "Ünï/c")}
        for seed, name in enumerate(["a", "b"]):
            writer.add(record(name, SONGS[name]), *tokens(SONGS[name], seed))
    assert {path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()} == whole


def test_nothing_is_taken_out_while_another_process_writes(store):
    opened = Store(store)
    tracks = list(verify(opened))
    with StoreWriter(store, IDENTITY, INGEST), pytest.raises(StoreError, match="another process is writing"):
        remove(opened, tracks)
    assert len(opened.records()) == 3
