"""Codecs heard by an embedder, by metric plugins and by a predictor of codes, and known damage beside them."""

from __future__ import annotations

import json
import math

import attrs
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import soundfile
import torch

from accomp.core.audio.loudness import LISTENING_LUFS, loudness
from accomp.core.errors import DataError, PluginError
from accomp.core.registry import Registry
from accomp.core.types import Stem, TokenSpace, Track
from accomp.plugins.tokenizers.codec.files.resolve import NamedCodec
from accomp.plugins.tokenizers.codec.quality.calibration import (
    MEL_STEP,
    another_song,
    calibrations,
    mel_griffin_lim,
    noisy,
    random_phases,
)
from accomp.plugins.tokenizers.codec.quality.code_use import code_figures
from accomp.plugins.tokenizers.codec.quality.comparison import compare
from accomp.plugins.tokenizers.codec.quality.distances import si_sdr
from accomp.plugins.tokenizers.codec.quality.embedded import ExcerptEmbedder, distances, vectors
from accomp.plugins.tokenizers.codec.quality.excerpts import FILES, MIXES, Music, Sound, Stretch
from accomp.plugins.tokenizers.codec.quality.metric_plugins import metric_named, score_by
from accomp.plugins.tokenizers.codec.quality.onsets import onset_f1
from accomp.plugins.tokenizers.codec.quality.page.document import page
from accomp.plugins.tokenizers.codec.quality.predictability import Predictor, frequencies, learn, training_codes
from accomp.plugins.tokenizers.codec.training.sound.spectral_losses import mel_filters

RATE = 32_000
SMALL = TokenSpace(RATE, 640, 2, 8, 4)
SLOW = TokenSpace(RATE, 6400, 2, 8, 4)
"""5 frames a second: 20 of context."""


def ignored(units: float = 1, *, note: str = "") -> None:
    """Nobody watches."""


class Ear:
    """Two numbers for each tenth of a second: level and zero crossings. Needs half a second."""

    sample_rate, fingerprint, provenance = 8000, "ear", "an ear"

    def __init__(self):
        self.lengths: list[int] = []

    def embed(self, audio: np.ndarray) -> np.ndarray:
        self.lengths.append(len(audio))
        if len(audio) < 4000:
            raise ValueError("half a second is needed")
        parts = audio[: len(audio) // 800 * 800].reshape(-1, 800)
        return np.stack([np.log(parts.std(1) + 1e-6), np.abs(np.diff(np.sign(parts))).mean(1)], 1).astype(np.float32)


class Passes:
    """Gives back what it is given; a stream's and a codec's half alike."""

    def push(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def flush(self) -> None:
        """Nothing is kept."""


class Continuous:
    """Latents without codes: each frame's 640 samples themselves, turned by a gain."""

    space = TokenSpace(RATE, 640, 0, 0, 640)
    name, fingerprint = "continuous", "0"

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(audio, (0, -audio.shape[1] % 640))
        return self.gain * padded.unflatten(1, (-1, 640)).transpose(1, 2)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes.transpose(1, 2).flatten(1)

    def encoder(self, batch: int = 1) -> Passes:
        return Passes()

    decoder = encoder


class Coarse(Continuous):
    """Two levels of eight codes: a frame's level in 6 dB steps, and how many frames ago the stretch began."""

    space = SMALL

    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        level = super().encode(audio).std(1).clamp(min=1e-6)
        coarse = (8 + level.log2()).round().clamp(0, 7).long()
        return torch.stack([coarse, torch.arange(level.shape[1]).expand_as(coarse) % 8], 1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        hum = torch.sin(torch.arange(codes.shape[2] * 640) * 0.05)
        return 2.0 ** (codes[:, 0].repeat_interleave(640, 1) - 8) * hum


def noise(seconds: float = 1.0, seed: int = 0, gain: float = 0.1) -> torch.Tensor:
    return gain * torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Four files of a second: noises and tones of different level."""
    folder = tmp_path_factory.mktemp("music")
    excerpts = []
    for i in range(4):
        sound = noise(1.0, i, 0.02 * (i + 1)) + 0.05 * torch.sin(torch.arange(RATE) * 0.02 * (i + 1))
        soundfile.write(folder / f"{i}.wav", sound.numpy(), RATE, subtype="FLOAT")
        excerpts.append(Stretch(FILES, Sound(f"{i}.wav", ((folder / f"{i}.wav",),)), 0.0, 1.0))
    return Music(tuple(excerpts), (), (), "four files")


# --- the Frechet distance


def plain_frechet(a: np.ndarray, b: np.ndarray) -> float:
    s, t = (np.cov(x.astype(np.float64), rowvar=False) for x in (a, b))
    root = scipy.linalg.sqrtm(s @ t)
    shift = a.mean(0) - b.mean(0)
    return float(shift @ shift + np.trace(s + t - 2 * np.real(root)))


def clouds(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(rng.normal(1, 2, (5, 3)), rng.normal(0, 1, (5, 3))) for _ in range(n)]


def test_fad_is_the_frechet_distance_of_all_points_with_the_jackknifes_interval():
    pairs = clouds(6)

    def plain(chosen):
        return plain_frechet(*(np.concatenate(side) for side in zip(*chosen, strict=True)))

    found = distances([pairs[0], None, *pairs[1:]])
    assert list(found) == ["fad"]
    assert found["fad"].n == 6
    assert found["fad"].value == pytest.approx(plain(pairs))
    without = np.array([plain(pairs[:i] + pairs[i + 1 :]) for i in range(6)])
    half = scipy.stats.t.ppf(0.975, 5) * math.sqrt(5 / 6 * ((without - without.mean()) ** 2).sum())
    assert found["fad"].high - found["fad"].value == pytest.approx(half)
    assert vectors([pairs[0], None, pairs[1]]) == 10


def test_the_limit_takes_eight_excerpts_and_a_distance_two():
    assert list(distances(clouds(8))) == ["fad", "fad_inf"]
    assert distances(clouds(8))["fad_inf"].value < distances(clouds(8))["fad"].value
    assert distances([clouds(1)[0], None]) == {}
    assert distances(clouds(2))["fad"].low is None


def test_both_sounds_are_heard_at_the_embedders_rate_and_the_original_once(music):
    ear = Ear()
    hearing = ExcerptEmbedder(ear)
    decoded = noise(0.9).numpy()
    for _ in range(2):
        got, wanted = hearing.pair(music.excerpts[0], decoded, RATE)
    assert ear.lengths == [7200, 7200, 7200]  # decoded, original, decoded
    assert got.shape == wanted.shape == (9, 2)
    assert hearing.pair(music.excerpts[0], decoded[: RATE // 4], RATE) is None
    assert hearing.failed == {"half a second is needed": 1}


def test_the_original_is_heard_at_listening_level_and_decoded_by_the_same_gain(music):
    heard = []

    class Keeps(Ear):
        def embed(self, audio):
            heard.append(audio)
            return super().embed(audio)

    decoded = 0.5 * music.excerpts[0].read(RATE)
    ExcerptEmbedder(Keeps()).pair(music.excerpts[0], decoded.numpy(), RATE)
    assert loudness(heard[1], 8000) == pytest.approx(LISTENING_LUFS, abs=0.05)
    assert heard[0].std() / heard[1].std() == pytest.approx(0.5, abs=0.01)


# --- what compare tells


@pytest.fixture(scope="module")
def compared(music):
    codecs = [NamedCodec("same", "x", {}, Continuous()), NamedCodec("coarse", "x", {}, Coarse())]
    learnt = learn([Coarse().encode(noise(4.0, 9)[None])[0].numpy()], SMALL, ignored, steps=1)
    known = calibrations(RATE, music)
    return compare(
        codecs,
        music,
        ignored,
        ExcerptEmbedder(Ear()),
        calibration=known,
        predictions={"coarse": learnt},
        players=1,
        listen=0.5,
    )


def test_fad_comes_first_and_a_perfect_copy_has_none(compared):
    record, _ = compared
    same, coarse = (codec["groups"][FILES] for codec in record["codecs"])
    assert next(iter(same["figures"])) == "fad"
    assert same["figures"]["fad"]["value"] == pytest.approx(0, abs=1e-6)
    assert coarse["figures"]["fad"]["value"] > 0.1
    assert (coarse["vectors"], coarse["figures"]["fad"]["n"]) == (40, 4)
    assert record["embedding"] == {"provenance": "an ear", "failed": {}}


def test_continuous_latents_have_no_figures_of_codes(compared):
    record, heard = compared
    same, coarse = record["codecs"]
    names = {name.rpartition("_")[0] for name in coarse["groups"][FILES]["figures"]}
    of_codes = {"codes_used", "perplexity", "entropy", "repeated", "predicted", "frequency"}
    assert of_codes <= names
    assert not of_codes & {name.rpartition("_")[0] for name in same["groups"][FILES]["figures"]}
    assert "bitrate_entropy" not in same["groups"][FILES]["figures"]
    assert same["bitrate"] == 0
    assert "prediction" not in same
    assert coarse["prediction"]["uniform"] == pytest.approx(math.log(8))
    text = page(record, heard)
    assert "continuous latents" in text
    assert "another song" in text
    assert "Predicted: " in text
    json.dumps(record, allow_nan=False)


def test_known_damage_has_every_figure_but_those_of_codes_and_time(compared):
    record, heard = compared
    same = set(record["codecs"][0]["groups"][FILES]["figures"])
    assert [one["label"] for one in record["calibration"]] == [
        "noise 30 dB below", "noise 15 dB below", "exact magnitudes, random phases", "80 mel bands, Griffin-Lim",
        "another song",
    ]  # fmt: skip
    for one in record["calibration"]:
        assert set(one["groups"][FILES]["figures"]) == {name for name in same if "rtf" not in name}
        assert one["groups"][FILES]["frames"] == 0
        assert one["label"] in heard[0].decoded


def test_a_figure_of_sets_hears_of_other_songs_only_that_their_level_is_another(compared):
    record, _ = compared
    figures = {one["label"]: one["groups"][FILES]["figures"] for one in record["calibration"]}
    assert figures["another song"]["fad"]["value"] < 0.2 * figures["exact magnitudes, random phases"]["fad"]["value"]
    assert figures["another song"]["log_mel_db"]["value"] > figures["noise 15 dB below"]["log_mel_db"]["value"]


# --- known damage


@pytest.mark.parametrize("below", [15.0, 30.0])
def test_noise_lies_as_far_below_as_it_says(below):
    sound = noise(seed=1, gain=0.3)
    added = noisy(sound, below) - sound
    assert 20 * math.log10(added.norm() / sound.norm()) == pytest.approx(-below, abs=1e-3)
    assert abs(float(added @ sound) / float(added.norm() * sound.norm())) < 0.03


def test_random_phases_keep_the_spectrum_and_lose_waveform_and_level():
    t = torch.arange(RATE) / RATE
    sound = 0.3 * torch.sin(2 * torch.pi * 1000 * t) + noise(gain=0.001)
    made = random_phases(sound, RATE)
    assert len(made) == len(sound)
    assert si_sdr(made, sound) < 0
    spectrum = torch.fft.rfft(made).abs().square()
    assert spectrum[900:1100].sum() > 0.95 * spectrum.sum()
    # four windows overlap: incoherent sums of a noise's magnitudes have half its level
    assert float(random_phases(noise(4.0), RATE).std() / noise(4.0).std()) == pytest.approx(0.5, abs=0.05)


def test_griffin_lim_gives_back_the_mel_bands_and_not_the_waveform():
    sound = torch.cat([noise(0.5, 1), 0.01 * noise(0.5, 2)]) + 0.1 * torch.sin(torch.arange(RATE) * 0.3)
    made = mel_griffin_lim(sound, RATE)
    filters = mel_filters(80, 1281, RATE)
    window = torch.hann_window(2560)
    bands = [
        filters @ torch.stft(x, 2560, round(MEL_STEP * RATE), window=window, return_complex=True).abs()
        for x in (made, sound)
    ]
    assert float((bands[0] - bands[1]).norm() / bands[1].norm()) < 0.25
    assert si_sdr(made, sound) < 0


def test_another_song_is_the_next_one_of_the_group(music):
    first, second, *_, last = music.excerpts
    assert torch.equal(another_song(first, music, RATE), second.read(RATE))
    assert torch.equal(another_song(last, music, RATE), first.read(RATE))
    same_song = attrs.evolve(
        music, excerpts=tuple(attrs.evolve(one, sound=attrs.evolve(one.sound, song="a")) for one in music.excerpts)
    )
    with pytest.raises(DataError, match="no other song than a @ four files"):
        another_song(same_song.excerpts[0], same_song, RATE)
    assert "another song" not in [one.label for one in calibrations(RATE, same_song)]
    mixed = attrs.evolve(same_song, excerpts=(*same_song.excerpts, attrs.evolve(last, group=MIXES)))
    assert torch.equal(another_song(mixed.excerpts[0], mixed, RATE), last.read(RATE))


# --- onsets


def clicks(*times: float) -> np.ndarray:
    sound = np.zeros(3 * RATE, np.float32)
    burst = np.random.default_rng(0).normal(0, 0.3, 800) * np.exp(-np.arange(800) / 200)
    for time in times:
        sound[round(time * RATE) : round(time * RATE) + 800] = burst
    return sound


def test_onsets_are_matched_one_to_one_within_fifty_milliseconds():
    original = clicks(0.5, 1.0, 1.5, 2.0)
    assert onset_f1(original, original, RATE) == 1
    assert onset_f1(clicks(0.475, 1.025, 1.525, 2.025), original, RATE) == 1
    assert onset_f1(clicks(0.6, 1.1, 1.6, 2.1), original, RATE) == 0
    assert onset_f1(clicks(0.5, 1.0, 1.5), original, RATE) == pytest.approx(2 * 1 * 0.75 / 1.75)
    assert onset_f1(clicks(0.5, 0.75, 1.0, 1.25, 1.5, 2.0), original, RATE) == pytest.approx(2 * (4 / 6) / (4 / 6 + 1))
    assert onset_f1(clicks(), original, RATE) == 0
    assert onset_f1(original, clicks(), RATE) is None


# --- codes


def test_repeated_codes_and_entropy_are_counted_by_hand():
    codes = [np.array([[1, 1, 1, 2], [0, 1, 2, 3]]), np.array([[5, 5, 1, 1], [3, 3, 2, 2]])]
    found = code_figures(codes, SMALL)
    assert found["repeated_1"].value == pytest.approx((2 + 2) / 6)
    assert found["repeated_2"].value == pytest.approx((0 + 2) / 6)
    shares = np.array([5, 1, 2]) / 8
    assert found["entropy_1"].value == pytest.approx(-(shares * np.log(shares)).sum())
    both = found["entropy_1"].value + found["entropy_2"].value
    assert found["bitrate_entropy"].value == pytest.approx(50 * both / math.log(2))


def test_a_code_is_predicted_from_those_before_it_alone():
    torch.manual_seed(0)
    predictor = Predictor(3, 8, 10).eval()
    codes = torch.randint(8, (1, 3, 10), generator=torch.Generator().manual_seed(1))
    changed = codes.clone()
    changed[0, 1, 4] = (codes[0, 1, 4] + 1) % 8
    moved = torch.stack(
        [(a - b).abs().amax(-1)[0] > 0 for a, b in zip(predictor(codes), predictor(changed), strict=True)]
    )
    expected = torch.zeros(3, 10, dtype=torch.bool)
    expected[2, 4] = True  # the level after it, in its own frame
    expected[:, 5:] = True  # and all of later frames
    assert torch.equal(moved, expected)
    by_hand = -torch.log_softmax(predictor(codes)[2][0, 7], -1)[codes[0, 2, 7]]
    assert predictor.nats(codes)[0, 2, 7].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_what_can_be_learnt_is_learnt_and_what_cannot_costs_its_entropy():
    rng = np.random.default_rng(0)

    def piece(n: int) -> np.ndarray:
        """Level 1 counts up; level 2 is at random one of two."""
        return np.stack([(np.arange(n) + rng.integers(8)) % 8, rng.integers(2, size=n)])

    learnt = learn([piece(400) for _ in range(4)], SLOW, ignored, steps=60)
    held_out = [piece(50) for _ in range(2)]
    found = learnt.figures(held_out)
    assert found["predicted_1"].value < 0.6  # ln 8 for the first frame of each stretch of 20, next to nothing after it
    assert found["predicted_2"].value == pytest.approx(math.log(2), abs=0.1)
    assert found["frequency_1"].value == pytest.approx(math.log(8), abs=0.05)
    assert learnt.seconds == pytest.approx(4 * 400 / 5)
    with pytest.raises(DataError, match="no music to train the predictor on"):
        learn([], SLOW, ignored)


def test_learning_is_repeatable_and_leaves_the_random_state_alone():
    codes = [np.random.default_rng(0).integers(8, size=(2, 300))]
    state = torch.random.get_rng_state()
    first, second = (learn(codes, SLOW, ignored, steps=2) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(
        torch.equal(a, b) for a, b in zip(first.predictor.parameters(), second.predictor.parameters(), strict=True)
    )


def test_code_frequencies_have_one_added_to_every_count():
    shares = frequencies([np.array([[0, 0, 1], [7, 7, 7]])], SMALL)
    np.testing.assert_allclose(shares[0], np.array([3, 2, 1, 1, 1, 1, 1, 1]) / 11)
    np.testing.assert_allclose(shares[1], np.array([1, 1, 1, 1, 1, 1, 1, 4]) / 11)


class Songs:
    """Two songs to learn from, a second of two stems each, and one that cannot be read."""

    splits, problems = ("train",), []

    def __init__(self, music: Music, folder):
        paths = [one.sound.stems[0][0] for one in music.excerpts]
        (folder / "broken.wav").write_bytes(b"no sound")
        self.stems = [paths[:2], paths[2:], [folder / "broken.wav"]]

    def tracks(self, split: str):
        for i, paths in enumerate(self.stems):
            yield Track(f"song {i}", {str(j): Stem(path, 0) for j, path in enumerate(paths)})


def test_training_codes_are_those_of_the_middle_of_each_mix(music, tmp_path):
    pieces, failed = training_codes(Songs(music, tmp_path), "train", Coarse(), 3 * 0.6 / 60, ignored)
    assert len(pieces) == 2
    assert len(failed) == 1
    assert failed[0].startswith("song 2: ")
    first, second = (one.read(RATE) for one in music.excerpts[:2])
    middle = ((first + second) / 2)[round(0.2 * RATE) : round(0.8 * RATE)]
    np.testing.assert_array_equal(pieces[0], Coarse().encode(middle[None])[0].numpy())


# --- metric plugins


def test_a_metric_hears_decoded_as_take_and_the_original_as_truth(music):
    registry = Registry(third_party=False)
    found = {}
    for gain in (1.0, 1e-4):
        codec = Continuous(gain)
        judge = metric_named('silence_share={"silence_db": -50.0}', registry, codec.space)
        found[gain] = score_by(judge, "silence_share", codec, music, ignored)
    assert found[1.0]["numbers"]["silence_share"] == 0
    assert found[1e-4]["numbers"]["silence_share"] == 1
    assert found[1.0]["judged"] == 4


def test_a_metric_that_cannot_judge_says_so(music):
    registry = Registry(third_party=False)
    for text, words in (
        ("token", "cannot compare decoded and original: it needs losses"),
        ("cocola", "weights"),
        ("fad={", "not JSON"),
        ('fad={"on": ["nothing"]}', "on"),
    ):
        with pytest.raises(PluginError, match=words):
            metric_named(text, registry, SMALL)
    judge = metric_named("fad", registry, SMALL)
    with pytest.raises(PluginError, match=r"'fad' has no numbers of these excerpts: Files, 0\.wav: .*musicnn needs"):
        score_by(judge, "fad", Continuous(), music, ignored)
