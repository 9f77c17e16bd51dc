"""Sound from STFT magnitudes alone, as they come, by machine code: integrated phases, then rounds of Griffin-Lim."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from accomp.plugins.tokenizers.codec.phase import fourier
from accomp.plugins.tokenizers.codec.phase.angles import TURN, angle, cosine_and_sine
from accomp.plugins.tokenizers.codec.phase.fourier import Transform
from accomp.plugins.tokenizers.codec.phase.framing import SILENT, TINY, Framing
from accomp.plugins.tokenizers.codec.phase.gradients import over_frequency, over_time
from accomp.plugins.tokenizers.codec.phase.heap import Room, integrate, room
from accomp.plugins.tokenizers.codec.phase.machine import machine
from accomp.plugins.tokenizers.codec.phase.rule import PhaseRule, checked
from accomp.plugins.tokenizers.codec.phase.slopes import climb

Array = np.ndarray[Any, Any]

PARTS = 3
"""Arrays [bins] of a row's state; see Row."""
WORTH_THREADS = 64
"""Rows times frames (some 6 ms of work) from which threads are started, for as long as a call takes."""


class MachinePhases(PhaseRule):
    """Phases integrated over a heap or along slopes (heap.py, slopes.py), then Griffin-Lim against what is settled.

    A round takes the frame's phases from the sound of all frames so far with this one added, and keeps the magnitudes:
    G. Beauregard, X. Zhu, L. Wyse, An efficient algorithm for real-time spectrogram inversion, DAFx 2005, but begun by
    the integration. There is no chance in it: bins under the floor turn by themselves.

    Frames are computed one after the other in float64, however many a call brings, and rows by themselves. So streams
    give bit for bit the sound of the whole, in whatever batch. It works on the CPU, rows over torch's threads.
    """

    def __init__(self, heap: bool, window: int = 1280, hop: int = 160, rounds: int = 1, tolerance: float = 1e-3):
        """`tolerance`: bins not louder than this times the loudest of a frame and the last are not integrated.

        Raises ValueError for what Framing refuses, `rounds` below 0, or a `tolerance` outside [0, 1).
        """
        framing = Framing(window, hop)
        super().__init__(framing, PARTS * framing.bins, torch.float64)
        gain = framing.scale / framing.so_far[:hop]  # whole sums: the first hop has met all its frames
        self._how = How(
            framing.taper, framing.so_far, gain, fourier.transform(window),
            heap, framing.step, framing.half, *checked(rounds, tolerance),
        )  # fmt: skip

    def __call__(self, magnitudes: Tensor, state: Tensor, tuning: Tensor | None = None) -> Tensor:
        """See PhaseRule; the state is on the CPU. Raises ValueError for magnitudes that are negative, NaN or Inf."""
        return self._advance(magnitudes, state, tuning, told=False)[0]

    def spectra(self, magnitudes: Tensor, state: Tensor, tuning: Tensor | None = None) -> Tensor:
        """See PhaseRule; errors as of the call."""
        return self._advance(magnitudes, state, tuning, told=True)[1]

    def sound(self, spectra: Tensor, total: Tensor) -> Tensor:
        """See PhaseRule; `total` is on the CPU, and no gradient reaches the spectra."""
        batch, frames = spectra.shape[:2]
        audio = torch.empty(batch, frames * self.framing.hop)
        if audio.numel():
            self._over_rows(overlap_add, frames, _double(spectra).numpy(), total.numpy(), audio.numpy())
        return audio.to(spectra.device)

    def _advance(
        self, magnitudes: Tensor, state: Tensor, tuning: Tensor | None, *, told: bool
    ) -> tuple[Tensor, Tensor]:
        """The sound, and the settled spectra of all frames, or of none unless `told`."""
        known = _double(self._check(magnitudes, state, tuning))
        batch, frames, bins = magnitudes.shape
        audio = torch.empty(batch, frames * self.framing.hop)
        spectra = torch.empty(batch, frames if told else 0, 2, bins, dtype=torch.float64)
        if audio.numel():
            said = _double(magnitudes)
            _check_range(said)
            arrays = said.numpy(), known.numpy(), state.numpy(), audio.numpy(), spectra.numpy()
            self._over_rows(advance, frames, *arrays)
        return audio.to(magnitudes.device), spectra.to(magnitudes.device)

    def _over_rows(self, compute: Callable[..., None], frames: int, *arrays: Array) -> None:
        batch = len(arrays[0])
        threads = min(batch, torch.get_num_threads())
        if threads < 2 or batch * frames < WORTH_THREADS:
            return compute(*arrays, self._how)
        with ThreadPoolExecutor(threads) as pool:
            rows = [slice(row, row + 1) for row in range(batch)]
            list(pool.map(lambda row: compute(*(array[row] for array in arrays), self._how), rows))


def _double(x: Tensor) -> Tensor:
    return x.detach().to("cpu", torch.float64).contiguous()


def _check_range(magnitudes: Tensor) -> None:
    low, high = (float(end) for end in magnitudes.aminmax())
    if not (low >= 0 and high < math.inf):
        raise ValueError(f"magnitudes lie in {low}..{high}; expected finite ones from 0 on")


class How(NamedTuple):
    """What is the same for all frames: arrays of Framing, and the rule's numbers."""

    taper: Array
    so_far: Array
    gain: Array
    transform: Transform
    heap: bool
    step: float
    half: float
    rounds: int
    tolerance: float


class Row(NamedTuple):
    """State of a row, as views: magnitudes, phases and turns (gradients.over_time) of the last frame [bins], the sum
    of windowed frames [window]."""

    before: Array
    phase: Array
    turn: Array
    total: Array


class Frame(NamedTuple):
    """Room for a frame's computation: eight arrays [bins], one [window], and what the callees ask for."""

    now: Array
    audible: Array
    last: Array
    turn: Array
    fall: Array
    across: Array
    real: Array
    imaginary: Array
    x: Array
    work: Array
    room: Room


@machine
def advance(magnitudes: Array, tuning: Array, state: Array, audio: Array, spectra: Array, how: How) -> None:
    """magnitudes [B, T, bins], tuning [B, T, L], state [B, width] -> audio [B, T * hop], spectra [B, T or 0, 2, bins].

    See PhaseRule.
    """
    bins, hop = magnitudes.shape[2], len(how.gain)
    frame = _frame(bins, len(how.taper))
    for b in range(len(magnitudes)):
        row = _row(state[b], bins)
        for t in range(magnitudes.shape[1]):
            if _listen(magnitudes[b, t], tuning[b, t], row, frame, how):
                _settle(row, frame, how, tuning.shape[2])
            if spectra.shape[1]:
                spectra[b, t, 0], spectra[b, t, 1] = frame.real, frame.imaginary
            _emit(row.total, frame, how, audio[b, t * hop : (t + 1) * hop])


@machine
def overlap_add(spectra: Array, total: Array, audio: Array, how: How) -> None:
    """spectra [B, T, 2, bins], total [B, window] -> audio [B, T * hop]; see PhaseRule.sound."""
    hop = len(how.gain)
    frame = _frame(spectra.shape[3], len(how.taper))
    for b in range(len(spectra)):
        for t in range(spectra.shape[1]):
            frame.real[:], frame.imaginary[:] = spectra[b, t, 0], spectra[b, t, 1]
            _emit(total[b], frame, how, audio[b, t * hop : (t + 1) * hop])


@machine
def _frame(bins: int, window: int) -> Frame:
    a, work = np.empty((8, bins)), fourier.workspace(window)
    return Frame(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], np.empty(window), work, room(bins))


@machine
def _row(state: Array, bins: int) -> Row:
    a = state[: PARTS * bins].reshape(PARTS, bins)
    return Row(a[0], a[1], a[2], state[PARTS * bins :])


@machine
def _listen(magnitudes: Array, tuning: Array, row: Row, frame: Frame, how: How) -> bool:
    """The frame's spectrum by integration, into frame and row. Whether it and the settled ones sound."""
    now, audible, last, phase = frame.now, frame.audible, frame.last, row.phase
    for m in range(len(now)):
        now[m] = magnitudes[m] if magnitudes[m] > SILENT else 0.0
        audible[m], last[m] = max(now[m], SILENT), max(row.before[m], SILENT)
    loudest = now.max()
    floor = max(SILENT, how.tolerance * max(loudest, row.before.max()))
    over_time(audible, how.step, frame.turn)
    over_frequency(audible, last, how.half, frame.fall)
    for m in range(len(now)):
        alone = phase[m] + how.step * m
        if m < len(tuning):
            frame.across[m] = alone + frame.turn[m] + how.step * tuning[m]
        else:
            frame.across[m] = alone + 0.5 * (row.turn[m] + frame.turn[m])
        phase[m] = alone
    if how.heap:
        integrate(now, row.before, floor, frame.across, frame.fall, phase, frame.room)
    else:
        climb(now, row.before, floor, frame.across, frame.fall, phase)
    row.before[:], row.turn[:] = now, frame.turn
    for m in range(len(now)):
        phase[m] -= TURN * np.floor(phase[m] / TURN)
        cosine, sine = cosine_and_sine(phase[m])
        frame.real[m], frame.imaginary[m] = now[m] * cosine, now[m] * sine
    return loudest > 0 and _sounds(row.total)


@machine
def _sounds(x: Array) -> bool:
    loudest = 0.0
    for i in range(len(x)):
        loudest = max(loudest, abs(x[i]))
    return loudest > 0


@machine
def _settle(row: Row, frame: Frame, how: How, known: int) -> None:
    """The rounds: what the frame becomes where it meets the settled ones.

    Its phases are the next frame's last, but for those of the lowest `known` bins, which turn by what is known.
    """
    now, real, imaginary = frame.now, frame.real, frame.imaginary
    for _ in range(how.rounds):
        _hear(row, frame, how)
        for m in range(len(now)):
            size = math.sqrt(real[m] * real[m] + imaginary[m] * imaginary[m])
            gain = now[m] / max(size, TINY)
            real[m] = gain * real[m] if size > TINY else now[m]
            imaginary[m] = gain * imaginary[m] if size > TINY else 0.0
    if how.rounds:
        for m in range(known, len(now)):
            row.phase[m] = angle(imaginary[m], real[m]) if now[m] > 0 else row.phase[m]


@machine
def _hear(row: Row, frame: Frame, how: How) -> None:
    """The spectrum of all frames' sound where this frame is, in the place of the frame's own."""
    x, total, taper, so_far, half = frame.x, row.total, how.taper, how.so_far, len(how.taper) // 2
    fourier.backward(frame.real, frame.imaginary, x, frame.work, how.transform)
    for i in range(half):
        j = i + half
        early = taper[i] * (total[i] + taper[i] * x[j]) / so_far[i]
        x[i], x[j] = taper[j] * (total[j] + taper[j] * x[i]) / so_far[j], early
    fourier.forward(x, frame.real, frame.imaginary, frame.work, how.transform)


@machine
def _emit(total: Array, frame: Frame, how: How, audio: Array) -> None:
    """The settled frame joins the others in `total` [window]; audio [hop] has met all its frames."""
    x, taper, half, hop = frame.x, how.taper, len(how.taper) // 2, len(audio)
    fourier.backward(frame.real, frame.imaginary, x, frame.work, how.transform)
    for i in range(half):
        total[i] += taper[i] * x[i + half]
        total[i + half] += taper[i + half] * x[i]
    for i in range(hop):
        audio[i] = total[i] * how.gain[i]
    for i in range(len(total)):
        total[i] = total[i + hop] if i + hop < len(total) else 0.0
