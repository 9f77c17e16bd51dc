"""Excerpts: chosen by seed alone, different songs first, sounding, never a forbidden target, failures by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accomp.core.audio import io as audio
from accomp.core.data.excerpts import choose, partner
from accomp.core.music.instruments import CLASSES
from accomp.core.spec.pairs import PairRules
from accomp.core.types import Stem, Track

RATE = 16000
RULES = PairRules()
BASS, PIANO, VOCAL = CLASSES.index("Bass"), CLASSES.index("Piano"), CLASSES.index("Vocal")


def tone(frequency: float, seconds: float, sounding: tuple[float, float] = (0, 1e9)) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * frequency * t) * ((t >= sounding[0]) & (t < sounding[1]))).astype(np.float32)


def song(folder: Path, id: str, stems: dict[str, tuple[int, np.ndarray]]) -> Track:
    found = {}
    for name, (instrument, sound) in stems.items():
        path = folder / id / f"{name}.wav"
        audio.write(path, sound, RATE)
        found[name] = Stem(path, instrument, name)
    return Track(id, found, "made up", "CC0")


def songs(folder: Path, count: int, seconds: float = 8.0) -> list[Track]:
    return [
        song(folder, f"song {i}", {"low": (BASS, tone(300 + i, seconds)), "high": (PIANO, tone(900 + i, seconds)),
                                   "voice": (VOCAL, tone(600 + i, seconds))})
        for i in range(count)
    ]  # fmt: skip


def test_different_songs_first_then_other_stems_then_other_places(tmp_path: Path) -> None:
    found, failures = choose(songs(tmp_path, 3), 9, 2.0, seed=1, rules=RULES)
    assert not failures
    assert len({excerpt.id for excerpt in found}) == 9
    assert [len({e.track.id for e in found[i : i + 3]}) for i in (0, 3, 6)] == [3, 3, 3]
    assert {(e.track.id, e.target) for e in found[:6]} == {(f"song {i}", n) for i in range(3) for n in ("low", "high")}


def test_the_choice_depends_on_seed_and_song_alone(tmp_path: Path) -> None:
    tracks = songs(tmp_path, 4)
    found, _ = choose(tracks, 4, 2.0, seed=1, rules=RULES)
    again, _ = choose(tracks[::-1], 4, 2.0, seed=1, rules=RULES)
    fewer, _ = choose(tracks[:2], 2, 2.0, seed=1, rules=RULES)
    other, _ = choose(tracks, 4, 2.0, seed=2, rules=RULES)
    assert found == again
    assert {excerpt.id for excerpt in fewer} <= {excerpt.id for excerpt in found}
    assert found != other


def test_never_a_forbidden_target_but_always_in_the_context(tmp_path: Path) -> None:
    found, _ = choose(songs(tmp_path, 2), 8, 2.0, seed=0, rules=RULES)
    for excerpt in found:
        assert excerpt.target != "voice"
        assert "voice" in excerpt.context
        assert {excerpt.target, *excerpt.context} == set(excerpt.track.stems)


def test_sound_is_the_mean_of_the_others_and_the_target(tmp_path: Path) -> None:
    found, _ = choose(songs(tmp_path, 1), 1, 2.0, seed=0, rules=RULES)
    excerpt = found[0]
    context, target = excerpt.context_audio(RATE), excerpt.stem_audio(RATE)
    begin, end = round(excerpt.start * RATE), round((excerpt.start + 2) * RATE)
    whole = {name: audio.read(stem.path, RATE) for name, stem in excerpt.track.stems.items()}
    np.testing.assert_array_equal(target, whole[excerpt.target][begin:end])
    others = [whole[name][begin:end] for name in excerpt.context]
    np.testing.assert_allclose(context, sum(others) / len(others), atol=1e-7)
    assert len(excerpt.context_audio(32000)) == len(excerpt.stem_audio(32000)) == 64000


@pytest.mark.parametrize("seed", range(5))
def test_both_sides_sound_together(tmp_path: Path, seed: int) -> None:
    track = song(tmp_path, "a", {"low": (BASS, tone(300, 20, (4, 10))), "high": (PIANO, tone(900, 20, (8, 20)))})
    found, _ = choose([track], 20, 2.0, seed=seed, rules=RULES)
    assert found
    assert {excerpt.start for excerpt in found} <= {7.0, 8.0, 9.0}


def test_what_cannot_be_used_is_named_and_others_take_its_place(tmp_path: Path) -> None:
    good = songs(tmp_path, 1)
    short = song(tmp_path, "short", {"a": (BASS, tone(300, 1)), "b": (PIANO, tone(500, 1))})
    uneven = song(tmp_path, "uneven", {"a": (BASS, tone(300, 9)), "b": (PIANO, tone(500, 4))})
    silent = song(tmp_path, "silent", {"a": (BASS, tone(300, 6, (9, 9))), "b": (PIANO, tone(500, 6))})
    sung = song(tmp_path, "sung", {"a": (VOCAL, tone(300, 6)), "b": (VOCAL, tone(500, 6))})
    alone = song(tmp_path, "alone", {"a": (BASS, tone(300, 6))})
    broken = song(tmp_path, "broken", {"a": (BASS, tone(300, 6)), "b": (PIANO, tone(500, 6))})
    broken.stems["b"].path.write_bytes(b"nothing that sounds")
    found, failures = choose([*good, short, uneven, silent, sung, alone, broken], 3, 2.0, seed=0, rules=RULES)
    assert {excerpt.track.id for excerpt in found} == {"song 0"}
    reasons = {failure.clip: failure.reason for failure in failures}
    assert "too short: 1.00 s" in reasons["short"]
    assert "b: lasts 4.00 s where most" in reasons["uneven"]
    assert "cannot read audio" in reasons["broken"]
    assert all("no stem that may be played" in reasons[id] for id in ("silent", "sung"))
    assert "1 of 1 stems can be used" in reasons["alone"]
    assert len(failures) == 6


def test_partners_are_other_songs_stems_of_the_same_class(tmp_path: Path) -> None:
    tracks = songs(tmp_path, 4)
    found, _ = choose(tracks, 8, 2.0, seed=0, rules=RULES)
    for excerpt in found:
        other = partner(excerpt, tracks, seed=0, rules=RULES)
        assert other is not None
        assert other.track.id != excerpt.track.id
        assert other.instrument == excerpt.instrument
        assert other == partner(excerpt, tracks[::-1], seed=0, rules=RULES)
        assert len(other.stem_audio(RATE)) == 2 * RATE
    assert partner(found[0], [found[0].track], seed=0, rules=RULES) is None
    drummer = song(tmp_path, "drums", {"d": (CLASSES.index("Percussive"), tone(200, 6)), "b": (BASS, tone(90, 6))})
    assert partner(found[0], [drummer], seed=0, rules=RULES) is None or found[0].target == "low"


def test_ids_are_safe_names(tmp_path: Path) -> None:
    odd = song(tmp_path, "a b", {"low": (BASS, tone(300, 3)), "high": (PIANO, tone(900, 3))})
    other = Track("../x/ä", odd.stems)
    ids = [excerpt.id for track in (odd, other) for excerpt in choose([track], 4, 2.0, seed=0, rules=RULES)[0]]
    assert len(set(ids)) == len(ids)
    for id in ids:
        assert "/" not in id
        assert not id.startswith(".")
        assert id.isascii()
