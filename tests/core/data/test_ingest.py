"""Ingest: everything stored once, the same bytes however often it was killed, and nothing left out in silence."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import attrs
import numpy as np
import pytest
import soundfile
import torch
from fakes import HOP, RATE, EnergyTokenizer, FolderCorpus, tone, write_corpus, write_track

from accomp.core.data import stored_records
from accomp.core.data.ingest import encode as encoding
from accomp.core.data.ingest import load_song as songs
from accomp.core.data.ingest import stage as ingest_module
from accomp.core.data.ingest import tokenize_song as song_tokens
from accomp.core.data.ingest.encode import SAMPLES, PartEncoder
from accomp.core.data.ingest.stage import ingest_corpus
from accomp.core.data.ingest.summary import SHOWN, IngestSummary, Skipped
from accomp.core.data.stored_records import identity_of
from accomp.core.errors import DataError, PluginError
from accomp.core.files import hash_files
from accomp.core.music.instruments import CLASSES
from accomp.core.spec.pairs import PairRules, draw_members
from accomp.core.spec.runner import RunnerSpec
from accomp.core.spec.sections import RunSpec, StoreSpec
from accomp.zarr_store.reader import Store

VOCAL = CLASSES.index("Vocal")


def ingest(corpus: Path, store: Path, tokenizer: EnergyTokenizer | None = None, **settings) -> IngestSummary:
    opened = FolderCorpus(FolderCorpus.Config(str(corpus)))
    return ingest_corpus(
        opened, PartEncoder(tokenizer or EnergyTokenizer()), store, **{"submixes": 2, "seed": 1, **settings}
    )


def contents(store: Path) -> dict[str, bytes]:
    """All files, but for how the audio files were found, which another place or time changes."""
    return {str(path.relative_to(store)): unseen(path) for path in store.rglob("*") if path.is_file()}


def unseen(path: Path) -> bytes:
    data = path.read_bytes()
    attributes = json.loads(data).get("attributes", {}) if path.name == "zarr.json" else {}
    if not attributes.get("files"):
        return data
    for file in attributes["files"]:
        del file["seen"]
    del attributes["checksums"]["record"]
    return json.dumps(attributes).encode()


def codes_of(audio: np.ndarray) -> np.ndarray:
    return EnergyTokenizer().encode(torch.from_numpy(audio)[None])[0].T.numpy()


def read_stem(corpus: Path, split: str, track: str, name: str) -> np.ndarray:
    (path,) = (corpus / split / track).glob(f"{name}-*")
    return soundfile.read(path, dtype="float32")[0]


def test_every_part_is_the_tokens_of_its_stems_mean(tmp_path):
    corpus = write_corpus(tmp_path / "c", {"train": 3, "test": 1}, stems=4)
    summary = ingest(corpus, tmp_path / "s")
    assert summary.tracks == {"test": 1, "train": 3}
    assert (summary.added, summary.replaced, summary.skipped, summary.padded) == (4, 0, (), ())
    store = Store(tmp_path / "s", identity_of(EnergyTokenizer()))
    assert store.finished
    for split, count in summary.tracks.items():
        tracks = store.tracks(split)
        assert [track.record.id for track in tracks] == [f"t{n}" for n in range(count)]
        for track in tracks:
            assert len(track.record.pairs) == 8  # 4 targets, 2 mixtures each
            assert len({part.members for part in track.record.parts}) == len(track.record.parts), "no part twice"
            for row, part in enumerate(track.record.parts):
                stems = [read_stem(corpus, split, track.record.id, name) for name in part.members]
                np.testing.assert_array_equal(track.codes(row), codes_of(np.mean(stems, axis=0)))
            for pair in track.record.pairs:
                (target,) = track.record.parts[pair.target].members
                assert target not in track.record.parts[pair.context].members
            assert {track.record.parts[pair.target].members[0] for pair in track.record.pairs} == {
                "s0",
                "s1",
                "s2",
                "s3",
            }


def test_what_is_known_of_a_track_is_kept(tmp_path):
    parts = {"a-0": tone(2.0, 0, rate=16000), "b-4": tone(2.0, 1, rate=16000)}
    write_track(tmp_path / "c/train/song", parts, rate=16000)
    ingest(tmp_path / "c", tmp_path / "s")
    (record,) = Store(tmp_path / "s").records()
    assert (record.source, record.licence) == ("folder of tests", "CC0")
    assert (record.samples, record.frames) == (2 * RATE, 100)
    assert 7500 < record.bandwidth < 8200, "a 16 kHz recording has nothing above 8 kHz, whatever the tokenizer's rate"
    assert [file.rate for file in record.files] == [16000, 16000]
    assert [part.instrument for part in record.stems] == [0, 4]
    assert all(len(file.sha256) == 64 and file.bytes > 0 for file in record.files)


def test_the_same_music_gives_the_same_bytes(tmp_path):
    corpus = write_corpus(tmp_path / "c", {"train": 2})
    shutil.copytree(corpus, tmp_path / "elsewhere")
    ingest(corpus, tmp_path / "s")
    ingest(tmp_path / "elsewhere", tmp_path / "s2")
    assert contents(tmp_path / "s") == contents(tmp_path / "s2")
    ingest(corpus, tmp_path / "s3", seed=2)
    assert contents(tmp_path / "s") != contents(tmp_path / "s3")


def test_tracks_do_not_depend_on_each_other(tmp_path):
    """A song alone gives the bytes that it gives among others."""
    corpus = write_corpus(tmp_path / "c", {"train": 3}, stems=4)
    (tmp_path / "alone/train").mkdir(parents=True)
    shutil.copytree(corpus / "train/t1", tmp_path / "alone/train/t1")
    ingest(corpus, tmp_path / "s")
    ingest(tmp_path / "alone", tmp_path / "s2")
    assert contents(tmp_path / "s/tracks/train/t1") == contents(tmp_path / "s2/tracks/train/t1")


def test_a_killed_ingest_goes_on_and_ends_with_the_same_store(tmp_path):
    corpus = write_corpus(tmp_path / "c", {"train": 6, "test": 2}, stems=2, seconds=1.1)
    write_track(corpus / "train/t9", {"a-0": tone(0.2, 0), "b-0": tone(0.2, 1)})  # too short: skipped
    program = str(Path(__file__).parents[1] / "killed_ingest.py")
    words = [sys.executable, program, str(corpus), str(tmp_path / "s"), "1", "20", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 20, "so many children were killed"
    undisturbed = ingest(corpus, tmp_path / "whole")
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    again = ingest(corpus, tmp_path / "s")
    assert (again.added, again.replaced) == (0, 0)
    assert attrs.evolve(again, store=undisturbed.store) == undisturbed


def test_a_second_ingest_does_nothing(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "c", {"train": 2})
    first = ingest(corpus, tmp_path / "s")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*")}
    monkeypatch.setattr(song_tokens, "load_song", lambda *_: pytest.fail("a song was read again"))
    second = ingest(corpus, tmp_path / "s")
    assert second == first
    assert (second.added, second.replaced) == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*")} == before


def test_new_and_changed_songs_are_done_and_the_others_left(tmp_path):
    corpus = write_corpus(tmp_path / "c", {"train": 3})
    ingest(corpus, tmp_path / "s")
    kept = contents(tmp_path / "s/tracks/train/t1")
    write_track(corpus / "train/t0", {"s1-4": tone(3.0, 99)})  # another take of the same length
    write_track(corpus / "train/t7", {"a-0": tone(2.0, 1), "b-0": tone(2.0, 2)})
    summary = ingest(corpus, tmp_path / "s")
    assert (summary.added, summary.replaced, summary.tracks) == (1, 1, {"train": 4})
    assert contents(tmp_path / "s/tracks/train/t1") == kept
    fresh = ingest(corpus, tmp_path / "fresh")
    assert attrs.evolve(summary, store=fresh.store) == fresh
    assert contents(tmp_path / "s") == contents(tmp_path / "fresh")


def test_a_song_whose_time_alone_changed_is_compared_once_and_not_done_again(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "c", {"train": 1})
    ingest(corpus, tmp_path / "s")
    before = contents(tmp_path / "s")
    now = time.time()
    for path in corpus.rglob("*.flac"):
        os.utime(path, (now - 50.5, now - 50.5))
    compared = []
    monkeypatch.setattr(stored_records, "hash_files", lambda paths: compared.append(paths) or hash_files(paths))
    assert ingest(corpus, tmp_path / "s").replaced == 0
    assert sorted(path for (path,) in compared) == sorted(corpus.rglob("*.flac"))
    assert contents(tmp_path / "s") == before
    monkeypatch.setattr(stored_records, "hash_files", lambda _: pytest.fail("a file was compared again"))
    assert ingest(corpus, tmp_path / "s").replaced == 0


def replaced_by_older(path: Path, sound: np.ndarray) -> None:
    """Other audio of the same size, ten days older than the file that it takes the place of."""
    other = path.with_name("other.tmp")
    soundfile.write(other, sound, RATE, format="WAV", subtype="FLOAT")
    os.utime(other, (time.time() - 864_000.25,) * 2)
    other.replace(path)


def changed_in_place(path: Path, sound: np.ndarray) -> None:
    """As `rsync --inplace --times` may do: same inode, same size, same time."""
    before = path.stat()
    data = path.read_bytes()
    soundfile.write(path, sound, RATE, format="WAV", subtype="FLOAT")
    assert (path.stat().st_size, path.stat().st_ino) == (len(data), before.st_ino)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swapped(path: Path, sound: np.ndarray) -> None:
    """Another file of the same size and time."""
    other = path.with_name("other.tmp")
    soundfile.write(other, sound, RATE, format="WAV", subtype="FLOAT")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [replaced_by_older, changed_in_place, swapped])
def test_a_stem_that_holds_other_sound_of_equal_size_is_noticed(tmp_path, change):
    write_track(tmp_path / "c/train/t", {"a-0": tone(2.0, 0), "b-4": tone(2.0, 1)}, suffix="wav")
    ingest(tmp_path / "c", tmp_path / "s")
    path = tmp_path / "c/train/t/b-4.wav"
    size = path.stat().st_size
    change(path, tone(2.0, 2))
    assert path.stat().st_size == size
    assert ingest(tmp_path / "c", tmp_path / "s").replaced == 1
    ingest(tmp_path / "c", tmp_path / "fresh")
    assert contents(tmp_path / "s") == contents(tmp_path / "fresh")


def test_no_change_of_a_corpus_goes_unseen(tmp_path):
    """Stems replaced, swapped, touched, moved and put back, at random: the store is that of a fresh ingest."""
    rng = np.random.default_rng(0)
    corpus = tmp_path / "c"
    for song in range(2):
        write_track(corpus / f"train/t{song}", {"a-0": tone(1.1, song), "b-4": tone(1.1, 9 + song)}, suffix="wav")
    ingest(corpus, tmp_path / "s")
    for turn in range(12):
        for number, path in enumerate(sorted(corpus.rglob("*.wav"))):
            match rng.integers(6):
                case 0 | 1 | 2 as how:
                    sound = tone(1.1, 100 * turn + 10 * number + int(how))  # no two stems alike: that is told, too
                    (replaced_by_older, changed_in_place, swapped)[how](path, sound)
                case 3:
                    path.touch()
                case 4:
                    shutil.copy2(path, path.with_name("copy.tmp")).replace(path)
        ingest(corpus, tmp_path / "s")
        ingest(corpus, tmp_path / f"fresh{turn}")
        assert contents(tmp_path / "s") == contents(tmp_path / f"fresh{turn}"), turn


def test_a_stem_that_changes_while_it_is_read_is_named_and_done_again(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "c", {"train": 1}, stems=3)
    read = songs.audio.read

    def written_meanwhile(files, rate, **how):
        sound = read(files, rate, **how)
        if files.name.startswith("s1") if isinstance(files, Path) else files[0].name.startswith("s1"):
            write_track(corpus / "train/t0", {"s1-4": tone(3.0, 77)})
        return sound

    monkeypatch.setattr(songs.audio, "read", written_meanwhile)
    (skip,) = ingest(corpus, tmp_path / "s").skipped
    assert (skip.stem, skip.reason) == ("s1", "was changed while it was read")
    monkeypatch.undo()
    assert ingest(corpus, tmp_path / "s").replaced == 1
    ingest(corpus, tmp_path / "fresh")
    assert contents(tmp_path / "s") == contents(tmp_path / "fresh")


def test_a_disk_that_counts_whole_seconds_is_not_trusted_within_them(tmp_path, monkeypatch):
    write_track(tmp_path / "c/train/t", {"a-0": tone(2.0, 0), "b-4": tone(2.0, 1)}, suffix="wav")
    coarse = int(time.time()) * 10**9

    def seen(paths):
        return [[path.stat().st_size, coarse, coarse, path.stat().st_ino] for path in paths]

    for module in (songs, stored_records):
        monkeypatch.setattr(module, "seen", seen)
    ingest(tmp_path / "c", tmp_path / "s")
    changed_in_place(tmp_path / "c/train/t/b-4.wav", tone(2.0, 2))
    assert ingest(tmp_path / "c", tmp_path / "s").replaced == 1


def test_a_store_of_an_earlier_version_gets_checksums_and_damaged_songs_are_done_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "zarr_store")
    from earlier_writer import as_version_4

    corpus = write_corpus(tmp_path / "c", {"train": 3})
    ingest(corpus, tmp_path / "s")
    fresh = contents(tmp_path / "s")
    as_version_4(tmp_path / "s")
    shard = tmp_path / "s/tracks/train/t1/codes/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-9] + b"x" + shard.read_bytes()[-8:])
    done = []
    load = song_tokens.load_song
    monkeypatch.setattr(song_tokens, "load_song", lambda track, *more: done.append(track.id) or load(track, *more))
    assert ingest(corpus, tmp_path / "s").replaced == 1
    assert done == ["t1"]
    assert contents(tmp_path / "s") == fresh
    assert all(track.checked for track in Store(tmp_path / "s").tracks("train"))


def test_a_wav_of_equal_size_but_other_sound_is_noticed(tmp_path):
    write_track(tmp_path / "c/train/t", {"a-0": tone(2.0, 0), "b-4": tone(2.0, 1)}, suffix="wav")
    ingest(tmp_path / "c", tmp_path / "s")
    write_track(tmp_path / "c/train/t", {"b-4": tone(2.0, 2)}, suffix="wav")
    assert ingest(tmp_path / "c", tmp_path / "s").replaced == 1


def break_stem(folder: Path, how: str) -> str:
    """Spoils stem s1 of a track in some way; the reason that ingest should give."""
    path = folder / "s1-4.flac"
    match how:
        case "corrupt":
            data = bytearray(path.read_bytes())
            data[:64] = b"\0" * 64
            path.write_bytes(bytes(data))
            return "cannot read audio"
        case "truncated":
            path.write_bytes(path.read_bytes()[:3000])
            return "truncated|cannot read audio"
        case "nan":
            path.unlink()
            sound = tone(3.0, 5)
            sound[100] = np.nan
            write_track(folder, {"s1-4": sound}, suffix="wav")
            return "NaN or Inf, first at sample 100"
        case "silent":
            write_track(folder, {"s1-4": np.zeros(3 * RATE, np.float32)})
            return "silent throughout"
        case "loud":
            path.unlink()
            write_track(folder, {"s1-4": 32768 * tone(3.0, 5)}, suffix="wav")
            return r"peak \d+.*expected samples in \[-1, 1\]"
        case "empty":
            write_track(folder, {"s1-4": np.zeros(0, np.float32)})
            return "holds no samples|cannot read audio"
    raise AssertionError(how)


@pytest.mark.parametrize("how", ["corrupt", "truncated", "nan", "silent", "loud", "empty"])
def test_a_stem_that_cannot_be_used_is_named_and_the_rest_is_used(tmp_path, how):
    corpus = write_corpus(tmp_path / "c", {"train": 2})
    reason = break_stem(corpus / "train/t0", how)
    summary = ingest(corpus, tmp_path / "s")
    (skip,) = summary.skipped
    assert (skip.split, skip.track, skip.stem) == ("train", "t0", "s1")
    assert re.search(reason, skip.reason)
    assert "train/t0/s1" in str(summary)
    assert str(tmp_path / "c") not in "".join(map(str, contents(tmp_path / "s").values())), "no place in the store"
    record = Store(tmp_path / "s").records()[0]
    assert [part.members for part in record.stems] == [("s0",), ("s2",)]
    assert ingest(corpus, tmp_path / "s") == summary, "counts survive, and nothing is done again"
    write_corpus(tmp_path / "c", {"train": 1})
    (corpus / "train/t0/s1-4.wav").unlink(missing_ok=True)
    mended = ingest(corpus, tmp_path / "s")
    assert (mended.replaced, mended.skipped) == (1, ())


def test_a_song_that_cannot_be_used_is_named_and_tried_again(tmp_path):
    corpus = write_corpus(tmp_path / "c", {"train": 1})
    write_track(corpus / "train/alone", {"a-0": tone(2.0, 0)})
    write_track(corpus / "train/short", {"a-0": tone(0.5, 0), "b-0": tone(0.5, 1)})
    write_track(corpus / "train/unequal", {"a-0": tone(4.0, 0), "b-0": tone(2.5, 1)})
    write_track(corpus / "train/voices", {f"a-{VOCAL}": tone(2.0, 0), f"b-{VOCAL}": tone(2.0, 1)})
    write_track(corpus / "train/quiet", {"a-0": tone(2.0, 0), "b-0": np.zeros(2 * RATE, np.float32)})
    summary = ingest(corpus, tmp_path / "s")
    told = {skip.track: skip.reason for skip in summary.skipped}
    assert summary.tracks == {"train": 1}
    assert all(skip.stem == "" for skip in summary.skipped)
    assert "1 of 1 stems can be used" in told["alone"]
    assert "too short: 0.50 s" in told["short"]
    assert "b: lasts 2.50 s where most of the song's stems last 4.00 s" in told["unequal"]
    assert "no stem may be a target" in told["voices"]
    assert "b: silent throughout" in told["quiet"]
    assert "5 tracks skipped" in str(summary)
    assert ingest(corpus, tmp_path / "s") == summary
    write_track(corpus / "train/alone", {"b-0": tone(2.0, 1)})
    mended = ingest(corpus, tmp_path / "s")
    assert (mended.added, len(mended.skipped)) == (1, 4)


def test_a_stored_song_that_breaks_is_no_longer_stored(tmp_path):
    corpus = write_corpus(tmp_path / "c", {"train": 2}, stems=2)
    ingest(corpus, tmp_path / "s")
    break_stem(corpus / "train/t0", "corrupt")
    summary = ingest(corpus, tmp_path / "s")
    assert summary.tracks == {"train": 1}
    assert [skip.track for skip in summary.skipped] == ["t0"]
    assert [record.id for record in Store(tmp_path / "s").records()] == ["t1"]


def test_stems_a_little_shorter_get_silence_and_are_reported(tmp_path):
    write_track(tmp_path / "c/train/t", {"a-0": tone(3.0, 0), "b-4": tone(2.5, 1)})
    summary = ingest(tmp_path / "c", tmp_path / "s")
    (padded,) = summary.padded
    assert (padded.track, padded.stem, padded.seconds) == ("t", "b", 0.5)
    assert "train/t/b: 0.500 s" in str(summary)
    (track,) = Store(tmp_path / "s").tracks("train")
    sound = np.pad(read_stem(tmp_path / "c", "train", "t", "b"), (0, RATE // 2))
    np.testing.assert_array_equal(track.codes(1), codes_of(sound))
    assert (track.levels()[1, -20:] == -100).all()
    assert ingest(tmp_path / "c", tmp_path / "s") == summary


def test_resampling_is_announced_once_a_rate(tmp_path, capsys):
    for number, rate in enumerate((16000, 44100, 16000, 32000)):
        write_track(
            tmp_path / f"c/train/t{number}", {"a-0": tone(1.5, 0, rate=rate), "b-4": tone(1.5, 1, rate=rate)}, rate=rate
        )
    ingest(tmp_path / "c", tmp_path / "s")
    told = [line for line in capsys.readouterr().out.splitlines() if "resampling" in line]
    assert len(told) == 2
    assert "16000 Hz to the tokenizer's 32000 Hz" in told[0]
    assert "nothing above 8000 Hz" in told[0]
    assert "44100 Hz to the tokenizer's 32000 Hz" in told[1]
    assert {record.samples for record in Store(tmp_path / "s").records()} == {48000}


def test_vocals_are_heard_but_not_learned(tmp_path):
    write_track(tmp_path / "c/train/t", {"a-0": tone(2.0, 0), f"v-{VOCAL}": tone(2.0, 1), "z-17": tone(2.0, 2)})
    ingest(tmp_path / "c", tmp_path / "s", submixes=30)
    (record,) = Store(tmp_path / "s").records()
    assert {record.parts[pair.target].members for pair in record.pairs} == {("a",)}
    heard = {record.parts[pair.context].members for pair in record.pairs}
    assert heard == {("v",), ("z",), ("v", "z")}
    assert len(record.pairs) == 30


def test_a_store_of_another_tokenizer_or_other_settings_is_refused(tmp_path):
    corpus = write_corpus(tmp_path / "c", {"train": 1})
    ingest(corpus, tmp_path / "s")
    before = contents(tmp_path / "s")
    other = EnergyTokenizer(EnergyTokenizer.Config(fingerprint="other weights"))
    with pytest.raises(DataError, match=r"fingerprint loud.*fingerprint other weights.*another store path"):
        ingest(corpus, tmp_path / "s", other)
    with pytest.raises(DataError, match=r"codebook_size 8.*codebook_size 16"):
        ingest(corpus, tmp_path / "s", EnergyTokenizer(EnergyTokenizer.Config(codebook_size=16)))
    with pytest.raises(DataError, match=r"submixes = 2.*submixes = 3"):
        ingest(corpus, tmp_path / "s", submixes=3)
    assert contents(tmp_path / "s") == before


def test_songs_of_another_corpus_are_not_overwritten(tmp_path):
    class Second(FolderCorpus):
        def tracks(self, split):
            for track in super().tracks(split):
                yield attrs.evolve(track, source="somewhere else")

    corpus = write_corpus(tmp_path / "c", {"train": 1})
    ingest(corpus, tmp_path / "s")
    with pytest.raises(DataError, match=r"'t0'.*'folder of tests'.*'somewhere else'"):
        ingest_corpus(
            Second(Second.Config(str(corpus))), PartEncoder(EnergyTokenizer()), tmp_path / "s", submixes=2, seed=1
        )
    (corpus / "train/t0").rename(corpus / "train/new")
    summary = ingest_corpus(
        Second(Second.Config(str(corpus))), PartEncoder(EnergyTokenizer()), tmp_path / "s", submixes=2, seed=1
    )
    assert (summary.others, summary.tracks) == (1, {"train": 1})
    assert "1 tracks in this store are not in this corpus" in str(summary)


def test_two_songs_of_one_name_are_refused(tmp_path):
    class Double(FolderCorpus):
        def tracks(self, split):
            yield from super().tracks(split)
            yield from super().tracks(split)

    corpus = write_corpus(tmp_path / "c", {"train": 1})
    with pytest.raises(DataError, match="two songs of split 'train' are called 't0'"):
        ingest_corpus(Double(Double.Config(str(corpus))), PartEncoder(EnergyTokenizer()), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_place_where_no_store_can_be_is_told(tmp_path):
    corpus = write_corpus(tmp_path / "c", {"train": 1})
    (tmp_path / "file").write_text("not a folder")
    for place in (tmp_path / "file", tmp_path / "file" / "s"):
        with pytest.raises(DataError, match="no token store can be made"):
            ingest(corpus, place)
    with pytest.raises(DataError, match="other things in it"):
        ingest(corpus, corpus)


def test_a_full_disk_leaves_a_store_to_go_on_with(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "c", {"train": 3})
    add = stored_records.StoreWriter.add
    room = iter(range(2))

    def add_while_there_is_room(writer, *arguments):
        if next(room, None) is None:
            raise OSError(28, "No space left on device")
        add(writer, *arguments)

    monkeypatch.setattr(stored_records.StoreWriter, "add", add_while_there_is_room)
    with pytest.raises(OSError, match="No space left"):
        ingest(corpus, tmp_path / "s")
    store = Store(tmp_path / "s")
    assert not store.finished
    assert len(store.records()) == 2
    monkeypatch.undo()
    assert ingest(corpus, tmp_path / "s").added == 1
    ingest(corpus, tmp_path / "whole")
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_long_songs_are_encoded_piece_by_piece_with_the_same_result(monkeypatch):
    stems = np.stack([tone(2.013, seed) for seed in range(5)])
    members = [(0,), (1, 2), (0, 3, 4), (4,), (2, 3)]
    monkeypatch.setattr(encoding, "ROWS", 2)
    monkeypatch.setattr(encoding, "SAMPLES", 6 * HOP + 100)
    widths = []

    class Watched(EnergyTokenizer):
        def encoder(self, batch=1):
            stream = super().encoder(batch)
            push = stream.push
            stream.push = lambda chunk: (widths.append(chunk.numel()), push(chunk))[1]
            return stream

    codes = PartEncoder(Watched())(stems, members)
    assert codes.shape == (5, -(-stems.shape[1] // HOP), 2)
    assert codes.dtype == np.uint16
    assert max(widths) <= 6 * HOP + 100 < SAMPLES
    for row, rows in enumerate(members):
        np.testing.assert_array_equal(codes[row], codes_of(stems[list(rows)].mean(axis=0)))


def test_a_tokenizer_that_loses_frames_is_refused():
    class Losing(EnergyTokenizer):
        def encoder(self, batch=1):
            stream = super().encoder(batch)
            stream.flush = lambda: torch.zeros(batch, 2, 0, dtype=torch.int64)
            return stream

    with pytest.raises(PluginError, match=r"gave 1 frames for 700 samples, expected 2"):
        PartEncoder(Losing())(np.zeros((2, 700), np.float32), [(0,)])


def test_how_many_stems_accompany_is_uniform():
    """N_in ~ U{1..4} over 4000 draws, and each stem as likely as another; 5 standard deviations."""
    others = ("a", "b", "c", "d")
    draws = [draw_members(others, 0, f"track {n}", "bass", draw) for n in range(1000) for draw in range(4)]
    assert set(map(len, draws)) == {1, 2, 3, 4}
    for count in Counter(map(len, draws)).values():
        assert abs(count - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)
    for count in Counter(name for draw in draws for name in draw).values():
        assert abs(count - 2500) < 5 * np.sqrt(4000 * 0.625 * 0.375)
    assert all(draw == tuple(sorted(set(draw))) for draw in draws)


def test_a_draw_depends_on_its_key_alone():
    others = ("a", "b", "c", "d", "e")
    keys = [(seed, track, target, draw) for seed in (0, 1) for track in "xy" for target in "st" for draw in (0, 1)]
    drawn = {key: draw_members(others, *key) for key in keys}
    assert {key: draw_members(others, *key) for key in reversed(keys)} == drawn
    assert len(set(drawn.values())) > 4, "each part of the key counts"
    for key, members in drawn.items():
        assert set(draw_members(others[::-1], *key)) == set(members)
    assert draw_members(("only",), 0, "t", "s", 0) == ("only",)


def test_a_long_summary_counts_what_it_does_not_list():
    skips = tuple(Skipped("train", f"t{n}", "", "too short") for n in range(SHOWN + 5))
    summary = IngestSummary(Path("s"), {"train": 0}, 0.0, 0, 0, 0, 0, 0, skips, ())
    assert f"{SHOWN + 5} tracks skipped" in str(summary)
    assert "and 5 more" in str(summary)


def test_a_spec_says_what_to_ingest(tmp_path, monkeypatch, capsys):
    """Store settings, device and threads come from the spec; the experiment's own seed does not count."""
    from accomp.core.spec import build

    corpus = FolderCorpus(FolderCorpus.Config(str(write_corpus(tmp_path / "c", {"train": 1}, stems=4))))
    monkeypatch.setattr(build, "build_corpus", lambda spec, registry: corpus)
    monkeypatch.setattr(build, "build_tokenizer", lambda spec, registry: EnergyTokenizer())
    threads = torch.get_num_threads()
    for seed in (0, 1):
        spec = SimpleNamespace(
            seed=seed,
            run=RunSpec(str(tmp_path / "run"), accelerator="cpu", threads=1),
            store=StoreSpec(str(tmp_path / f"s{seed}"), submixes=3, seed=7),
            pairs=PairRules(),
            runner=RunnerSpec(),
        )
        summary = ingest_module.ingest(spec, registry=None)
        assert summary.pairs == 4 * 3
        assert capsys.readouterr().out.strip() == str(summary)
    ingest_corpus(corpus, PartEncoder(EnergyTokenizer()), tmp_path / "direct", submixes=3, seed=7)
    assert contents(tmp_path / "s0") == contents(tmp_path / "s1") == contents(tmp_path / "direct")
    assert torch.get_num_threads() == threads


def test_the_number_of_workers_changes_nothing():
    stems = np.stack([tone(2.0, seed) for seed in range(6)])
    members = [(row,) for row in range(6)] + [(0, row) for row in range(1, 6)] + [(1, 2, row) for row in range(3, 6)]
    threads = torch.get_num_threads()
    one, three = (PartEncoder(EnergyTokenizer(), workers=workers)(stems, members) for workers in (1, 3))
    np.testing.assert_array_equal(one, three)
    assert len(one) == 14 > encoding.ROWS
    assert torch.get_num_threads() == threads


def test_each_worker_computes_on_one_core(monkeypatch):
    seen = set()

    class Watched(EnergyTokenizer):
        def encoder(self, batch=1):
            seen.add(torch.get_num_threads())
            return super().encoder(batch)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        PartEncoder(Watched(), workers=2)(np.zeros((1, 640), np.float32), [(0,)] * 20)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {1}


def test_what_a_corpus_guessed_is_told(tmp_path):
    class Guessing(FolderCorpus):
        notes = ("Bass, guessed from 'bs'",)

    corpus = Guessing(Guessing.Config(str(write_corpus(tmp_path / "c", {"train": 1}))))
    summary = ingest_corpus(corpus, PartEncoder(EnergyTokenizer()), tmp_path / "s")
    assert "\nBass, guessed from 'bs'" in str(summary)
