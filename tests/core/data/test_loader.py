"""Batches: the right clips of the right songs, each once an epoch, in an order that survives a restart."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import HOP, RATE, EnergyTokenizer, FolderCorpus, tone, write_corpus, write_track

from accomp.core.data.ingest.encode import PartEncoder
from accomp.core.data.ingest.stage import ingest_corpus
from accomp.core.data.loader import ClipLoader
from accomp.core.data.stored_records import identity_of
from accomp.core.data.stored_songs import open_store, pairs
from accomp.core.errors import DataError
from accomp.core.model.conditions import LabelCondition
from accomp.core.spec.pairs import PairRules
from accomp.core.types import CodeBatch
from accomp.zarr_store.writer import StoreWriter

FRAMES = 50
TOKENIZER = EnergyTokenizer()
INSTRUMENTS = {"instrument": LabelCondition(18)}


def ingest(corpus: Path, store: Path, submixes: int = 2) -> Path:
    ingest_corpus(
        FolderCorpus(FolderCorpus.Config(str(corpus))), PartEncoder(TOKENIZER), store, submixes=submixes, seed=0
    )
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """5 + 2 songs of 3 stems and 3 s: 150 frames, 5 windows of 50."""
    folder = tmp_path_factory.mktemp("batches")
    return ingest(write_corpus(folder / "c", {"train": 5, "validation": 2}), folder / "s")


def loader(store: Path, split: str = "train", **settings) -> ClipLoader:
    return ClipLoader(store, split, TOKENIZER, **{"frames": FRAMES, "batch": 4, **settings})


def rows(batch: CodeBatch) -> list[bytes]:
    return [
        torch.cat([context, target]).numpy().tobytes()
        for context, target in zip(batch.context, batch.target, strict=True)
    ]


def equal(one: CodeBatch, other: CodeBatch) -> bool:
    return (
        torch.equal(one.context, other.context)
        and torch.equal(one.target, other.target)
        and torch.equal(one.valid, other.valid)
        and all(torch.equal(one.labels[name], other.labels[name]) for name in one.labels)
    )


def test_shapes_and_types(store):
    batch = next(loader(store, labels=INSTRUMENTS))
    assert batch.context.shape == batch.target.shape == (4, 2, FRAMES)
    assert batch.context.dtype == batch.target.dtype == batch.labels["instrument"].dtype == torch.int64
    assert batch.valid.dtype == torch.bool
    assert batch.valid.all()
    assert set(batch.labels) == {"instrument"}
    assert set(batch.labels["instrument"].tolist()) <= {0, 4, 8}
    assert next(loader(store)).labels == {}


def test_every_clip_is_that_part_of_one_song(store):
    """A clip's rows, found by its name, equal the tokens of that song's audio between its two times."""
    clips = loader(store, "validation", labels=INSTRUMENTS)
    songs = {track.record.id: track for track in open_store(store, TOKENIZER).tracks("validation")}
    named = clips.fixed_clips(100)
    seen = 0
    for batch in clips.fixed(100):
        for row in range(len(batch.context)):
            clip = named[seen]
            seen += 1
            parts = {part.members: number for number, part in enumerate(songs[clip.pair.track].record.parts)}
            for part, codes in ((clip.pair.members, batch.context), ((clip.pair.target,), batch.target)):
                whole = songs[clip.pair.track].codes(parts[part]).astype(int)
                np.testing.assert_array_equal(codes[row].numpy().T, whole[clip.start : clip.start + FRAMES])
            assert batch.labels["instrument"][row] == clip.pair.instrument
            assert clip.pair.target not in clip.pair.members
            assert 0 <= clip.start <= 150 - FRAMES
    assert seen == len(named) == len(clips)


def test_windows_overlap_by_half_and_reach_the_end(tmp_path):
    write_track(tmp_path / "c/train/t", {"a-0": tone(2.66, 0), "b-4": tone(2.66, 1)})  # 133 frames
    clips = loader(ingest(tmp_path / "c", tmp_path / "s", submixes=1))
    starts = Counter((clip.pair.target, clip.start) for clip in clips.fixed_clips(99))
    assert starts == {(target, start): 1 for target in "ab" for start in (0, 25, 50, 75, 83)}
    assert not any(clips.rejected.values())


def test_a_window_is_kept_if_both_sound_in_half_of_it(tmp_path):
    """Against a count over the samples themselves. a is silent for two seconds, b from some time on, c never."""
    quiet = {"a": (1.06, 3.14), "b": (4.06, 6.0), "c": (0.0, 0.0)}
    stems = {f"{name}-{4 * k}": tone(6.0, k, silent=quiet[name]) for k, name in enumerate("abc")}
    write_track(tmp_path / "c/train/t", stems)
    clips = loader(ingest(tmp_path / "c", tmp_path / "s", submixes=8))
    sounding = {
        name: ~((times >= start) & (times < stop))
        for name, (start, stop) in quiet.items()
        for times in [(np.arange(300) + 0.5) * HOP / RATE]
    }
    every = pairs(tmp_path / "s", "train", TOKENIZER)
    kept = {(clip.pair, clip.start) for clip in clips.fixed_clips(999)}
    for pair in every:
        both = sounding[pair.target] & np.any([sounding[name] for name in pair.members], axis=0)
        for start in range(0, 251, 25):
            share = both[start : start + FRAMES].mean()
            if abs(share - 0.5) > 0.03:  # the level's window smears each edge over a frame
                assert ((pair, start) in kept) == (share > 0.5), (pair, start, share)
    assert sum(clips.rejected.values()) + len(clips) == 11 * len(every)
    assert all(clips.rejected[reason] > 0 for reason in ("target silent", "mixture silent"))


def test_a_song_shorter_than_a_window_is_padded_and_marked(tmp_path):
    write_track(tmp_path / "c/train/long", {"a-0": tone(3.0, 0), "b-4": tone(3.0, 1)})
    write_track(tmp_path / "c/train/short", {"a-0": tone(1.4, 2), "b-4": tone(1.4, 3)})  # 70 frames
    store = ingest(tmp_path / "c", tmp_path / "s", submixes=1)
    clips = loader(store, frames=100)
    songs = {track.record.id: track for track in open_store(store, TOKENIZER).tracks("train")}
    named = clips.fixed_clips(99)
    assert Counter(clip.pair.track for clip in named) == {"long": 4, "short": 2}
    batches = list(clips.fixed(99))
    valid = torch.cat([batch.valid for batch in batches])
    target = torch.cat([batch.target for batch in batches])
    for row, clip in enumerate(named):
        assert clip.frames == (70 if clip.pair.track == "short" else 100)
        assert valid[row].tolist() == [True] * clip.frames + [False] * (100 - clip.frames)
        if clip.pair.track == "short":
            part = [part.members for part in songs["short"].record.parts].index((clip.pair.target,))
            np.testing.assert_array_equal(target[row, :, :70].T, songs["short"].codes(part))
            assert not target[row, :, 70:].any()
    assert all(clip.pair.track == "long" for clip in loader(store, frames=150).fixed_clips(99)), "half of it must sound"


def test_each_clip_comes_once_an_epoch(store):
    clips = loader(store, batch=7)
    total = len(clips)
    assert total == 5 * 6 * 5  # songs, pairs, windows
    stream = [row for _ in range(3 * total // 7 + 1) for row in rows(next(clips))]
    every = Counter(row for batch in clips.fixed(999) for row in rows(batch))
    first, second = stream[:total], stream[total : 2 * total]
    assert Counter(first) == Counter(second) == every
    assert first != second, "each epoch has its own order"


def test_order_follows_the_seed(store):
    orders = {seed: [rows(next(clips)) for clips in [loader(store, seed=seed)] for _ in range(5)] for seed in (0, 1)}
    again = loader(store, seed=1)
    assert [rows(next(again)) for _ in range(5)] == orders[1]
    assert orders[0] != orders[1]


@pytest.mark.parametrize("taken", [0, 1, 37, 38, 90])
def test_a_resumed_loader_goes_on_with_the_same_batches(store, taken):
    whole = loader(store, labels=INSTRUMENTS, seed=5)
    for _ in range(taken):
        next(whole)
    state = json.loads(json.dumps(whole.state_dict()))
    resumed = loader(store, labels=INSTRUMENTS, seed=5)
    for _ in range(3):
        next(resumed)
    resumed.load_state_dict(state)
    for _ in range(40):  # over the end of an epoch
        assert equal(next(whole), next(resumed))


def test_a_state_of_other_data_is_refused(store, tmp_path):
    state = loader(store).state_dict()
    for other in (loader(store, seed=1), loader(store, frames=40), loader(store, "validation")):
        with pytest.raises(DataError, match=r"has changed since the checkpoint: 150 clips.*begin a new run"):
            other.load_state_dict(state)
    corpus = write_corpus(tmp_path / "c", {"train": 5})
    write_track(corpus / "train/t2", {"s1-4": tone(3.0, 77)})
    with pytest.raises(DataError, match="has changed"):
        loader(ingest(corpus, tmp_path / "s")).load_state_dict(state)


def test_ranks_share_the_clips(store):
    world = 3
    ranks = [loader(store, batch=2, rank=rank, world=world) for rank in range(world)]
    together = [row for _ in range(25) for clips in ranks for row in rows(next(clips))]
    alone = loader(store, batch=6)
    assert together == [row for _ in range(25) for row in rows(next(alone))]
    shares = [Counter(row for batch in clips.fixed(4) for row in rows(batch)) for clips in ranks]
    assert sum(shares, Counter()) == Counter(row for batch in loader(store, batch=6).fixed(4) for row in rows(batch))
    assert ranks[0].state_dict() == ranks[1].state_dict() == alone.state_dict()


def test_the_fixed_clips_are_the_same_each_time(store):
    clips = loader(store, "validation")
    first = [rows(batch) for batch in clips.fixed(3)]
    next(clips)
    assert (
        [rows(batch) for batch in clips.fixed(3)]
        == first
        == [rows(batch) for batch in loader(store, "validation", seed=9).fixed(3)]
    )
    assert [len(batch) for batch in first] == [4, 4, 4]
    assert len({row for batch in first for row in batch}) > 6
    everything = list(clips.fixed(1000))
    assert sum(len(batch.context) for batch in everything) == len(clips)
    assert len(everything[-1].context) == len(clips) % 4 or 4


def test_unigram_entropy_is_that_of_the_clips_frames(store):
    clips = loader(store, frames=64)
    targets = torch.cat([batch.target for batch in clips.fixed(999)]).numpy()
    for level, entropy in enumerate(clips.unigram_entropy()):
        p = np.bincount(targets[:, level].ravel()) / targets[:, level].size
        assert entropy == pytest.approx(-sum(q * np.log(q) for q in p if q > 0), abs=1e-9)


def test_unigram_entropy_leaves_padding_out(tmp_path):
    write_track(tmp_path / "c/train/t", {"a-0": tone(1.5, 0), "b-4": tone(1.5, 1)})
    clips = loader(ingest(tmp_path / "c", tmp_path / "s"), frames=100)
    (batch,) = clips.fixed(1)
    codes = batch.target.transpose(1, 2)[batch.valid][:, 0].numpy()
    p = np.bincount(codes) / codes.size
    assert clips.unigram_entropy()[0] == pytest.approx(-sum(q * np.log(q) for q in p if q > 0))


def test_pairs_are_named(store):
    found = pairs(store, "validation", TOKENIZER)
    assert len(found) == 2 * 3 * 2
    assert {pair.track for pair in found} == {"t0", "t1"}
    assert {(pair.target, pair.instrument) for pair in found} == {("s0", 0), ("s1", 4), ("s2", 8)}
    assert all(pair.split == "validation" and pair.target not in pair.members and pair.members for pair in found)


def test_an_empty_split_is_told(store):
    for attempt in (lambda: loader(store, "test"), lambda: pairs(store, "test", TOKENIZER)):
        with pytest.raises(
            DataError, match=r"no track of split 'test'; it has train \(5 tracks\), validation \(2 tracks\)"
        ):
            attempt()


def test_too_long_clips_are_told_with_numbers(store):
    with pytest.raises(DataError, match=r"no usable clip of 400 frames \(8 s\).*5 tracks.*3\.0 s.*30 target silent"):
        loader(store, frames=400)


def test_a_store_of_another_tokenizer_is_refused(store, tmp_path):
    other = EnergyTokenizer(EnergyTokenizer.Config(fingerprint="other weights"))
    with pytest.raises(DataError, match=r"fingerprint loud.*fingerprint other weights"):
        ClipLoader(store, "train", other, frames=FRAMES, batch=4)
    with pytest.raises(DataError, match="accomp ingest"):
        loader(tmp_path / "nowhere")


def test_an_unfinished_store_is_read_with_a_warning(tmp_path, capsys):
    path = ingest(write_corpus(tmp_path / "c", {"train": 2}), tmp_path / "s")
    loader(path)
    assert not capsys.readouterr().err.count("warning")
    settings = {"submixes": 2, "seed": 0, **PairRules().ingested()}
    with StoreWriter(path, identity_of(TOKENIZER), settings) as writer:
        writer.begin()
        assert len(loader(path)) == 2 * 6 * 5, "reading goes on while a writer is at work"
    assert "has not ended; split 'train' has 2 tracks so far" in capsys.readouterr().err


def test_a_broken_song_is_named_before_anything_is_learned(tmp_path):
    path = ingest(write_corpus(tmp_path / "c", {"train": 1}), tmp_path / "s")
    (shard,) = (path / "tracks/train/t0/codes/c").rglob("0/0/0")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100])
    with pytest.raises(DataError, match=r"song train/t0: broken array.*store verify .*tracks/train/t0"):
        loader(path)
    shard.write_bytes(whole)
    clips = loader(path)
    shard.write_bytes(whole[:40] + b"x" + whole[41:])
    with pytest.raises(DataError, match=r"song train/t0: broken array.*checksum differs.*tracks/train/t0"):
        list(zip(clips, range(5), strict=False))
    (level,) = (path / "tracks/train/t0/level/c").rglob("0/0")
    level.unlink()
    with pytest.raises(DataError, match="is gone"):
        loader(path)


def test_an_instrument_that_there_is_not_is_named(tmp_path):
    """Of version 2, whose records have no checksums."""
    path = ingest(write_corpus(tmp_path / "c", {"train": 1}), tmp_path / "s")
    file = path / "tracks/train/t0/zarr.json"
    data = json.loads(file.read_text())
    data["attributes"]["parts"][0]["instrument"] = 10**9
    for name in ("checksums", "version"):
        del data["attributes"][name]
    file.write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"song train/t0: its record has instrument 1000000000.*store verify"):
        loader(path, labels=INSTRUMENTS)


def test_songs_without_checksums_of_their_chunks_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "zarr_store")
    from earlier_writer import as_version_4

    corpus = write_corpus(tmp_path / "c", {"train": 2})
    path = ingest(corpus, tmp_path / "s")
    first = next(loader(path))
    assert "checksums" not in capsys.readouterr().err
    as_version_4(path)
    assert equal(next(loader(path)), first)
    assert "2 of 2 songs of split 'train' were stored by an earlier accomp" in capsys.readouterr().err
    assert equal(next(loader(ingest(corpus, path))), first)
    assert "without checksums" not in capsys.readouterr().err
