"""Recurrences: a clip at once is frame by frame; a resonator swings with its own frequency."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from torch import Tensor

from accomp.core.model.recurrences import Bank, against, times

DECAY = torch.tensor([-0.02, -0.3, -2.0], dtype=torch.float64)
BANKS = {"leaky": Bank(DECAY), "resonant": Bank(DECAY, torch.tensor([0.1, 0.7, 2.9], dtype=torch.float64))}


def real(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def as_complex(z: Tensor) -> Tensor:
    return torch.complex(z[..., 0, :], z[..., 1, :])


@pytest.mark.parametrize("kind", BANKS)
def test_a_clip_at_once_is_frame_by_frame(kind):
    bank = BANKS[kind]
    z, steps = bank.zeros(2), []
    v = real((2, 173, *z.shape[1:]))
    for frame in v.unbind(1):
        z = bank.advance(z, frame)
        steps.append(z)
    assert torch.allclose(bank.scan(v), torch.stack(steps, dim=1), atol=1e-12)


def test_the_numbers_are_those_of_the_definition():
    bank = BANKS["resonant"]
    v = real((1, 5, 2, 3))
    found = as_complex(bank.scan(v))
    for m in range(3):
        a, z = cmath.exp(complex(bank.decay[m], bank.angle[m])), 0j
        for x in as_complex(v)[0, :, m].tolist():
            z = a * z + (1 - abs(a)) * x
        assert complex(found[0, -1, m]) == pytest.approx(z)


def test_a_leaky_integrator_comes_to_rest_at_its_input():
    bank = Bank(torch.tensor([-0.1], dtype=torch.float64))
    z = bank.scan(torch.full((1, 400, 1, 1), 3.0, dtype=torch.float64))
    assert float(z[0, -1]) == pytest.approx(3.0)


def test_a_resonator_swings_with_its_own_frequency_most():
    periods = torch.arange(10, 60)
    bank = Bank(torch.full((50,), -1 / 200), 2 * math.pi / periods)
    clicks = (torch.arange(1000) % 25 == 0).float()[None, :, None] * torch.ones(50)
    v = torch.stack([clicks, torch.zeros_like(clicks)], dim=2)
    size = as_complex(bank.scan(v))[0, -100:].abs().mean(0)
    assert int(periods[size.argmax()]) == 25


def test_products_are_those_of_complex_numbers():
    a, b = real((4, 2, 5)), real((4, 2, 5), seed=1)
    assert torch.allclose(as_complex(times(a, b)), as_complex(a) * as_complex(b))
    assert torch.allclose(as_complex(against(a, b)), as_complex(a) * as_complex(b).conj())
