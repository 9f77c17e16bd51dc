"""fad: the Frechet distance against formulas and another implementation, its limit, and what is compared with what."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from scipy import linalg

from accomp.core.audio.loudness import loudness
from accomp.core.errors import EmptyClip, PluginError
from accomp.core.evaluation.frechet import frechet, frechet_of, limit
from accomp.core.types import Take
from accomp.plugins.metrics.fad import FAD

RATE = 8000
GOLDEN = {
    "fad_stem": 5.852157, "fad_stem_inf": 5.853744, "fad_mix": 2.690021, "fad_mix_inf": 2.67898,
    "vectors": 54, "clips": 9,
}  # fmt: skip


class Bands:
    """An embedder that is fast and can be followed: level of eight bands, half a second a patch."""

    sample_rate = RATE
    fingerprint = "bands 1"
    provenance = "levels of eight bands"

    def __init__(self) -> None:
        self.heard: list[np.ndarray] = []

    def embed(self, audio: np.ndarray) -> np.ndarray:
        self.heard.append(audio)
        patches = audio[: len(audio) // 4000 * 4000].reshape(-1, 4000)
        if not len(patches):
            raise ValueError(f"{len(audio)} samples; a patch has 4000")
        power = np.abs(np.fft.rfft(patches)[:, 1:]) ** 2
        return np.log(1e-6 + power.reshape(len(patches), 8, -1).mean(2)).astype(np.float32)


def sound(seed: int, seconds: float = 3.0, colour: float = 0.0, level: float = 0.05) -> np.ndarray:
    """Noise whose steepness changes from second to second and that is coloured by a first-order filter."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(round(seconds * RATE))
    out = np.empty_like(noise)
    for start in range(0, len(noise), RATE // 2):
        part = noise[start : start + RATE // 2]
        a = float(np.clip(colour + 0.2 * rng.standard_normal(), -0.9, 0.9))
        out[start : start + RATE // 2] = part + a * np.r_[0.0, part[:-1]]
    return (level * out).astype(np.float32)


def take(seed: int, colour: float = 0.6, **more: Any) -> Take:
    """A clip whose stem is brighter or duller (`colour`) than the one that was played."""
    audio = {"context": sound(seed), "stem": sound(seed + 100, colour=colour), "truth": sound(seed + 200)} | more
    return Take(id=f"clip {seed}", sample_rate=RATE, instrument=0, **audio)


def judged(takes: list[Take], **config: Any) -> FAD:
    metric = FAD(FAD.Config(**config), embedder=Bands())
    for one in takes:
        metric.update(one)
    return metric


def gaussians(dimensions: int, seed: int = 0) -> tuple[Any, Any, float]:
    """Two ways to draw n points, and the distance of their Gaussians by the formula with a matrix root."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((2, dimensions, dimensions)) / np.sqrt(dimensions)
    shift = 0.3 * rng.standard_normal(dimensions)
    a, b = first @ first.T, second @ second.T
    distance = shift @ shift + np.trace(a + b) - 2 * np.trace(linalg.sqrtm(a @ b)).real

    def draw_a(n: int) -> np.ndarray:
        return rng.standard_normal((n, dimensions)) @ first.T

    def draw_b(n: int) -> np.ndarray:
        return shift + rng.standard_normal((n, dimensions)) @ second.T

    return draw_a, draw_b, float(distance)


# --- the arithmetic ------------------------------------------------------------------------------------------------


def test_two_gaussians_of_one_dimension_have_the_distance_of_the_textbook() -> None:
    a, b = np.array([[0.0], [2.0], [4.0]]), np.array([[7.0], [8.0], [9.0]])  # means 2, 8; deviations 2, 1
    assert frechet(a, b) == pytest.approx(6**2 + (2 - 1) ** 2)


def test_many_points_come_near_the_distance_of_their_gaussians() -> None:
    draw_a, draw_b, distance = gaussians(6)
    assert frechet(draw_a(40000), draw_b(40000)) == pytest.approx(distance, rel=0.03)


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
@pytest.mark.parametrize(("n", "m"), [(60, 45), (12, 90), (90, 12), (9, 7)])
def test_the_package_agrees(n: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """frechet-audio-distance's arithmetic; with fewer points than dimensions (12) its matrix root is less exact."""
    if importlib.util.find_spec("frechet_audio_distance") is None:
        pytest.skip("frechet-audio-distance is not installed")
    for name in ("laion_clap", "encodec", "torchlibrosa", "torchlibrosa.stft", "torchlibrosa.augmentation"):
        monkeypatch.setitem(sys.modules, name, _Anything(name))  # networks of other embeddings
    from frechet_audio_distance import FrechetAudioDistance as Theirs

    draw_a, draw_b, _ = gaussians(12, seed=n)
    a, b = draw_a(n), draw_b(m)
    statistics = [Theirs.calculate_embd_statistics(None, points) for points in (a, b)]
    theirs = Theirs.calculate_frechet_distance(None, *statistics[0], *statistics[1])
    assert frechet(a, b) == pytest.approx(theirs, rel=1e-6 if min(n, m) > 12 else 1e-3)


class _Anything(ModuleType):
    """A module that has whatever is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


def test_a_singular_covariance_is_exact() -> None:
    """Clouds on lines, more dimensions than points: along one direction each, at right angles, nothing overlaps."""
    line = np.linspace(-1, 1, 5)
    a, b = np.zeros((2, 5, 50))
    a[:, 3], b[:, 7] = line, 2 * line
    variance = line.var(ddof=1)
    assert frechet(a, b) == pytest.approx(variance + 4 * variance)
    b[:, 3], b[:, 7] = b[:, 7].copy(), 0.0
    assert frechet(a, b) == pytest.approx(variance)


def test_equal_clouds_have_no_distance_and_order_and_sides_do_not_matter() -> None:
    draw_a, draw_b, _ = gaussians(20)
    for n in (5, 500):
        a, b = 100 + draw_a(n), 100 + draw_b(n)
        assert frechet(a, a[::-1]) == pytest.approx(0, abs=1e-9)
        assert frechet(a, b) == pytest.approx(frechet(b, a))
    with pytest.raises(ValueError, match="1 and 5 points; a covariance needs 2"):
        frechet(draw_a(1), draw_b(5))


def test_the_limit_is_nearer_to_the_truth_than_the_distance() -> None:
    """Over several draws the distance of 24 clips is far too large, its limit nearly right, also where that is 0."""
    draw_a, draw_b, distance = gaussians(16)
    for other, true in ((draw_b, distance), (draw_a, 0.0)):
        sets = [[(draw_a(6), other(6)) for _ in range(24)] for _ in range(20)]
        plain, extrapolated = np.mean([frechet_of(s) for s in sets]), np.mean([limit(s) for s in sets])
        assert plain - true > 0.5
        assert abs(extrapolated - true) < 0.35 * (plain - true)


def test_the_limit_is_no_matter_of_chance_and_zero_where_all_is_equal() -> None:
    draw_a, draw_b, _ = gaussians(5)
    clips = [(draw_a(4), draw_b(4)) for _ in range(9)]
    state = np.random.get_state()[1].tolist()  # noqa: NPY002  # looked at, not drawn from
    assert limit(clips) == limit(clips)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002
    assert limit([(a, a) for a, _ in clips]) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="7 clips; the limit is extrapolated from 8"):
        limit(clips[:7])


# --- the metric ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dull() -> FAD:
    """Nine clips, judged."""
    return judged([take(seed) for seed in range(9)])


def test_golden(dull: FAD) -> None:
    """Stored numbers for fixed sounds, by the shipped arithmetic and levels; they may only change on purpose."""
    assert dull.result() == pytest.approx(GOLDEN, rel=1e-4)


def test_the_true_stem_is_at_no_distance_and_a_duller_one_further_than_a_little_duller(dull: FAD) -> None:
    names = ("fad_stem", "fad_stem_inf", "fad_mix", "fad_mix_inf")
    same, near = (judged([take(i, stem=stem(i)) for i in range(9)]).result() for stem in (truth, a_little_duller))
    assert {name: same[name] for name in names} == pytest.approx(dict.fromkeys(names, 0.0), abs=1e-6)
    far = dull.result()
    for name in names:
        assert 0 < near[name] < far[name]
    assert far["fad_mix"] < far["fad_stem"]  # a part of the mix is the same


def truth(seed: int) -> np.ndarray:
    return sound(seed + 200)


def a_little_duller(seed: int) -> np.ndarray:
    return sound(seed + 100, colour=0.2)


def test_stems_are_heard_as_given_and_mixes_at_the_papers_levels() -> None:
    """Mixes at -18 LUFS, the stem 5 dB over each of the stems that the context is made of."""
    embedder = Bands()
    metric = FAD(FAD.Config(), embedder=embedder)
    one = take(1, stem=sound(5, level=0.004), context=sound(6, level=0.3), stems=4)
    metric.update(one)
    stem, truth, mix, true_mix = embedder.heard
    np.testing.assert_array_equal(stem, one.stem)
    np.testing.assert_array_equal(truth, one.truth)
    assert [loudness(audio, RATE) for audio in (mix, true_mix)] == pytest.approx([-18.0] * 2, abs=0.05)
    parts = np.linalg.lstsq(np.stack([one.context, one.stem], 1), mix, rcond=None)[0]
    levels = [loudness(part * audio, RATE) for part, audio in zip(parts, (one.context, one.stem), strict=True)]
    assert levels[1] - levels[0] == pytest.approx(5 - 10 * np.log10(4), abs=0.1)


@pytest.mark.parametrize("on", [("stem",), ("mix",)])
def test_one_part_alone(on: tuple[Any, ...]) -> None:
    takes = [take(seed) for seed in range(3)]
    whole, part = judged(takes).result(), judged(takes, on=on).result()
    assert set(part) == {f"fad_{on[0]}", "clips", "vectors"}
    assert part.items() <= whole.items()
    for wrong in ((), ("mix", "mix")):
        with pytest.raises(ValueError, match="expected 'stem', 'mix' or both"):
            FAD.Config(on=wrong)


def test_some_takes_order_ids_and_repetition(dull: FAD) -> None:
    takes = [take(seed) for seed in range(8)]
    some = [one.id for one in takes]
    backwards = judged([*takes[::-1], evolve(takes[2], id="a")])
    assert dull.result(some) == pytest.approx(backwards.result(some))
    assert dull.result([*some, some[2]]) == pytest.approx(backwards.result())
    assert dull.result()["clips"] == 9.0
    assert dull.result()["vectors"] == 9 * 6.0
    assert dull.per_take() == {f"clip {seed}": {} for seed in range(9)}
    assert "fad_stem_inf" not in dull.result(some[:7])
    with pytest.raises(ValueError, match="no take"):
        dull.result([])


def test_the_same_sound_is_embedded_once(tmp_path) -> None:
    embedder = Bands()
    metric = FAD(FAD.Config(), embedder=embedder)
    metric.cache_in(tmp_path)
    metric.update(take(1))
    assert len(embedder.heard) == 4
    other = metric.fresh()
    other.update(take(1, stem=sound(7)))
    assert len(embedder.heard) == 6  # the truth, alone and mixed, is known
    assert list(other.per_take()) == list(metric.per_take()) == ["clip 1"]
    again = FAD(FAD.Config(), embedder=Bands())
    again.cache_in(tmp_path)
    again.update(take(1))
    assert again._embedder.heard == []
    assert again.result() == metric.result()


def test_silence_is_empty_and_what_cannot_be_judged_says_why() -> None:
    metric = judged([take(0)])
    silence = np.full(3 * RATE, 5e-4, dtype=np.float32)
    for name, words in (("stem", "the stem is silent"), ("truth", "the true stem is silent")):
        with pytest.raises(EmptyClip, match=words):
            metric.update(take(1, **{name: silence}))
    for changed, words in (
        ({"truth": None}, "no true stem"),
        ({"stem": np.full(3 * RATE, np.nan, np.float32)}, "stem holds NaN"),
        ({name: sound(1, 0.4) for name in ("context", "stem", "truth")}, "a patch has 4000"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            metric.update(take(1, **changed))
        assert not isinstance(caught.value, EmptyClip)
    with pytest.raises(ValueError, match="given twice"):
        metric.update(take(0))
    with pytest.raises(ValueError, match="16000 Hz; expected 8000"):
        metric.update(Take("x", sound(0), sound(1), 16000, 0, sound(2)))
    assert list(metric.per_take()) == ["clip 0"]
    metric.update(take(1, context=np.zeros(3 * RATE, np.float32)))


def test_an_unknown_embedder_is_told() -> None:
    with pytest.raises(PluginError, match=r"no embedder named 'musicn'; did you mean 'musicnn'\?"):
        FAD(FAD.Config(embedding="musicn"))
    with pytest.raises(PluginError, match=r"unknown key 'hopp'; did you mean 'hop'\? @ metric fad: embedding"):
        FAD(FAD.Config(embedding={"plugin": "musicnn", "hopp": 1.0}))
