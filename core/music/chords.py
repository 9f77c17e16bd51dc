"""Chord names: in the notation of C. Harte et al. (A symbolic representation of musical chords, ISMIR 2005) and in
common notation, as twelve pitch classes and a bass.
"""

from __future__ import annotations

import re

from attrs import frozen

CLASSES = 12
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_DEGREES = {1: 0, 2: 2, 3: 4, 4: 5, 5: 7, 6: 9, 7: 11, 9: 14, 10: 16, 11: 17, 12: 19, 13: 21}
_QUALITIES = {
    "maj": (0, 4, 7), "min": (0, 3, 7), "dim": (0, 3, 6), "aug": (0, 4, 8), "5": (0, 7), "1": (0,),
    "maj7": (0, 4, 7, 11), "min7": (0, 3, 7, 10), "7": (0, 4, 7, 10), "dim7": (0, 3, 6, 9), "hdim7": (0, 3, 6, 10),
    "minmaj7": (0, 3, 7, 11), "aug7": (0, 4, 8, 10), "augmaj7": (0, 4, 8, 11), "maj6": (0, 4, 7, 9),
    "min6": (0, 3, 7, 9), "9": (0, 4, 7, 10, 14), "maj9": (0, 4, 7, 11, 14), "min9": (0, 3, 7, 10, 14),
    "11": (0, 4, 7, 10, 14, 17), "min11": (0, 3, 7, 10, 14, 17), "maj11": (0, 4, 7, 11, 14, 17),
    "13": (0, 4, 7, 10, 14, 21), "min13": (0, 3, 7, 10, 14, 21), "maj13": (0, 4, 7, 11, 14, 21),
    "sus2": (0, 2, 7), "sus4": (0, 5, 7), "7sus4": (0, 5, 7, 10), "9sus4": (0, 5, 7, 10, 14), "maj69": (0, 4, 7, 9, 14),
    "7b5": (0, 4, 6, 10), "7b9": (0, 4, 7, 10, 13), "7#9": (0, 4, 7, 10, 15), "7#11": (0, 4, 7, 10, 18),
    "7b13": (0, 4, 7, 10, 20), "add9": (0, 4, 7, 14), "minadd9": (0, 3, 7, 14),
}  # fmt: skip
_PLAYED = {
    "": "maj", "m": "min", "M": "maj", "-": "min", "mi": "min", "ma": "maj", "major": "maj", "minor": "min",
    "M7": "maj7", "ma7": "maj7", "Maj7": "maj7", "j7": "maj7", "^": "maj7", "^7": "maj7", "Δ": "maj7", "Δ7": "maj7",
    "m7": "min7", "-7": "min7", "mi7": "min7", "°": "dim", "o": "dim", "°7": "dim7", "o7": "dim7", "+": "aug",
    "+7": "aug7", "7+": "aug7", "7#5": "aug7", "ø": "hdim7", "ø7": "hdim7", "m7b5": "hdim7", "-7b5": "hdim7",
    "min7b5": "hdim7", "6": "maj6", "m6": "min6", "-6": "min6", "69": "maj69", "6/9": "maj69", "m9": "min9",
    "-9": "min9", "M9": "maj9", "^9": "maj9", "m11": "min11", "-11": "min11", "m13": "min13", "M13": "maj13",
    "sus": "sus4", "2": "sus2", "4": "sus4", "7sus": "7sus4", "9sus": "9sus4", "mM7": "minmaj7", "m(maj7)": "minmaj7",
    "mMaj7": "minmaj7", "-^7": "minmaj7", "madd9": "minadd9", "alt": "7#9", "7alt": "7#9", "maj7#5": "augmaj7",
}  # fmt: skip
"""Common chord suffix -> its name above."""
_HARTE = re.compile(
    r"(?P<root>[A-G][#b]*)(?::(?P<quality>[^/()]*)(?:\((?P<degrees>[^)]*)\))?)?(?:/(?P<bass>[#b]*\d+))?"
)
_MUSICIANS = re.compile(r"(?P<root>[A-G](?:##?|bb?|♯|♭)?)(?P<quality>.*?)(?:/(?P<bass>[A-G](?:##?|bb?|♯|♭)?))?")
NONE = "N"


@frozen
class Chord:
    """A chord as pitch classes.

    Attributes:
        notes: pitch classes (C = 0) that sound, ascending.
        bass: the lowest one; None for no chord.
    """

    notes: tuple[int, ...] = ()
    bass: int | None = None

    def values(self) -> list[float]:
        """Return 24 numbers: 1 at the pitch classes that sound, then 1 at the bass."""
        return [float(c in self.notes) for c in range(CLASSES)] + [float(c == self.bass) for c in range(CLASSES)]


def chord_named(name: str) -> Chord:
    """Parse a chord name by Harte ("C:maj7", "A:min/b3", "D:maj(9)") or in common notation ("Cmaj7", "F#m7b5/E").

    "N", "N.C." and "NC" are no chord; "X" (an unnamed chord) counts as such. Raises ValueError, with the name.
    """
    if name in (NONE, "X", "NC", "N.C."):
        return Chord()
    found = _harte(name) if ":" in name else _musicians(name)
    if found is None:
        raise ValueError(f"no chord is called {name!r}; expected one such as C, Am7, F#m7b5, Bb/D, or C:maj7")
    return found


def _harte(name: str) -> Chord | None:
    match = _HARTE.fullmatch(name)
    if not match:
        return None
    root = _pitch(match["root"])
    quality = match["quality"] or ("1" if match["degrees"] else "maj")
    if quality not in _QUALITIES:
        return None
    tones = set(_QUALITIES[quality])
    for degree in filter(None, (part.strip() for part in (match["degrees"] or "").split(","))):
        if (tone := _degree(degree.removeprefix("*"))) is None:
            return None
        (tones.discard if degree.startswith("*") else tones.add)(tone)
    bass = _degree(match["bass"]) if match["bass"] else 0
    return None if bass is None else _chord(root, tones, root + bass)


def _musicians(name: str) -> Chord | None:
    match = _MUSICIANS.fullmatch(name)
    if not match:
        return None
    written = match["quality"]
    quality = written if written in _QUALITIES else _PLAYED.get(written)
    if quality is None and written.startswith("(") and written.endswith(")"):
        quality = written[1:-1]
    if quality not in _QUALITIES:
        return None
    root = _pitch(match["root"])
    return _chord(root, set(_QUALITIES[quality]), _pitch(match["bass"]) if match["bass"] else root)


def _chord(root: int, tones: set[int], bass: int) -> Chord:
    notes = {(root + tone) % CLASSES for tone in tones} | {bass % CLASSES}
    return Chord(tuple(sorted(notes)), bass % CLASSES)


def _pitch(note: str) -> int:
    """Parse "F#" to 6."""
    signs = note[1:].replace("♯", "#").replace("♭", "b")
    return (_STEPS[note[0]] + signs.count("#") - signs.count("b")) % CLASSES


def _degree(text: str) -> int | None:
    """Parse "b3" to 3 semitones above the root; None for an unknown degree."""
    match = re.fullmatch(r"([#b]*)(\d+)", text)
    if not match or int(match[2]) not in _DEGREES:
        return None
    return _DEGREES[int(match[2])] + match[1].count("#") - match[1].count("b")
