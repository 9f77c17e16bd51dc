"""Clips as metrics hear them: the judged part alone, at the papers' loudness or as played, silence left silent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
from attrs import define, frozen

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import LISTENING_LUFS, loudness
from accomp.core.evaluation.anchors import ANCHORS
from accomp.core.evaluation.clip_sets import ClipSet
from accomp.core.evaluation.clips import Hearing, PreparedClip, at_loudness
from accomp.core.spec.sections import CELLS, OF_TAKES, EvaluateSpec
from accomp.core.types import Take

RATE = 32000


def noise(seed: int, level: float = 0.05) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-level, level, RATE).astype(np.float32)


@frozen
class Clip:
    take: Take
    id: str = "clip"
    instrument: int = 0

    def load(self, rate: int) -> Take:
        assert rate == RATE
        return self.take

    def identity(self) -> Any:
        return self.id


@define
class Wants:
    sample_rate: int = RATE
    as_played: bool = False
    needs: frozenset[str] = frozenset()


def heard(take: Take, **hearing: Any) -> PreparedClip:
    return PreparedClip(Clip(take), ClipSet("c", "c", ()), Hearing(RATE, **hearing))


TAKE = Take("clip", noise(0), noise(1, 0.5), RATE, 3, noise(2, 0.01), stems=4)


def by(heard: PreparedClip, **wants: Any) -> Take:
    return heard.by(Wants(**wants))  # type: ignore[arg-type]


def test_every_sound_is_set_to_the_loudness_by_itself_and_nothing_else_changes() -> None:
    made = by(heard(TAKE, loudness=-18.0))
    for sound, before in ((made.context, TAKE.context), (made.stem, TAKE.stem), (made.truth, TAKE.truth)):
        assert sound is not None
        assert before is not None
        assert loudness(sound, RATE) == pytest.approx(-18.0, abs=1e-3)
        np.testing.assert_allclose(sound / sound.std(), before / before.std(), atol=1e-5)
    assert (made.id, made.instrument, made.stems, made.sample_rate) == ("clip", 3, 4, RATE)
    plain = by(heard(TAKE))
    np.testing.assert_array_equal(plain.stem, TAKE.stem)


def test_a_metric_to_which_levels_matter_hears_them() -> None:
    one = heard(TAKE, loudness=-18.0)
    np.testing.assert_array_equal(by(one, as_played=True).stem, TAKE.stem)
    assert loudness(by(one).stem, RATE) == pytest.approx(-18.0, abs=1e-3)
    half = by(one, as_played=True, sample_rate=16000)
    assert len(half.stem) == RATE // 2
    assert half.sample_rate == 16000
    np.testing.assert_array_equal(half.stem, audio.resample(TAKE.stem, RATE, 16000))


def test_the_beginning_that_was_given_is_not_heard() -> None:
    made = by(heard(TAKE, skip=6400))
    for sound, before in ((made.context, TAKE.context), (made.stem, TAKE.stem), (made.truth, TAKE.truth)):
        assert sound is not None
        assert before is not None
        np.testing.assert_array_equal(sound, before[6400:])
    loud = attrs.evolve(TAKE, stem=np.concatenate([noise(3, 0.9)[:16000], noise(4, 0.01)[16000:]]))
    made = by(heard(loud, skip=16000, loudness=-18.0))
    assert loudness(made.stem, RATE) == pytest.approx(-18.0, abs=1e-3), "its loudness is that of the judged part"


def test_silence_stays_silent() -> None:
    soft = noise(0, 1e-3)
    assert loudness(soft, RATE) > -70, "the standard's own gate would let it pass"
    for sound in (np.zeros(RATE, dtype=np.float32), soft):
        made = at_loudness(sound, RATE, -18.0)
        np.testing.assert_array_equal(made, sound)
        assert np.isfinite(made).all()
    faint = noise(0, 0.01)
    assert loudness(at_loudness(faint, RATE, -18.0), RATE) == pytest.approx(-18.0, abs=1e-3)


def test_losses_are_asked_for_by_who_needs_them_once() -> None:
    asked: list[str] = []

    def losses(id: str) -> dict[str, Any]:
        asked.append(id)
        return {"own": SimpleNamespace()}

    one = PreparedClip(Clip(TAKE), ClipSet("c", "c", (), losses=losses), Hearing(RATE))
    assert by(one).losses is None
    assert not asked
    for _ in range(2):
        assert by(one, needs=frozenset({"losses"})).losses is not None
    assert asked == ["clip"]
    assert by(heard(TAKE), needs=frozenset({"losses"})).losses is None


def test_the_spec_s_defaults_are_those_of_the_papers() -> None:
    assert EvaluateSpec().loudness == LISTENING_LUFS
    assert EvaluateSpec().cells == CELLS == (*OF_TAKES, *ANCHORS)
