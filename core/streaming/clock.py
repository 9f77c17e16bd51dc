"""The clock: which input and output frames a prediction may see. The only place where this arithmetic is written.

The chunk of k frames that starts at frame s is predicted from input frames [0, s + t_f) and output frames [0, s).
"""

from __future__ import annotations

from attrs import field, frozen
from attrs import validators as v


@frozen
class Clock:
    """Future visibility t_f and chunk size k, both in codec frames (arXiv 2510.22105, section 3).

    t_f = 0 excludes the current input frame, t_f < 0 predicts ahead, t_f > 0 looks ahead.
    """

    t_f: int = 0
    k: int = field(default=1, validator=v.ge(1))

    def visible(self, s: int) -> int:
        """Number of input frames that the chunk starting at frame s is predicted from: max(0, s + t_f)."""
        return max(0, s + self.t_f)

    def frames_ready(self, n_in: int) -> int:
        """Output steps that may be emitted once input frames [0, n_in) are there; without delay a step is a frame."""
        return 0 if n_in < self.t_f else self.k * ((n_in - self.t_f) // self.k + 1)

    def frames_complete(self, n_in: int, codebooks: int) -> int:
        """Frames of which all `codebooks` levels are there: under the delay pattern level q comes q steps later."""
        return max(0, self.frames_ready(n_in) - (codebooks - 1))

    def inputs_needed(self, n_out: int, codebooks: int = 1) -> int:
        """Smallest n_in with frames_complete(n_in, codebooks) >= n_out; 0 where the output leads the input."""
        if n_out <= 0:
            return 0
        last_chunk = (n_out + codebooks - 2) // self.k * self.k
        return self.visible(last_chunk)

    @property
    def input_padding(self) -> int:
        """Learned input frames in front of the sequence: 1 - t_f for t_f <= 0, none for t_f > 0."""
        return max(0, 1 - self.t_f)

    @property
    def output_padding(self) -> int:
        """PAD steps in front of the output: t_f - 1 for t_f > 0, else none."""
        return max(0, self.t_f - 1)
