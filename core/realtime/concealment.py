"""Concealment of missing output samples with short fades, so that dropouts do not click."""

from __future__ import annotations

import numpy as np


class GapConcealer:
    """Conceals missing samples of an output that comes block by block.

    Where output ends, its last samples are played again backwards, under a gain that falls from 1 to 0 in F samples,
    followed by silence. Where it resumes, its gain rises from 0 to 1 in F samples, mixed with the rest of the falling
    part. With F = 4, a..h the output, and x silence:

        available   a  b  c  d  .  .  .  .  .  .  k  l  m  n  o
        played      a  b  c  d  ¾d ½c ¼b 0  x  x  ¼k ½l ¾m n  o

    All memory is allocated at the start.
    """

    def __init__(self, fade: int, block: int):
        """fade: F samples, at most `block`, the longest block (samples). Raises ValueError for another F."""
        if not 1 <= fade <= block:
            raise ValueError(f"a fade of {fade} samples; expected 1 to {block}, the size of a block")
        steps = np.arange(1, fade + 1, dtype=np.float32) / fade
        self._rise, self._fall = steps, 1 - steps
        self._echo = np.zeros(fade, dtype=np.float32)  # reversed output, with its gain
        self._before = np.zeros(block, dtype=np.float32)  # the end of the played output
        self._echoed = self._risen = fade  # samples of echo and of rising gain so far
        self._silent = False

    def fill(self, out: np.ndarray, there: int) -> None:
        """Conceal out [n], of which out[:there] is available, in place. Only the last block may be a short one."""
        self._raise(out[:there])
        out[there:] = 0
        ends = there < len(out) and (there > 0 or not self._silent)
        self._add_echo(out[:there] if ends else out)
        if ends:
            self._turn(out[:there])
            self._add_echo(out[there:])
        self._silent = there < len(out)
        if self._silent:
            self._risen = 0
        self._before[len(self._before) - len(out) :] = out

    def _raise(self, sound: np.ndarray) -> None:
        count = min(len(sound), len(self._rise) - self._risen)
        np.multiply(sound[:count], self._rise[self._risen : self._risen + count], out=sound[:count])
        self._risen += count

    def _add_echo(self, out: np.ndarray) -> None:
        count = min(len(out), len(self._echo) - self._echoed)
        np.add(out[:count], self._echo[self._echoed : self._echoed + count], out=out[:count])
        self._echoed += count

    def _turn(self, sound: np.ndarray) -> None:
        """Start an echo of the output up to the end of `sound`, the beginning of this block."""
        fade = len(self._echo)
        count = min(fade, len(sound))
        self._echo[:count] = sound[len(sound) - count :][::-1]
        self._echo[count:] = self._before[len(self._before) - (fade - count) :][::-1]
        np.multiply(self._echo, self._fall, out=self._echo)
        self._echoed = 0
