"""Chord charts: parsing of text to bars of chords, and their features frame by frame.

    C Am F G                    one chord a bar
    | C Am | F / / G | % |      bar lines: chords share a bar evenly, / extends the last by a share, % repeats a bar
    |: Dm7 | G7 :| Cmaj7 |      repeats; :| x3 plays three times
    N.C.                        no chord
    [Am]words [G]in [F]between  ChordPro: the chords in brackets, one a bar; words and {directives} are ignored

A chart begins with the first downbeat and repeats for as long as the music continues.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from attrs import frozen

from accomp.core.music.annotations import Annotations, Beats
from accomp.core.music.chords import Chord, chord_named
from accomp.core.music.timelines import WIDTHS, Source, bar_at, frame_times

_TOKEN = re.compile(r"\|:|:\|(?:\s*x\s*(\d+))?|\|\||\||%|/|[A-G][#b]*:(?!\|)[^\s|%]+|[^\s|:%/][^\s|:%]*")
_BRACKETED = re.compile(r"\[([^\]]*)\]")
MOST_REPEATS = 64


@frozen
class Chart:
    """A chord chart.

    Attributes:
        bars: chords of each by name, which share it evenly; an extended chord is repeated.
    """

    bars: tuple[tuple[str, ...], ...]

    def chord_at(self, bar: int, share: float) -> Chord:
        """Return the chord at a phase (0 to 1) of a bar; bars beyond the last repeat, bars before the first are
        none.
        """
        if bar < 0:
            return Chord()
        chords = self.bars[bar % len(self.bars)]
        return chord_named(chords[min(int(share * len(chords)), len(chords) - 1)])


def read_chart(text: str) -> Chart:
    """Parse a chart. Raises ValueError, naming the place, for invalid text, and for an empty one."""
    if _BRACKETED.search(text):
        return _chordpro(text)
    bars: list[list[str]] = []
    current: list[str] = []
    lined = "|" in text
    repeat: int | None = None

    def close() -> None:
        nonlocal current
        if current:
            bars.append(current)
        current = []

    for match in _TOKEN.finditer(_checked(text)):
        token = match[0]
        if token.startswith(":|"):
            close()
            times = int(match[1] or 2)
            if not 1 <= times <= MOST_REPEATS:
                raise ValueError(
                    f"a repeat of {times} times {_where(text, match.start())}; expected 1 to {MOST_REPEATS}"
                )
            bars += bars[repeat or 0 :] * (times - 1)
            repeat = None
        elif token.startswith("|"):
            close()
            repeat = len(bars) if token == "|:" else repeat
        elif token == "%":
            close()
            if not bars:
                raise ValueError(f"% {_where(text, match.start())} repeats the bar before, and there is none")
            bars.append(list(bars[-1]))
        elif token == "/":
            if not current:
                raise ValueError(f"/ {_where(text, match.start())} holds the chord before it in the bar: there is none")
            current.append(current[-1])
        else:
            current.append(_chord(token, text, match.start()))
            if not lined:
                close()
    close()
    return _whole(bars, text)


def source_of(chart: Chart, annotations: Annotations, frame_rate: float, start: float = 0.0) -> Source:
    """Return the timeline of a chart for a session whose frame 0 is `start` seconds into the annotated beats, with
    bars.

    Raises ValueError where no bars are known, since chords have no times then.
    """
    beats = annotations.beats
    if beats is None or not beats.bar:
        raise ValueError("a chart needs a metronome with bars, to say when its chords come, such as 120bpm/4")
    return lambda first, frames: _values(chart, beats, frame_times(first, frames, frame_rate, start))


def _values(chart: Chart, beats: Beats, times: np.ndarray) -> np.ndarray:
    values = np.zeros((len(times), WIDTHS["chart"]), np.float32)
    for row, (bar, share) in enumerate(zip(*bar_at(beats, times), strict=True)):
        if bar >= 0:
            values[row] = [1.0, *chart.chord_at(int(bar), float(share)).values()]
    return values


def _chordpro(text: str) -> Chart:
    found = [(match[1].strip(), match.start()) for match in _BRACKETED.finditer(text)]
    return _whole([[_chord(name, text, at)] for name, at in found if name], text)


def _whole(bars: Sequence[Sequence[str]], text: str) -> Chart:
    if not bars:
        raise ValueError(f"no chord in the chart {text.strip()!r}; expected some, such as C Am F G")
    return Chart(tuple(tuple(bar) for bar in bars))


def _checked(text: str) -> str:
    """Return the text after a check that every character is part of a token or white space."""
    if wrong := re.search(r"\S", _TOKEN.sub(lambda match: " " * len(match[0]), text)):
        raise ValueError(f"{wrong[0]!r} {_where(text, wrong.start())} means nothing in a chart")
    return text


def _chord(name: str, text: str, at: int) -> str:
    try:
        chord_named(name)
    except ValueError as error:
        raise ValueError(f"{error} {_where(text, at)}") from None
    return name


def _where(text: str, at: int) -> str:
    line = text.count("\n", 0, at)
    column = at - (text.rfind("\n", 0, at) + 1)
    return f"@ line {line + 1}, character {column + 1} of the chart"
