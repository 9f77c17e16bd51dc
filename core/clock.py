"""The clock: the input and output frames that a prediction may use. This arithmetic is written nowhere else.

The chunk of k frames that starts at frame s is predicted from input frames [0, s + t_f) and output frames [0, s).
"""

from __future__ import annotations

import math

from attrs import evolve, field, frozen
from attrs import validators as v

from accomp.core.types import TokenSpace


@frozen
class Clock:
    """Future visibility t_f and chunk size k, both in codec frames (arXiv 2510.22105, section 3).

    t_f = 0 excludes the current input frame, t_f < 0 predicts ahead, t_f > 0 looks ahead.
    """

    t_f: int = field(default=0, validator=[v.ge(-100_000), v.le(100_000)])
    k: int = field(default=1, validator=[v.ge(1), v.le(10_000)])

    def visible(self, s: int) -> int:
        """Count the input frames that the chunk starting at frame s is predicted from: max(0, s + t_f)."""
        return max(0, s + self.t_f)

    def frames_ready(self, n_in: int) -> int:
        """Count the output steps that may be emitted once input frames [0, n_in) are available; without a delay pattern
        a step is a frame.
        """
        return 0 if n_in < self.t_f else self.k * ((n_in - self.t_f) // self.k + 1)

    def frames_complete(self, n_in: int, codebooks: int) -> int:
        """Count the frames with all `codebooks` levels emitted: under the delay pattern level q comes q steps later."""
        return max(0, self.frames_ready(n_in) - (codebooks - 1))

    def inputs_needed(self, n_out: int, codebooks: int = 1) -> int:
        """Return the smallest n_in with frames_complete(n_in, codebooks) >= n_out; 0 where the output leads."""
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


@frozen
class LatencyBudget:
    """Test of live use on a machine: measured times against the time that t_f and k leave.

    Output sample n belongs to input sample n. It needs frame (n + delay) // hop of the output, whose last level comes K
    - 1 steps later and depends on t_f + K - 1 further frames of the input, each `lookahead` samples late. So at worst

        -t_f frames >= (K - 1) frames + lookahead + delay + input + encode + first + decode + output + jitter

    must hold (the deployable region), and generating and coding may take at most `rho` of the time. All in seconds.

    Attributes:
        encode, decode: codec time for one frame.
        first: from a frame's latents to the codes they complete: one step where k = 1, a chunk where it is emitted
            whole.
        chunk: time to generate k frames.
        input, output: buffers of the sound device.
        jitter: excess of the slowest step over the usual one (p99.9).
        rho: largest allowed share of real time. Below 1 there is room to catch up after a late step.
    """

    clock: Clock
    space: TokenSpace
    encode: float
    first: float
    chunk: float
    decode: float
    input: float = 0.0
    output: float = 0.0
    jitter: float = 0.0
    rho: float = 1.0

    @property
    def frame(self) -> float:
        """Duration of a codec frame."""
        return self.space.hop / self.space.sample_rate

    @property
    def structural(self) -> float:
        """Delay of delay pattern and codec on any machine: K - 1 frames, the lookahead, the decoder's delay.

        Latents have no delay pattern: a frame is complete when its block is.
        """
        samples = (self.space.levels - 1) * self.space.hop + self.space.lookahead + self.space.delay
        return samples / self.space.sample_rate

    @property
    def algorithmic(self) -> float:
        """Lag of the output behind the input on an infinitely fast machine; negative where it leads."""
        return self.structural + self.clock.t_f * self.frame

    @property
    def required(self) -> float:
        """The right side of the inequality: structural and measured times together."""
        measured = self.input + self.encode + self.first + self.decode + self.output + self.jitter
        return self.structural + measured

    @property
    def available(self) -> float:
        """The left side: the time that a negative t_f leaves; negative for t_f > 0."""
        return -self.clock.t_f * self.frame

    @property
    def load(self) -> float:
        """Share of real time that generating and coding take; above 1 the machine falls behind without bound."""
        return self.chunk / (self.clock.k * self.frame) + (self.encode + self.decode) / self.frame

    @property
    def deployable(self) -> bool:
        """True where both conditions hold."""
        return self._keeps_up() and self.clock.t_f <= self._latest_t_f()

    @property
    def nearest_t_f(self) -> int | None:
        """The greatest t_f (frames) up to the clock's that is deployable; None where the load excludes all."""
        return min(self.clock.t_f, self._latest_t_f()) if self._keeps_up() else None

    @property
    def nearest(self) -> Clock | None:
        """The nearest deployable clock: another t_f, else also a smaller k, else None.

        A chunk takes k rows with input and k - 1 without (session.py), so the load falls with k. Times at another k are
        extrapolated from those at this one, with equal time a row. A block of latents takes the same number of forward
        passes for any k, so a smaller k does not help there and none is returned.
        """
        if self.space.continuous:
            return None if self.nearest_t_f is None else Clock(self.nearest_t_f, self.clock.k)
        for k in range(self.clock.k, 0, -1):
            rows, first = (2 * k - 1) / (2 * self.clock.k - 1), k / self.clock.k
            other = evolve(self, clock=evolve(self.clock, k=k), first=self.first * first, chunk=self.chunk * rows)
            if other.nearest_t_f is not None:
                return Clock(other.nearest_t_f, k)
        return None

    def _keeps_up(self) -> bool:
        return round(self.load - self.rho, 9) <= 0

    def _latest_t_f(self) -> int:
        return -math.ceil(round(self.required / self.frame, 6))

    def verdict(self) -> str:
        """Describe the result in one sentence with the numbers and the nearest deployable clock."""
        numbers = (
            f"t_f = {self.clock.t_f} frames leaves {1000 * self.available:.0f} ms of the {1000 * self.required:.0f} ms "
            f"needed ({self.required / self.frame:.1f} frames); the machine is busy {self.load:.0%} of the time"
        )
        if self.rho < 1:
            numbers += f", of {self.rho:.0%} at most"
        if self.deployable:
            return f"can be played live: {numbers}"
        nearest = self.nearest
        if nearest is None:
            return f"cannot be played live at any t_f: {numbers}; use a smaller model or a faster machine"
        if nearest.k == self.clock.k:
            return f"cannot be played live: {numbers}; t_f = {nearest.t_f} frames could be"
        return f"cannot be played live at any t_f: {numbers}; t_f = {nearest.t_f}, k = {nearest.k} frames could be"


def block_waits(space: TokenSpace, block: int) -> tuple[float, float]:
    """Return the worst-case delays (s) of input and output in blocks of `block` samples: LatencyBudget's `input` and
    `output`.

    A frame is available at the end of the block that holds its last sample and the lookahead; its output is played from
    the beginning of the block that holds its first sample, `delay` samples earlier. Both lie anywhere in a block that
    the greatest common divisor of block and hop allows.
    """
    common = math.gcd(space.hop, block)
    arrival, departure = -space.lookahead % common, -space.delay % common
    return (block - common + arrival) / space.sample_rate, (block - common + departure) / space.sample_rate
