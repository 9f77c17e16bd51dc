"""Samplers of latents on velocities that are known exactly, and the arithmetic of guidance."""

import pytest
import torch
from latents import SPACE

from accomp.core.diffusion.denoising import last
from accomp.core.errors import CombinationError
from accomp.core.interfaces import Velocities
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.guidance import Guidance
from accomp.core.types import TokenSpace
from accomp.plugins.samplers.dpmpp import Dpmpp
from accomp.plugins.samplers.euler import Euler
from accomp.plugins.samplers.ping_pong import PingPong

SAMPLERS = (Euler, PingPong, Dpmpp)


def made(cls, steps: int, schedule: str = "log_snr", **more):
    return cls(cls.Config(steps=steps, schedule=schedule, **more), SPACE)


def noise(number: int, items: int = 20_000) -> torch.Tensor:
    drawn = torch.randn(items, 1, 1, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
    return drawn / drawn.std()


def of_normal(x: torch.Tensor, t: float) -> Velocities:
    """The best velocity where latents are N(0, 1)."""
    v = (2 * t - 1) * x / ((1 - t) ** 2 + t**2)
    return Velocities(v, v)


@pytest.mark.parametrize("cls", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 50])
@pytest.mark.parametrize("schedule", ["log_snr", "linear"])
def test_a_point_is_found_in_any_number_of_steps(cls, steps, schedule):
    target = noise(99, 4)
    found = last(made(cls, steps, schedule).path(lambda x, t: Velocities((x - target) / t, x), lambda i: noise(i, 4)))
    torch.testing.assert_close(found, target, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("cls", "steps", "schedule", "variance"),
    [
        (Euler, 200, "linear", 0.98), (Dpmpp, 200, "linear", 0.995), (PingPong, 200, "linear", 0.49),
        (Euler, 50, "log_snr", 0.90), (Dpmpp, 50, "log_snr", 0.97), (PingPong, 50, "log_snr", 0.45),
        (PingPong, 4, "log_snr", 0.26),
    ],
)  # fmt: skip
def test_how_much_variance_is_left_of_unit_variance(cls, steps, schedule, variance):
    found = last(made(cls, steps, schedule).path(of_normal, noise))
    assert float(found.var()) == pytest.approx(variance, abs=0.02)


def test_one_step_of_each_is_the_clean_prediction():
    one = [last(made(cls, 1).path(of_normal, noise)) for cls in SAMPLERS]
    torch.testing.assert_close(one[0], one[1])
    torch.testing.assert_close(one[0], one[2])
    torch.testing.assert_close(one[0], noise(0) - of_normal(noise(0), 1.0).guided)


@pytest.mark.parametrize("cls", [Euler, PingPong])
def test_cfg_plus_plus_by_nothing_is_the_plain_step_without_condition(cls):
    def predict(w: float):
        def velocities(x, t):
            v, u = torch.tanh(x + 1), torch.tanh(x)
            return Velocities(u + w * (v - u), u)

        return velocities

    plain, plus = made(cls, 4), made(cls, 4, plus=True)
    without = last(plain.path(lambda x, t: predict(0.0)(x, t), noise))
    torch.testing.assert_close(last(plus.path(predict(0.0), noise)), without)
    assert not torch.allclose(last(plus.path(predict(1.0), noise)), last(plain.path(predict(1.0), noise)))


def test_guidance_keeps_the_forward_without_where_it_is_asked_for():
    v = torch.arange(6.0).view(2, 3)
    assert len(Guidance({"context": 1.0}).variants) == 1
    plus = Guidance({"context": 1.0}, plus=True)
    assert len(plus.variants) == 2
    assert torch.equal(plus.combine(v), v[:1])
    assert torch.equal(plus.without(v), v[1:])
    several = Guidance({"context": 0.5, "instrument": 0.2}, plus=True)
    w = torch.arange(9.0).view(3, 3)
    assert torch.equal(several.without(w), w[2:])
    torch.testing.assert_close(several.combine(w), 0.5 * w[:1] + 0.2 * w[1:2] + 0.3 * w[2:])
    assert torch.equal(Guidance().without(v), v)


def test_normal_noise_is_normal_and_belongs_to_its_key():
    key = KeyedRandom.seeded(3).fold(torch.arange(1000))
    drawn = key.normal(50)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.02)
    assert float(drawn.std()) == pytest.approx(1, abs=0.01)
    assert torch.equal(drawn[7], KeyedRandom(key.key[7]).normal(50))
    assert drawn.isfinite().all()


@pytest.mark.parametrize("cls", SAMPLERS)
def test_codes_are_refused(cls):
    with pytest.raises(CombinationError, match="4 codebooks of codes"):
        cls(cls.Config(), TokenSpace(32000, 640, 4, 1024, 64))
