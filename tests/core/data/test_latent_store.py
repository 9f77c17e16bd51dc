"""Continuous latents from audio to batches: the store keeps just what a stream gives, and refuses other codecs."""

import attrs
import numpy as np
import pytest
import torch
from fakes import EnergyTokenizer, FolderCorpus, LoudnessTokenizer, write_corpus

from accomp.core.data.ingest.encode import PartEncoder
from accomp.core.data.ingest.stage import ingest_corpus
from accomp.core.data.loader import ClipLoader
from accomp.core.data.stored_records import identity_of
from accomp.core.errors import DataError, PluginError
from accomp.core.spec.pairs import PairRules
from accomp.core.testing import check_plugin
from accomp.core.types import TokenSpace
from accomp.zarr_store.layout import VERSION
from accomp.zarr_store.reader import Store
from accomp.zarr_store.verify import verify
from accomp.zarr_store.writer import StoreWriter

RULES = PairRules()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    write_corpus(folder / "corpus", {"train": 2}, stems=3)
    corpus = FolderCorpus(FolderCorpus.Config(str(folder / "corpus")))
    ingest_corpus(corpus, PartEncoder(LoudnessTokenizer()), folder / "store", rules=RULES)
    return folder


def loader(folder, tokenizer=None, **changes) -> ClipLoader:
    options = {"frames": 40, "batch": 3, "rules": RULES, **changes}
    return ClipLoader(folder / "store", "train", tokenizer or LoudnessTokenizer(), **options)


def test_a_space_without_codebooks_has_one_level_of_latents():
    latents, codes = TokenSpace(32000, 640, 0, 0, 32), TokenSpace(32000, 640, 4, 1024, 64)
    assert (latents.continuous, latents.levels, latents.channels) == (True, 1, 32)
    assert (codes.continuous, codes.levels, codes.channels) == (False, 4, 4)


def test_the_fake_codec_keeps_a_tokenizers_promises(tmp_path):
    import tiny

    check_plugin("tokenizer", "loudness", tiny.registry())


def test_the_store_holds_what_a_live_stream_gives(folder):
    store = Store(folder / "store", identity_of(LoudnessTokenizer()))
    assert store.version == VERSION
    corpus = FolderCorpus(FolderCorpus.Config(str(folder / "corpus")))
    for track, song in zip(store.tracks("train"), corpus.tracks("train"), strict=True):
        import soundfile

        for row, part in enumerate(track.record.parts):
            audio = np.mean([soundfile.read(song.stems[name].path, dtype="float32")[0] for name in part.members], 0)
            stream, got = LoudnessTokenizer().encoder(1), []
            for piece in np.array_split(audio.astype(np.float32), 37):
                got.append(stream.push(torch.from_numpy(piece)[None]))
            live = torch.cat([*got, stream.flush()], dim=2)[0].T.numpy()
            held = track.codes(row)
            assert held.dtype == np.float16
            np.testing.assert_array_equal(held, live)
    assert not any(track.problems for track in verify(Store(folder / "store")))


def test_clips_are_those_frames_and_moments_those_of_the_targets(folder):
    clips = loader(folder)
    batch = next(clips)
    assert (batch.target.shape, batch.target.dtype, batch.context.dtype) == ((3, 5, 40), torch.float32, torch.float32)
    everything = [batch.target for batch in loader(folder).fixed(10**6)]
    values = torch.cat([one.transpose(1, 2).flatten(0, 1) for one in everything]).double()
    mean, variance = clips.moments()
    np.testing.assert_allclose(mean, values.mean(0), atol=1e-9)
    np.testing.assert_allclose(variance, values.var(0, correction=0), atol=1e-9)


def test_codes_and_latents_are_not_mixed_up(folder):
    with pytest.raises(DataError, match=r"codebooks 0.*this experiment uses.*codebooks 2"):
        loader(folder, EnergyTokenizer())
    with pytest.raises(DataError, match=r"fingerprint smooth.*fingerprint other"):
        loader(folder, LoudnessTokenizer(LoudnessTokenizer.Config("other")))


def test_latents_that_float16_cannot_hold_are_refused(folder, tmp_path):
    class Fine(LoudnessTokenizer):
        def encoder(self, batch=1):
            stream = super().encoder(batch)
            push = stream.push
            stream.push = lambda audio: push(audio) + 1e-4
            return stream

    with pytest.raises(PluginError, match="float16"):
        PartEncoder(Fine())(np.zeros((1, 6400), np.float32), [(0,)])
    (track, *_) = Store(folder / "store").tracks("train")
    shape = (len(track.record.parts), track.record.frames, 5)
    with StoreWriter(tmp_path / "s", identity_of(LoudnessTokenizer()), {}) as writer:
        for value, why in ((1e-9, "float16"), (np.nan, "float16")):
            with pytest.raises(ValueError, match=why):
                writer.add(track.record, np.full(shape, value), track.levels())
        with pytest.raises(ValueError, match=r"expected \(\d+, 150, 5\)"):
            writer.add(track.record, np.zeros((*shape[:2], 4)), track.levels())


def test_every_field_of_the_space_is_part_of_the_identity(folder):
    other = LoudnessTokenizer()
    other.space = attrs.evolve(other.space, latent_dim=6)
    with pytest.raises(DataError, match="latent_dim 6"):
        loader(folder, other)
