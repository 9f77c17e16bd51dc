"""The rule of slopes.py for many rows at once and for GPUs: vector operations and Fourier transforms of torch."""

from __future__ import annotations

import math
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from accomp.plugins.tokenizers.codec.phase.framing import SILENT, TINY, Framing
from accomp.plugins.tokenizers.codec.phase.rule import PhaseRule, checked

TURN = 2 * math.pi


@attrs.frozen(eq=False)
class Constants:
    """Arrays of Framing on a device: [window], [window], [hop], and [bins] the rest."""

    taper: Tensor
    so_far: Tensor
    gain: Tensor
    step: Tensor
    """Radians that a bin's middle turns in a hop."""
    centre: Tensor
    """What moves a spectrum's time 0 from the beginning of its window to the middle, and back: 1, -1, 1, ..."""
    bins: Tensor

    @classmethod
    def of(cls, framing: Framing, device: torch.device) -> Constants:
        bins = torch.arange(framing.bins)
        gain = framing.scale / framing.so_far[: framing.hop]

        def floats(array: Any) -> Tensor:
            return torch.as_tensor(array).to(device, torch.float32)

        turned, centre = framing.step * bins.double() % TURN, 1 - 2 * (bins % 2)
        taper, so_far = floats(framing.taper), floats(framing.so_far)
        return cls(taper, so_far, floats(gain), floats(turned), floats(centre), bins.to(device))


class TensorPhases(PhaseRule):
    """Bins follow the peak whose slope they are on (see slopes.climb), then `rounds` of Griffin-Lim against what is
    settled (see machine_phases.MachinePhases).

    Frames are computed one after the other in float32, all rows at once, by the same operations however many a call
    brings. Shapes are fixed and nothing waits for the device, so it may be traced, compiled, and recorded.
    """

    def __init__(self, window: int = 1280, hop: int = 160, rounds: int = 1, tolerance: float = 1e-3):
        """Arguments and errors as of MachinePhases."""
        framing = Framing(window, hop)
        super().__init__(framing, 3 * framing.bins, torch.float32)
        self._rounds, self._tolerance = checked(rounds, tolerance)
        self._constants: dict[torch.device, Constants] = {}

    def __call__(self, magnitudes: Tensor, state: Tensor, tuning: Tensor | None = None) -> Tensor:
        """See PhaseRule; all on one device. Numbers that are negative, NaN or Inf are not looked for."""
        audio, _ = self._advance(magnitudes, state, tuning)
        return torch.cat(audio, dim=1) if audio else state.new_zeros(len(state), 0)

    def spectra(self, magnitudes: Tensor, state: Tensor, tuning: Tensor | None = None) -> Tensor:
        """See PhaseRule; otherwise as the call."""
        _, frames = self._advance(magnitudes, state, tuning)
        return torch.stack(frames, dim=1) if frames else state.new_zeros(len(state), 0, 2, self.framing.bins)

    def sound(self, spectra: Tensor, total: Tensor) -> Tensor:
        """See PhaseRule; differentiable. All frames are added at once, so bits depend on how many there are."""
        if not spectra.shape[1]:
            return spectra.new_zeros(len(spectra), 0)
        constants, hop, window = self._on(total.device), self.framing.hop, self.framing.window
        real, imaginary = spectra.unbind(2)
        whole = _overlapped(_windowed(real, imaginary, constants), hop)
        whole = whole + F.pad(total, (0, whole.shape[1] - window))
        given = spectra.shape[1] * hop
        rest = whole[:, given:]
        total.copy_(F.pad(rest, (0, window - rest.shape[1])).detach())
        return whole[:, :given] * constants.gain.repeat(spectra.shape[1])

    def _advance(self, magnitudes: Tensor, state: Tensor, tuning: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """The sound [B, hop] and the settled spectrum [B, 2, bins] of each frame."""
        tuning = self._check(magnitudes, state, tuning).to(state)
        constants = self._on(state.device)
        bins, window = self.framing.bins, self.framing.window
        before, phase, turn, total = state.split([bins, bins, bins, window], dim=1)
        audio, spectra = [], []
        known = tuning.shape[2]
        for now, tuned in zip(magnitudes.to(state).unbind(1), tuning.unbind(1), strict=True):
            now = torch.where(now > SILENT, now, 0.0)
            begun, turn = self._listen(now, tuned, before, phase, turn, constants)
            phase, real, imaginary = self._settle(now, begun, total, constants)
            phase = torch.cat([begun[:, :known], phase[:, known:]], dim=1)
            spectra.append(torch.stack([real, imaginary], dim=1))
            total = total + _windowed(real, imaginary, constants)
            audio.append(total[:, : self.framing.hop] * constants.gain)
            total = F.pad(total[:, self.framing.hop :], (0, self.framing.hop))
            before = now
        state.copy_(torch.cat([before, phase, turn, total], dim=1))
        return audio, spectra

    def _on(self, device: torch.device) -> Constants:
        if device not in self._constants:
            self._constants[device] = Constants.of(self.framing, device)
        return self._constants[device]

    def _listen(
        self, now: Tensor, tuned: Tensor, before: Tensor, phase: Tensor, turn: Tensor, constants: Constants
    ) -> tuple[Tensor, Tensor]:
        """The phases and turns [B, bins] of a frame of magnitudes [B, bins]; `tuned` [B, L]: see PhaseRule."""
        audible, last = now.clamp(min=SILENT), before.clamp(min=SILENT)
        turned, alone = over_time(audible, self.framing.step), phase + constants.step
        known = tuned.shape[1]
        ahead = [turned[:, :known] + self.framing.step * tuned, 0.5 * (turn + turned)[:, known:]]
        across = alone + torch.cat(ahead, dim=1)
        floor = (torch.maximum(now, before).amax(1, keepdim=True) * self._tolerance).clamp(min=SILENT)
        heard = ((now > floor) & (before > floor)).any(1, keepdim=True)
        root = torch.where(heard, _roots(now, before, constants.bins), now.argmax(1, keepdim=True))
        fall = over_frequency(audible, last, self.framing.half)
        along = F.pad((0.5 * (fall[:, 1:] + fall[:, :-1])).cumsum(1), (1, 0))
        start = torch.where(heard, across.gather(1, root), 0.0)
        found = torch.where(now > floor, start + along - along.gather(1, root), alone)
        return found - TURN * torch.floor(found / TURN), turned

    def _settle(self, now: Tensor, phase: Tensor, total: Tensor, constants: Constants) -> tuple[Tensor, Tensor, Tensor]:
        """The phases after the rounds, and the frame's real and imaginary parts; all [B, bins]."""
        real, imaginary = now * phase.cos(), now * phase.sin()
        sounds = total.abs().amax(1, keepdim=True) > 0
        for _ in range(self._rounds):
            heard = (total + _windowed(real, imaginary, constants)) * (constants.taper / constants.so_far)
            found = torch.view_as_real(torch.fft.rfft(heard)) * constants.centre[:, None]
            size = found.square().sum(-1).sqrt()
            clear, size = size > TINY, size.clamp(min=TINY)
            real = torch.where(sounds, torch.where(clear, now * (found[..., 0] / size), now), real)
            imaginary = torch.where(sounds, torch.where(clear, now * (found[..., 1] / size), 0.0), imaginary)
        if self._rounds:
            phase = torch.where(sounds & (now > 0), torch.atan2(imaginary, real), phase)
        return phase, real, imaginary


def over_time(now: Tensor, step: float) -> Tensor:
    """As of gradients.py: magnitudes [B, bins] -> [B, bins]."""
    low, high = now[:, :-2], now[:, 2:]
    q = (high - low) / (high + low)
    return F.pad(step * 4 * q / (3 + (9 - 8 * q * q).sqrt()), (1, 1))


def over_frequency(now: Tensor, last: Tensor, half: float) -> Tensor:
    """As of gradients.py: magnitudes [B, bins] of this frame and the last -> [B, bins]."""
    between = ((math.cos(half) - (last / now).sqrt()) / math.sin(half)).atan() + 0.5 * half
    return between.abs().clamp(max=half) - 2 * between


def _roots(now: Tensor, before: Tensor, bins: Tensor) -> Tensor:
    """The bin [B, bins] whose phase a bin's hangs on, steps up from it: one that goes on from the last frame."""
    under, over = F.pad(now[:, :-1], (1, 0)), F.pad(now[:, 1:], (0, 1))
    higher = torch.maximum(under, over)
    goes_on = torch.maximum(now, before) >= higher
    last_under = torch.where(goes_on, bins, 0).cummax(1).values
    next_over = torch.where(goes_on, bins, len(bins) - 1).flip(1).cummin(1).values.flip(1)
    return torch.where(goes_on, bins, torch.where(under >= over, last_under, next_over))


def _windowed(real: Tensor, imaginary: Tensor, constants: Constants) -> Tensor:
    spectrum = torch.complex(real * constants.centre, imaginary * constants.centre)
    return torch.fft.irfft(spectrum, n=len(constants.taper)) * constants.taper


def _overlapped(frames: Tensor, hop: int) -> Tensor:
    """Frames [B, n, window] a hop apart -> their sum [B, (n + pieces - 1) * hop], a window being `pieces` hops."""
    pieces = -(-frames.shape[2] // hop)
    parts = F.pad(frames, (0, pieces * hop - frames.shape[2])).unflatten(2, (pieces, hop)).unbind(2)
    added = [F.pad(part, (0, 0, i, pieces - 1 - i)) for i, part in enumerate(parts)]
    return torch.stack(added).sum(0).flatten(1)
