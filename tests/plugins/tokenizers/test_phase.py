"""Phase rules: sound from magnitudes alone, the same however they come in pieces, and what must hold of it.

Figures are for exact magnitudes of windows of 1280 samples, every 160 at 32 kHz, with one round of Griffin-Lim.
"""

from __future__ import annotations

import heapq
import importlib
import itertools
import math
import os
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from accomp.core.errors import PluginError
from accomp.plugins.tokenizers.codec.phase import NAMES, PhaseRule, phase_rule
from accomp.plugins.tokenizers.codec.phase.framing import SILENT, Framing
from accomp.plugins.tokenizers.codec.phase.peaks import TensorPhases
from accomp.plugins.tokenizers.codec.phase.peaks import over_frequency as tensor_over_frequency
from accomp.plugins.tokenizers.codec.phase.peaks import over_time as tensor_over_time

pytest.importorskip("numba")

from accomp.plugins.tokenizers.codec.phase import fourier, machine, machine_phases
from accomp.plugins.tokenizers.codec.phase.angles import angle, cosine_and_sine
from accomp.plugins.tokenizers.codec.phase.gradients import over_frequency, over_time
from accomp.plugins.tokenizers.codec.phase.heap import integrate, room
from accomp.plugins.tokenizers.codec.phase.slopes import climb

RATE, WINDOW, HOP = 32_000, 1280, 160
BINS, DELAY = WINDOW // 2 + 1, WINDOW - HOP
T = np.arange(RATE) / RATE


def made(name: str, **options) -> PhaseRule:
    return TensorPhases(**options) if name == "tensor" else phase_rule(name, **options)


@pytest.fixture(params=["heap", "peaks", "tensor"])
def rule(request) -> PhaseRule:
    return made(request.param)


def hann(window: int) -> np.ndarray:
    return np.sin(np.pi * np.arange(window) / window) ** 2


def spectra(x: np.ndarray, window: int = WINDOW, hop: int = HOP) -> np.ndarray:
    """x [B, N] -> [B, N / hop, bins] complex, of windows that end at samples hop * (n + 1), times from their middle."""
    x = np.concatenate([np.zeros((len(x), window - hop)), x], axis=1)
    frames = np.stack([x[:, at : at + window] for at in range(0, x.shape[1] - window + 1, hop)], axis=1)
    return np.fft.rfft(np.roll(frames * hann(window), window // 2, axis=-1)) / (window / 4)


def magnitudes(x: np.ndarray, window: int = WINDOW, hop: int = HOP) -> torch.Tensor:
    """x [N] or [B, N] -> exact magnitudes [B, N / hop, bins] float32."""
    return torch.from_numpy(np.abs(spectra(np.atleast_2d(x), window, hop))).float()


def heard(rule: PhaseRule, said: torch.Tensor, cuts: list[int] | None = None) -> torch.Tensor:
    """All sound [B, n * hop + delay] of a new stream that gets `said` in pieces cut at `cuts`."""
    state = rule.begin(len(said))
    edges = [0, *sorted(cuts or []), said.shape[1]]
    return torch.cat([*(rule(said[:, a:b], state) for a, b in itertools.pairwise(edges)), rule.flush(state)], dim=1)


def sound(rule: PhaseRule, x: np.ndarray) -> np.ndarray:
    """x [N] through exact magnitudes and back, in its place [N]."""
    said = magnitudes(x, rule.framing.window, rule.framing.hop)
    return heard(rule, said)[0, rule.delay :].double().numpy()


def music(rows: int, frames: int = 80) -> np.ndarray:
    """Decaying chords over noise, with a silence [B, N]."""
    rng = np.random.default_rng(rows)
    t = np.arange(frames * HOP) / RATE
    tones = np.sin(2 * np.pi * 110 * 2 ** (rng.integers(0, 36, (rows, 3, 1)) / 12) * t).sum(1)
    x = 0.2 * tones * np.exp(-(t * 6 % 1) * 5) + 0.01 * rng.standard_normal((rows, len(t)))
    x[:, len(t) // 2 : len(t) // 2 + 2000] = 0
    return x


def decibel(ratio: float) -> float:
    return 20 * math.log10(max(float(ratio), 1e-12))


def rms(x: np.ndarray) -> float:
    return math.sqrt(np.mean(np.square(x)))


# --- streams -----------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(["heap", "peaks", "tensor"]),
    cuts=st.lists(st.integers(0, 80), max_size=8),
    rows=st.integers(1, 3),
)
def test_streamed_is_whole_bit_for_bit(name, cuts, rows):
    rule, said = made(name), magnitudes(music(rows))
    assert torch.equal(heard(rule, said, cuts), heard(rule, said))


@settings(max_examples=10, deadline=None)
@given(
    name=st.sampled_from(["heap", "peaks", "tensor"]),
    at=st.integers(0, 79),
    mask=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_rows_that_are_reset_begin_anew_and_leave_the_others(name, at, mask):
    rule, said, rows = made(name), magnitudes(music(3)), torch.tensor(mask)
    whole, anew = heard(rule, said)[:, at * HOP :], heard(rule, said[:, at:])
    state = rule.begin(3)
    rule(said[:, :at], state)
    rule.reset(state, rows)
    rest = torch.cat([rule(said[:, at:], state), rule.flush(state)], dim=1)
    assert torch.equal(rest, torch.where(rows[:, None], anew, whole))


def test_a_row_sounds_as_it_does_alone(rule):
    """Bit for bit as machine code; vector operations may differ in the last digits of float32 (3e-6 measured)."""
    said = magnitudes(music(5))
    alone = torch.cat([heard(rule, said[i : i + 1]) for i in range(5)])
    tolerance = 1e-4 if isinstance(rule, TensorPhases) else 0
    torch.testing.assert_close(heard(rule, said), alone, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_rows_over_threads_sound_the_same(name, monkeypatch):
    rule, said = made(name), magnitudes(music(5))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    expected = heard(rule, said)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(heard(rule, said), expected)


def test_after_a_flush_a_stream_begins_anew(rule):
    said, state = magnitudes(music(2)), rule.begin(2)
    rule(said, state)
    rule.flush(state)
    assert torch.equal(state, rule.begin(2))


def test_a_push_of_nothing_gives_nothing(rule):
    state = rule.begin(2)
    assert list(rule(torch.zeros(2, 0, BINS), state).shape) == [2, 0]
    assert list(rule.flush(state).shape) == [2, DELAY]


@pytest.mark.parametrize("name", ["heap", "peaks", "tensor"])
@pytest.mark.parametrize(("window", "hop"), [(2048, 160), (960, 160), (1280, 320), (640, 160), (1440, 100)])
@pytest.mark.parametrize("rounds", [0, 2])
def test_other_windows_and_hops_give_the_sound_too(name, window, hop, rounds):
    """Within what phases leave open: a chord's spectrum comes back."""
    rule = made(name, window=window, hop=hop, rounds=rounds)
    x = sum(np.sin(2 * np.pi * f * T[: 80 * hop]) for f in (300.1, 1234.5, 4321.0)) / 6
    y = sound(rule, x)
    a, b = (magnitudes(z[window:-window], window, hop)[0, window // hop :] for z in (x, y))
    assert decibel((a - b).norm() / a.norm()) < -30
    assert torch.equal(heard(rule, magnitudes(x, window, hop), [3, 4, 30]), heard(rule, magnitudes(x, window, hop)))


# --- what is heard -----------------------------------------------------------------------------------------------


def test_silence_is_digital_silence_from_the_start_and_soon_after_sound(rule):
    assert not sound(rule, np.zeros(4000)).any()
    x = np.concatenate([music(1)[0], np.zeros(8000)])
    assert not sound(rule, x)[-8000 + WINDOW :].any()


def test_bins_at_the_bound_of_silence_get_no_sound(rule):
    said = torch.full((1, 20, BINS), SILENT)
    assert not heard(rule, said).any()
    said[0, :, 100] = 1.01 * SILENT
    assert heard(rule, said).any()


@pytest.mark.parametrize("frequency", [55.0, 220.3, 400.0, 440.0, 1000.7, 5000.3, 12345.6])
def test_a_steady_sine_stays_steady(rule, frequency):
    x = 0.5 * np.sin(2 * np.pi * frequency * np.arange(2 * RATE) / RATE)
    x, y = (z[8000:-2000] for z in (x, sound(rule, x)))
    assert abs(decibel(rms(y) / rms(x))) < 0.01
    a, b = (np.abs(np.fft.rfft(z * np.hanning(len(z)))) for z in (x, y))
    line = a.argmax()
    assert abs(b.argmax() - line) <= 1
    b[max(0, line - 10) : line + 11] = 0
    assert decibel(np.linalg.norm(b) / np.linalg.norm(a)) < -48


def test_the_ends_of_the_spectrum_keep_their_level(rule):
    for x in (np.full(RATE, 0.5), 0.5 * np.cos(np.pi * np.arange(RATE))):
        assert abs(decibel(rms(sound(rule, x)[8000:-2000]) / 0.5)) < 0.2


@pytest.mark.parametrize("at", [16000, 16003, 16080, 16111])
def test_an_impulse_stays_one_in_its_place(rule, at):
    x = np.zeros(RATE)
    x[at] = 1
    energy = sound(rule, x) ** 2
    peak = energy.argmax()
    assert abs(peak - at) < 5e-3 * RATE
    assert energy[peak - 32 : peak + 33].sum() > 0.5 * energy.sum()
    assert decibel(math.sqrt(energy.sum())) > -1.5


def test_noise_and_music_and_bursts_keep_their_level(rule):
    rng = np.random.default_rng(0)
    bursts, impulses = np.zeros(RATE), np.zeros(RATE)
    for at in range(3000, RATE - 3000, 4000):
        bursts[at : at + 192] = 0.5 * rng.standard_normal(192)
    impulses[2000:-2000:3008] = 1
    cases = (0.1 * rng.standard_normal(RATE), 0.5), (music(1, 200)[0], 0.3), (bursts, 0.7), (impulses, 1.2)
    for x, tolerance in cases:
        assert abs(decibel(rms(sound(rule, x)) / rms(x))) < tolerance


def test_what_begins_at_once_is_not_heard_before(rule):
    x = np.where(np.arange(RATE) >= 16000, 0.5 * np.sin(2 * np.pi * 1000 * T), 0)
    y = sound(rule, x)
    assert decibel(np.abs(y[: 16000 - HOP]).max() / 0.5) < -26
    assert decibel(rms(y[16000 - DELAY : 16000]) / rms(x[16000:])) < -20


def test_the_loudest_bin_of_an_onset_after_silence_has_phase_0(rule):
    said = torch.zeros(1, 6, BINS)
    said[0, 5] = magnitudes(music(1))[0, 20]
    state = rule.begin(1)
    rule(said, state)
    phases = state[0, BINS : 2 * BINS]
    assert phases[said[0, 5].argmax()] == 0
    assert phases.abs().max() > 0


@pytest.mark.parametrize("level", [0.0, 1e-7, 1e-6, 1.0, 1e30])
def test_nothing_becomes_nan(rule, level):
    x = np.random.default_rng(0).standard_normal((1, 4000)) * min(level, 1)
    said = torch.cat(
        [torch.full((1, 20, BINS), level), torch.zeros(1, 20, BINS), magnitudes(x), magnitudes(x) * 1e-7], 1
    )
    state = rule.begin(1)
    y = torch.cat([rule(said, state), rule.flush(state)], dim=1)
    assert y.isfinite().all()
    assert state.isfinite().all()


def test_the_rounds_bring_the_spectrum_nearer(rule):
    x = music(1, 200)[0]
    errors = []
    for rounds in (0, 1, 2):
        y = sound(made(_name(rule), rounds=rounds), x)
        a, b = (magnitudes(z)[0, 8:-8] for z in (x, y))
        errors.append(decibel((a - b).norm() / a.norm()))
    assert errors[2] < errors[1] < errors[0] < -10


def _name(rule: PhaseRule) -> str:
    return "tensor" if isinstance(rule, TensorPhases) else "heap" if rule._how.heap else "peaks"


def test_tensors_sound_as_the_machine_code_does():
    """Until a comparison falls out otherwise, which takes equal magnitudes; music has none."""
    said = magnitudes(music(3))
    machine, tensors = (heard(made(name), said) for name in ("peaks", "tensor"))
    assert decibel((machine - tensors).norm() / machine.norm()) < -60


# --- frequencies that are known ------------------------------------------------------------------------------------

LOW = 24
PLACES = (4.3, 9.6, 15.2)
"""Partials, in bins."""


def smeared() -> torch.Tensor:
    """Magnitudes [1, 200, bins] of partials at PLACES whose slopes say that they lie in the middle of a bin."""
    bins = np.arange(BINS)
    lobes = sum(
        np.where(abs(bins - round(m)) < 2, 0.5 + 0.5 * np.cos(np.pi * (bins - round(m)) / 2), 0) for m in PLACES
    )
    return torch.from_numpy(np.tile(0.2 * lobes, (1, 200, 1)))


def known() -> torch.Tensor:
    """By how much the nearest of PLACES is higher than the slopes say, for each of the lowest bins [1, 200, LOW]."""
    away = np.array([m - round(m) for m in PLACES])
    nearest = abs(np.array(PLACES)[:, None] - np.arange(LOW)).argmin(0)
    return torch.from_numpy(np.tile(away[nearest], (1, 200, 1)))


def lines(y: torch.Tensor) -> np.ndarray:
    """Where the three loudest lines of a sound lie, in bins."""
    spectrum = np.abs(np.fft.rfft(y[0, 6400:].numpy() * np.hanning(y.shape[1] - 6400), 2**18))
    scale = 2**18 / WINDOW
    found = []
    for m in PLACES:
        low = round((m - 1.2) * scale)
        found.append((low + spectrum[low : round((m + 1.2) * scale)].argmax()) / scale)
    return np.array(found)


def played(
    rule: PhaseRule, said: torch.Tensor, tuning: torch.Tensor | None, cuts: tuple[int, ...] = ()
) -> torch.Tensor:
    state, ends = rule.begin(len(said)), [*cuts, said.shape[1]]
    parts = []
    for a, b in zip([0, *cuts], ends, strict=True):
        parts.append(rule(said[:, a:b], state, tuning if tuning is None else tuning[:, a:b]))
    return torch.cat([*parts, rule.flush(state)], dim=1)


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize("name", ["heap", "peaks", "tensor"])
def test_partials_sound_at_the_frequencies_that_are_known(name, rounds):
    """Where slopes say otherwise, and though the rounds believe the slopes."""
    rule = made(name, rounds=rounds)
    assert abs(lines(played(rule, smeared(), known())) - PLACES).max() < 0.03
    assert abs(lines(played(rule, smeared(), None)) - PLACES).max() > 0.15


@pytest.mark.parametrize("name", ["heap", "peaks", "tensor"])
def test_with_known_frequencies_streams_are_the_whole_and_nothing_known_changes_nothing(name):
    rule, rng = made(name, rounds=2), torch.Generator().manual_seed(0)
    said = magnitudes(music(2))
    tuning = torch.rand(2, said.shape[1], LOW, generator=rng) - 0.5
    whole = played(rule, said, tuning)
    assert torch.equal(played(rule, said, tuning, cuts=(1, 2, 40)), whole)
    assert torch.equal(played(rule, said, tuning[..., :0]), played(rule, said, None))
    assert not torch.equal(whole, played(rule, said, None))
    spectra = rule.spectra(said, rule.begin(2), tuning)
    assert torch.equal(rule.sound(spectra, rule.begin_sum(2)), whole[:, : spectra.shape[1] * HOP]) or name == "tensor"


def test_tensors_take_known_frequencies_as_the_machine_code_does():
    machine, tensors = (played(made(name, rounds=2), smeared(), known()) for name in ("peaks", "tensor"))
    assert decibel((machine - tensors).norm() / machine.norm()) < -60


@pytest.mark.parametrize("shape", [(1, 9, LOW), (2, 8, LOW), (2, 9, BINS + 1), (9, LOW)])
def test_frequencies_of_other_shapes_are_refused(rule, shape):
    with pytest.raises(ValueError, match=r"tuning is .* expected float \[2, 9, up to 641\]"):
        rule(torch.zeros(2, 9, BINS), rule.begin(2), torch.zeros(shape))


# --- gradients ---------------------------------------------------------------------------------------------------

FRAMING = Framing(WINDOW, HOP)


def turns(now: np.ndarray) -> np.ndarray:
    out = np.empty(BINS)
    over_time(now, FRAMING.step, out)
    return out


def falls(now: np.ndarray, last: np.ndarray) -> np.ndarray:
    out = np.empty(BINS)
    over_frequency(now, last, FRAMING.half, out)
    return out


@pytest.mark.parametrize("place", [100.0, 100.3, 99.51, 100.77, 320.5])
def test_a_partial_turns_by_its_own_frequency(place):
    """Both bins beside it know how far it is, in radians a hop."""
    now = np.abs(np.fft.fft(np.exp(2j * np.pi * place * np.arange(WINDOW) / WINDOW) * hann(WINDOW)))[:BINS] + 1e-12
    turned = turns(now) + 2 * np.pi * HOP / WINDOW * np.arange(BINS)
    for m in {math.floor(place), math.ceil(place)}:
        assert turned[m] == pytest.approx(2 * np.pi * place * HOP / WINDOW, abs=1e-6)
    assert np.abs(turns(now)).max() <= FRAMING.step * 1.0001, "never by more than a bin"


@pytest.mark.parametrize("at", [-500, -240, 80, 120, 300, 479])
def test_an_impulse_falls_by_its_place_in_the_window(at):
    """`at` samples after the middle: from a bin to the next its phase falls by 2 pi at / window."""
    now, last = (np.full(BINS, np.cos(np.pi * t / WINDOW) ** 2) for t in (at, at + HOP))
    np.testing.assert_allclose(falls(now, last), -2 * np.pi * at / WINDOW, atol=1e-9)


def test_steady_sound_lies_in_the_middle_and_no_energy_outside_the_window():
    now = np.random.default_rng(0).uniform(0.1, 1, BINS)
    np.testing.assert_allclose(falls(now, now), 0, atol=1e-12)
    for last in (np.full(BINS, SILENT), np.full(BINS, 1e3)):
        assert np.abs(falls(now, last)).max() <= np.pi
    assert falls(now, np.full(BINS, SILENT)).max() < -np.pi / 2, "what begins lies late"
    assert falls(now, np.full(BINS, 1e3)).min() > np.pi / 2, "what ends lies early"


def test_gradients_are_the_differences_of_a_chirps_true_phases():
    """Loud bins of a sweep of 4 kHz a second: within a tenth of a radian, where phases of chance would be 1.8 off."""
    x = np.sin(2 * np.pi * (1000 * T + 2000 * T**2))[None]
    true = spectra(x)[0]
    phases, n = np.angle(true), 100
    now, last = np.abs(true[n]), np.abs(true[n - 1])
    loud = np.flatnonzero(now > 0.3 * now.max())
    middle = 2 * np.pi * HOP / WINDOW * np.arange(BINS)
    advance = phases[n] - phases[n - 1] - middle - 0.5 * (turns(now) + turns(last))
    assert np.abs((advance[loud] + np.pi) % (2 * np.pi) - np.pi).max() < 0.15
    fall = falls(now, last)
    along = (phases[n, 1:] - phases[n, :-1] - 0.5 * (fall[1:] + fall[:-1]))[loud[:-1]]
    assert np.abs((along + np.pi) % (2 * np.pi) - np.pi).max() < 0.35


def test_tensors_have_the_same_gradients():
    rng = np.random.default_rng(1)
    now, last = np.exp(rng.normal(-5, 3, (2, 3, BINS)))
    pairs = [
        (tensor_over_time(torch.from_numpy(now), FRAMING.step), [turns(row) for row in now]),
        (
            tensor_over_frequency(torch.from_numpy(now), torch.from_numpy(last), FRAMING.half),
            list(map(falls, now, last)),
        ),
    ]
    for tensors, arrays in pairs:
        np.testing.assert_allclose(tensors.numpy(), np.stack(arrays), atol=1e-12)


# --- integration -------------------------------------------------------------------------------------------------


def a_frame(seed: int) -> tuple[np.ndarray, ...]:
    """now, before, across, fall, alone [bins]; some bins silent, some in one of the frames."""
    rng = np.random.default_rng(seed)
    now, before = np.exp(rng.normal(-6, 3, (2, BINS))).astype(np.float32).astype(np.float64)
    before[rng.random(BINS) < 0.3] = 0
    now[rng.random(BINS) < 0.2] = 0
    return now, before, *rng.normal(0, 3, (3, BINS))


@pytest.mark.parametrize("seed", range(5))
def test_the_heap_takes_the_loudest_first(seed):
    now, before, across, fall, alone = a_frame(seed)
    floor = 1e-4
    phase = alone.copy()
    integrate(now, before, floor, across, fall, phase, room(BINS))
    expected, todo = alone.copy(), set(np.flatnonzero(now > floor))
    heap = [(-before[m], 0, m) for m in todo if before[m] > floor]
    heapq.heapify(heap)
    while todo:
        if not heap:
            m = max(todo, key=lambda k: now[k])
            expected[m] = 0
            todo.remove(m)
            heapq.heappush(heap, (-now[m], 1, m))
        _, frame, m = heapq.heappop(heap)
        steps = (
            [(m, across[m])]
            if frame == 0
            else [(k, expected[m] + (k - m) * (fall[m] + fall[k]) / 2) for k in (m - 1, m + 1) if 0 <= k < BINS]
        )
        for k, value in steps:
            if k in todo:
                expected[k] = value
                todo.remove(k)
                heapq.heappush(heap, (-now[k], 1, k))
    np.testing.assert_allclose(phase, expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_bin_goes_on_or_follows_the_slope_it_is_on(seed):
    now, before, across, fall, alone = a_frame(seed)
    floor = 1e-4

    def of(m: int) -> float:
        beside = [k for k in (m - 1, m + 1) if 0 <= k < BINS]
        up = max(beside, key=lambda k: now[k])
        if max(now[m], before[m]) >= now[up]:
            return across[m]
        return of(up) + (m - up) * (fall[m] + fall[up]) / 2

    phase = alone.copy()
    climb(now, before, floor, across, fall, phase)
    expected = [of(m) if now[m] > floor else alone[m] for m in range(BINS)]
    np.testing.assert_allclose(phase, expected, atol=1e-9)


@pytest.mark.parametrize("window", [128, 240, 640, 1280, 1440, 2048, 2160, 2560])
def test_the_transform_is_the_fourier_transform(window):
    x = np.random.default_rng(0).standard_normal(window)
    real, imaginary, back = *np.empty((2, window // 2 + 1)), np.empty(window)
    work, of = fourier.workspace(window), fourier.transform(window)
    fourier.forward(x, real, imaginary, work, of)
    np.testing.assert_allclose(real + 1j * imaginary, np.fft.rfft(x), atol=1e-12)
    imaginary[0] = imaginary[-1] = 9.0  # which count as 0
    fourier.backward(real, imaginary, back, work, of)
    np.testing.assert_allclose(back, x, atol=1e-13)


def test_angles_are_those_of_complex_numbers():
    rng = np.random.default_rng(1)
    z = np.concatenate([rng.standard_normal(2000), [0, 0, 1, -1, 1, -1, 1e-9, 1e9]]).astype(np.complex128)
    z += 1j * np.concatenate([rng.standard_normal(2000), [0, 1, 0, 0, 1, -1, 1, 1]])
    found = [angle(number.imag, number.real) for number in z]
    np.testing.assert_allclose(found, np.angle(z), atol=1e-15)
    phases = np.concatenate([rng.uniform(-30, 30, 2000), np.arange(-9, 10) * np.pi / 4])
    pairs = [cosine_and_sine(phase) for phase in phases]
    np.testing.assert_allclose(pairs, np.stack([np.cos(phases), np.sin(phases)], axis=1), atol=4e-15)


def test_sums_of_windows_are_those_of_all_frames():
    framing, total = Framing(2048, 160), np.zeros(6 * 2048)
    starts = range(0, 4 * 2048, 160)
    for at in starts:
        total[at : at + 2048] += hann(2048) ** 2
    expected = total[starts[-1] : starts[-1] + 2048]
    np.testing.assert_allclose(framing.so_far, np.maximum(expected, 0.01 * expected.max()), rtol=1e-9)


# --- at work -----------------------------------------------------------------------------------------------------


def test_tensors_wait_for_nothing_and_can_be_traced():
    """On a device without data, where a look at a number raises; and as a graph over its state."""
    rule, said = TensorPhases(), magnitudes(music(2))[:, :4]
    meta = rule(said.to("meta"), rule.begin(2, "meta"))
    assert list(meta.shape) == [2, 4 * HOP]
    traced = make_fx(lambda x, s: rule(x, s))(said, rule.begin(2))
    one, other = rule.begin(2), rule.begin(2)
    for part in magnitudes(music(2)).split(4, dim=1):
        assert torch.equal(traced(part, one), rule(part, other))
    assert torch.equal(one, other)


def test_nothing_is_compiled_after_the_first_call():
    heap, peaks = made("heap"), made("peaks", window=640, rounds=0, tolerance=0)
    heap(magnitudes(music(1)), heap.begin(1))
    known = len(machine_phases.advance.signatures)
    heap(magnitudes(music(3)).double().flip(1), heap.begin(3))
    peaks(magnitudes(music(1), 640).mT.contiguous().mT, peaks.begin(1))
    assert len(machine_phases.advance.signatures) == known > 0


@pytest.mark.parametrize("place", ["caller", "machine"])
def test_code_is_compiled_anew_when_a_file_beside_it_or_beside_the_compiler_changes(place, tmp_path, monkeypatch):
    for folder in ("caller", "machine"):
        (tmp_path / folder).mkdir()
        monkeypatch.syspath_prepend(tmp_path / folder)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine" / "machine.py"))
    caller, callee = tmp_path / "caller" / "caller.py", tmp_path / place / "callee.py"
    start = "from accomp.plugins.tokenizers.codec.phase.machine import machine\n"
    caller.write_text(f"{start}from callee import g\n@machine\ndef f(x):\n    return g(x)\n")

    def answer(factor: int, age: float) -> float:
        callee.write_text(f"{start}@machine\ndef g(x):\n    return {factor} * x\n")
        for name in ("caller", "callee"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        os.utime(callee, (age, age))
        importlib.invalidate_caches()
        return importlib.import_module("caller").f(1.0)

    os.utime(caller, (1e9, 1e9))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert answer(2, 1e9) == 2
    assert answer(3, time.time() + 1) == 3


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_magnitudes_that_are_none_are_refused(name, bad):
    rule, said = made(name), torch.ones(1, 3, BINS)
    said[0, 1, 5] = bad
    with pytest.raises(ValueError, match=r"magnitudes lie in .*expected finite ones from 0"):
        rule(said, rule.begin(1))


@pytest.mark.parametrize("shape", [(2, 3, BINS), (1, 3, BINS - 1), (3, BINS)])
def test_other_shapes_are_refused(rule, shape):
    with pytest.raises(ValueError, match=r"expected float \[1, n, 641\]"):
        rule(torch.ones(shape), rule.begin(1))
    with pytest.raises(ValueError, match="expected float"):
        rule(torch.ones(1, 3, BINS, dtype=torch.int64), rule.begin(1))


@pytest.mark.parametrize("name", ["heap", "peaks", "tensor"])
@pytest.mark.parametrize(
    "options",
    [
        *({"window": samples} for samples in (1282, 1000, 1232, 96, 0)),  # no multiple of 16; 7 and 11; too short
        *({"hop": 0}, {"hop": 321}, {"rounds": -1}, {"tolerance": 1}),
    ],
)
def test_what_a_rule_cannot_be_is_said(name, options):
    (key,) = options
    with pytest.raises(ValueError, match=rf"{key} = {options[key]}.*expected"):
        made(name, **options)


def test_there_are_rules_by_name_and_others_are_refused(monkeypatch):
    assert isinstance(phase_rule("peaks", device="cuda"), TensorPhases)
    with pytest.raises(PluginError, match=r"no phase rule 'random'; there are: peaks, heap"):
        phase_rule("random")
    monkeypatch.setitem(sys.modules, "accomp.plugins.tokenizers.codec.phase.machine_phases", None)
    with pytest.raises(PluginError, match=r"numba.*accomp\[codec\]"):
        phase_rule("heap")
