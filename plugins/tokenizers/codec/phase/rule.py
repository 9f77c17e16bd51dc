"""What every phase rule has: streams whose state is one tensor, in which zeros are silence before the beginning."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from accomp.plugins.tokenizers.codec.phase.framing import Framing


def checked(rounds: int, tolerance: float) -> tuple[int, float]:
    """Both. Raises ValueError for `rounds` below 0 or a `tolerance` outside [0, 1)."""
    if rounds < 0 or not 0 <= tolerance < 1:
        raise ValueError(f"rounds = {rounds}, tolerance = {tolerance}; expected rounds from 0, a tolerance in [0, 1)")
    return rounds, float(tolerance)


class PhaseRule(ABC):
    """magnitudes, as they come -> sound, `delay` = window - hop samples late; streamed and whole alike.

    A stream's state is one tensor [B, width], which a call changes in place. Zeros are the state after silence, so
    a row is reset by zeroing it, as causal.History does. The last `window` numbers of a row are windowed frames added
    up, from the sample on that comes out next.
    """

    def __init__(self, framing: Framing, width: int, dtype: torch.dtype):
        """`width`: how many numbers of a row's state there are before those of the sum."""
        self.framing = framing
        self._width, self._dtype = width + framing.window, dtype
        self._tail = torch.from_numpy(framing.scale / framing.so_far[framing.hop :])

    @property
    def delay(self) -> int:
        """Samples: window - hop."""
        return self.framing.delay

    def begin(self, batch: int, device: torch.device | str = "cpu") -> Tensor:
        """The state [B, width] of a new stream: zeros."""
        return torch.zeros(batch, self._width, dtype=self._dtype, device=device)

    @abstractmethod
    def __call__(self, magnitudes: Tensor, state: Tensor, tuning: Tensor | None = None) -> Tensor:
        """magnitudes [B, n, window / 2 + 1] of the next n frames -> audio [B, n * hop] float32; `state` moves on.

        `tuning` [B, n, L]: corrections (bins) of the frequencies of the lowest L bins, which else come from the slopes
        of the magnitudes. A bin that continues from the frame before then advances by its frequency, and the rounds of
        Griffin-Lim change the output but not the state: with inconsistent magnitudes they would pull each partial to
        the frequency of those.

        A sine of amplitude 1 has magnitude 1, in frames as Framing has them. The first sample that a new stream gives
        lies `delay` samples before the first of the `hop` samples that its first frame adds: a lone stream drops the
        first `delay` samples. Sound is complete, and given, up to `delay` samples before the last frame's end.
        """

    @abstractmethod
    def spectra(self, magnitudes: Tensor, state: Tensor, tuning: Tensor | None = None) -> Tensor:
        """As the call, but gives the settled frames: [B, n, 2, bins], real and imaginary parts, in the state's dtype.

        A phase is that of a window whose middle is time 0. `sound` of them, unchanged, is what the call gives; changes
        of them do not change the state.
        """

    @abstractmethod
    def sound(self, spectra: Tensor, total: Tensor) -> Tensor:
        """Frames [B, n, 2, bins] of `spectra` -> audio [B, n * hop] float32, overlapped and added.

        `total` [B, window], in the dtype of a state, is a sum like that in a state, and moves on: zeros at the start.
        """

    def flush(self, state: Tensor) -> Tensor:
        """The last `delay` samples [B, delay] float32, as good as frames so far tell; the stream begins anew."""
        audio = self.tail(state[:, -self.framing.window :])
        state.zero_()
        return audio

    def tail(self, total: Tensor) -> Tensor:
        """What a sum [B, window] still holds when no more frames come [B, delay] float32."""
        held = total[:, : self.delay]
        return (held * self._tail.to(held)).float()

    def begin_sum(self, batch: int, device: torch.device | str = "cpu") -> Tensor:
        """A sum for `sound` [B, window] that holds nothing: zeros."""
        return torch.zeros(batch, self.framing.window, dtype=self._dtype, device=device)

    def reset(self, state: Tensor, rows: Tensor) -> None:
        """Begin rows anew where the bool mask [B] is true."""
        state.masked_fill_(rows.to(state.device)[:, None], 0.0)

    def _check(self, magnitudes: Tensor, state: Tensor, tuning: Tensor | None) -> Tensor:
        """The tuning, of no bin where there is none."""
        expected = f"[{len(state)}, n, {self.framing.bins}]"
        shape = list(magnitudes.shape)
        if len(shape) != 3 or shape[::2] != [len(state), self.framing.bins] or not magnitudes.is_floating_point():
            raise ValueError(f"magnitudes are {magnitudes.dtype} {shape}; expected float {expected}")
        if tuning is None:
            return magnitudes.new_zeros(*shape[:2], 0)
        known = list(tuning.shape)
        if len(known) != 3 or known[:2] != shape[:2] or known[2] > shape[2] or not tuning.is_floating_point():
            raise ValueError(
                f"tuning is {tuning.dtype} {known}; expected float [{shape[0]}, {shape[1]}, up to {shape[2]}]"
            )
        return tuning
