"""Songs for the notebooks: piano, bass and drums of a few chords, written by arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE = 32_000
CHORDS = {"C": (0, 4, 7), "F": (5, 9, 12), "G": (7, 11, 14), "Am": (9, 12, 16)}
"""Semitones above a C of 131 Hz."""
PROGRESSIONS = (["C", "G", "Am", "F"], ["Am", "F", "C", "G"], ["C", "Am", "F", "G"], ["F", "C", "G", "Am"])


def note(key: int, seconds: float) -> np.ndarray:
    """A decaying tone of four harmonics; `key` in semitones above 131 Hz."""
    t = np.arange(int(seconds * RATE)) / RATE
    harmonics = sum(np.sin(2 * np.pi * 130.8 * 2 ** (key / 12) * h * t) / h for h in (1, 2, 3, 4))
    return harmonics * np.exp(-4 * t) * np.minimum(1, 200 * t)


def song(number: int, seconds: float) -> dict[str, np.ndarray]:
    """The stems of a song, float32; the number decides chords, key and tempo."""
    rng = np.random.default_rng(number)
    transpose, beat = int(rng.integers(-3, 4)), float(rng.choice([0.4, 0.5, 0.6]))
    stems = {name: np.zeros(int(seconds * RATE), np.float32) for name in ("piano", "bass", "drums")}

    def put(name: str, start: float, sound: np.ndarray, level: float) -> None:
        at = int(start * RATE)
        length = min(len(sound), len(stems[name]) - at)
        stems[name][at : at + length] += (level * sound[:length]).astype(np.float32)

    for count in range(int(seconds / beat)):
        keys = [key + transpose for key in CHORDS[PROGRESSIONS[number % 4][count // 4 % 4]]]
        put("bass", count * beat, note(keys[0] - 12, beat), 0.3)
        for key in keys:
            put("piano", count * beat, note(key + 12, 2 * beat), 0.08)
        hit = rng.standard_normal(RATE // 3) * np.exp(-np.arange(RATE // 3) / 3000)
        put("drums", count * beat, hit, 0.3 if count % 2 else 0.15)
    return stems


def write_corpus(folder: Path, songs: dict[str, int], seconds: float) -> None:
    """Write songs as a corpus: folder/SPLIT/Song NN/INSTRUMENT.wav, so many of each split."""
    numbers = iter(range(sum(songs.values())))
    for split, count in songs.items():
        for _ in range(count):
            number = next(numbers)
            for name, sound in song(number, seconds).items():
                path = folder / split / f"Song {number:02}" / f"{name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, sound, RATE)
