"""Recurrences: a clip at once is frame by frame; a resonator swings with its own frequency."""

from __future__ import annotations

import cmath
import math

import pytest
import torch

from accomp.core.model.recurrences import advance, scan

LOG_A = {
    "leaky": torch.tensor([-0.01, -0.3, -2.0], dtype=torch.float64),
    "resonant": torch.complex(
        torch.tensor([-0.02, -0.1, -0.5], dtype=torch.float64), torch.tensor([0.1, 0.7, 2.9], dtype=torch.float64)
    ),
}


@pytest.mark.parametrize("kind", LOG_A)
def test_a_clip_at_once_is_frame_by_frame(kind):
    log_a = LOG_A[kind]
    v = torch.randn(2, 173, 3, dtype=log_a.dtype, generator=torch.Generator().manual_seed(0))
    z, steps = torch.zeros(2, 3, dtype=log_a.dtype), []
    for frame in v.unbind(1):
        z = advance(z, frame, log_a)
        steps.append(z)
    assert torch.allclose(scan(v, log_a), torch.stack(steps, dim=1), atol=1e-12)


def test_the_numbers_are_those_of_the_definition():
    log_a = LOG_A["resonant"][1]
    a, z = cmath.exp(complex(log_a)), 0j
    for _ in range(5):
        z = a * z + (1 - abs(a)) * 2
    found = scan(torch.full((1, 5, 1), 2.0, dtype=torch.complex128), log_a[None])[0, -1, 0]
    assert complex(found) == pytest.approx(z)


def test_a_leaky_integrator_comes_to_rest_at_its_input():
    z = scan(torch.full((1, 400, 1), 3.0, dtype=torch.float64), torch.tensor([-0.1], dtype=torch.float64))
    assert float(z[0, -1, 0]) == pytest.approx(3.0)


def test_a_resonator_swings_with_its_own_frequency_most():
    periods = torch.arange(10, 60)
    log_a = torch.complex(torch.full((50,), -1 / 200), 2 * math.pi / periods)
    clicks = (torch.arange(1000) % 25 == 0).to(torch.complex64)[None, :, None].expand(1, 1000, 50)
    size = scan(clicks, log_a)[0, -100:].abs().mean(0)
    assert int(periods[size.argmax()]) == 25
