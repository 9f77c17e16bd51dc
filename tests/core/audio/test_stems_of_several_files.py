"""A stem of several files sounds like their sum, everywhere: read, stored, chosen from, and judged."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
import soundfile
import torch
from fakes import RATE, EnergyTokenizer, FolderCorpus, tone, write_corpus

from accomp.core.audio import io as audio
from accomp.core.data.excerpts import Excerpt
from accomp.core.data.ingest.encode import PartEncoder
from accomp.core.data.ingest.stage import ingest_corpus
from accomp.core.errors import DataError
from accomp.core.evaluation.clip_sets import SongClip
from accomp.core.files import hash_file, hash_files
from accomp.core.types import Stem, Track
from accomp.zarr_store.reader import Store


def write(path: Path, sound: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate, subtype="FLOAT")
    return path


class Doubled(FolderCorpus):
    """Every stem has a second file, in the folder `more` beside the corpus, where there is one of its name."""

    def tracks(self, split):
        for track in super().tracks(split):
            stems = {}
            for name, stem in track.stems.items():
                second = self._root.parent / "more" / track.id / f"{name}.wav"
                stems[name] = attrs.evolve(stem, more=(second,) if second.parent.is_dir() and name == "s0" else ())
            yield attrs.evolve(track, stems=stems)


@pytest.fixture
def corpus(tmp_path):
    """One song of three stems; the first has a second file."""
    root = write_corpus(tmp_path / "c", {"train": 1}, stems=3)
    write(tmp_path / "more/t0/s0.wav", tone(3.0, 99))
    return root


def ingest(root: Path, store: Path):
    return ingest_corpus(Doubled(Doubled.Config(str(root))), PartEncoder(EnergyTokenizer()), store)


def test_files_are_summed_and_channels_averaged(tmp_path):
    one, left, right = (tone(1.0, seed) for seed in range(3))
    paths = [write(tmp_path / "a.wav", one), write(tmp_path / "b.wav", np.stack([left, right], axis=1))]
    np.testing.assert_allclose(audio.read(paths, RATE), one + (left + right) / 2, atol=1e-6)
    assert audio.duration(paths) == (RATE, RATE)
    np.testing.assert_array_equal(audio.read(paths[:1], RATE), audio.read(paths[0], RATE))


def test_the_sum_is_resampled_as_one_sound(tmp_path):
    one, two = tone(1.0, 0, rate=44100), tone(1.0, 1, rate=44100)
    paths = [write(tmp_path / "a.wav", one, 44100), write(tmp_path / "b.wav", two, 44100)]
    np.testing.assert_allclose(audio.read(paths, RATE), audio.resample(one + two, 44100, RATE), atol=1e-6)


def test_a_shorter_file_is_silent_after_its_end(tmp_path):
    long, short = tone(2.0, 0), tone(1.2, 1)
    paths = [write(tmp_path / "short.wav", short), write(tmp_path / "long.wav", long)]
    expected = long + np.pad(short, (0, len(long) - len(short)))
    assert audio.duration(paths) == (len(long), RATE)
    np.testing.assert_allclose(audio.read(paths, RATE), expected, atol=1e-6)
    part = audio.read(paths, RATE, start=1.0, seconds=0.5)
    np.testing.assert_allclose(part, expected[RATE : RATE + RATE // 2], atol=1e-6)
    np.testing.assert_allclose(audio.read(paths, RATE, start=1.5), expected[RATE + RATE // 2 :], atol=1e-6)


def test_files_that_cannot_be_one_sound_are_told(tmp_path):
    a, b = write(tmp_path / "a.wav", tone(3.0, 0)), write(tmp_path / "b.wav", tone(1.9, 1))
    c = write(tmp_path / "c.wav", tone(3.0, 2, rate=44100), 44100)
    for attempt in (audio.duration, lambda paths: audio.read(paths, RATE)):
        with pytest.raises(DataError, match=r"unequal length: b.wav 1.90 s, a.wav 3.00 s; .* at most 1 s"):
            attempt([a, b])
        with pytest.raises(DataError, match=r"different rates \(32000, 44100 Hz\)"):
            attempt([a, c])
        with pytest.raises(DataError, match=r"no such audio file @ .*d\.wav"):
            attempt([a, tmp_path / "d.wav"])


def test_a_hash_of_several_files_is_of_each_and_of_their_order(tmp_path):
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_text(path.name)
    assert hash_files(paths[:1]) == hash_file(paths[0])
    hashes = {hash_files(paths), hash_files(paths[::-1]), hash_files(paths[:1]), hash_files(paths[1:])}
    paths[1].write_text("c")
    assert len(hashes | {hash_files(paths)}) == 5


def test_the_store_has_the_sum_and_notices_a_change_in_any_file(corpus, tmp_path):
    assert ingest(corpus, tmp_path / "s").skipped == ()
    (first,) = (corpus / "train/t0").glob("s0-*")
    second = tmp_path / "more/t0/s0.wav"
    (track,) = Store(tmp_path / "s").tracks("train")
    sound = torch.from_numpy(audio.read([first, second], RATE))
    np.testing.assert_array_equal(track.codes(0), EnergyTokenizer().encode(sound[None])[0].T.numpy())
    (file,) = (file for file in track.record.files if file.name == "s0")
    assert (file.bytes, file.rate) == (first.stat().st_size + second.stat().st_size, RATE)
    assert ingest(corpus, tmp_path / "s").replaced == 0
    write(second, tone(3.0, 98))  # as many bytes
    assert ingest(corpus, tmp_path / "s").replaced == 1
    assert ingest(corpus, tmp_path / "s").replaced == 0


def test_a_stem_without_one_of_its_files_is_left_out_by_name(corpus, tmp_path):
    (tmp_path / "more/t0/s0.wav").unlink()
    (skipped,) = ingest(corpus, tmp_path / "s").skipped
    assert (skipped.stem, skipped.reason) == ("s0", "no such file")
    write(tmp_path / "more/t0/s0.wav", tone(3.0, 99))
    assert ingest(corpus, tmp_path / "s").replaced == 1


def test_excerpts_are_of_the_sum_and_scores_depend_on_every_file(tmp_path):
    sounds = {name: tone(2.0, seed) for seed, name in enumerate("abc")}
    a, b, c = (write(tmp_path / f"{name}.wav", sound) for name, sound in sounds.items())
    track = Track("t", {"drums": Stem(a, 14, more=(b,)), "bass": Stem(c, 4)})
    excerpt = Excerpt(track, "drums", ("bass",), start=0.5, seconds=1.0)
    part = slice(RATE // 2, RATE * 3 // 2)
    np.testing.assert_allclose(excerpt.stem_audio(RATE), (sounds["a"] + sounds["b"])[part], atol=1e-6)
    clip = SongClip("t", excerpt, excerpt)
    before = clip.identity()
    write(b, tone(2.5, 5))
    assert clip.identity() != before
