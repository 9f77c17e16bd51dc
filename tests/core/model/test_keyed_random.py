"""Noise: the generator it says it is, numbers that belong to their key, and statistics that would show a mistake."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from accomp.core.keyed_random import KeyedRandom

WORD = 2**64


def split_mix(state: int, count: int) -> list[int]:
    """SplitMix64 as published, in Python's unbounded integers."""
    out = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % WORD
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
        out.append(z ^ (z >> 31))
    return out


def grid(seed: int = 0, sessions: int = 3, levels: int = 4, frames: int = 50) -> KeyedRandom:
    """Noise of sessions x levels x frames."""
    noise = KeyedRandom.seeded(seed).fold(torch.arange(sessions)[:, None, None])
    return noise.fold(torch.arange(levels)[:, None]).fold(torch.arange(frames))


@given(st.integers(-(2**63), 2**63 - 1))
def test_uniform_numbers_are_the_top_bits_of_split_mix(key):
    expected = [((z >> 41) + 0.5) / 2**23 for z in split_mix(key % WORD, 5)]
    assert KeyedRandom(torch.tensor(key)).uniform(5).tolist() == expected


def test_numbers_belong_to_their_key_not_to_their_neighbours():
    whole = grid().uniform(7)
    assert whole.shape == (3, 4, 50, 7)
    alone = KeyedRandom.seeded(0).fold(2).fold(torch.tensor([3])).fold(torch.tensor(41)).uniform(7)
    assert torch.equal(alone[0], whole[2, 3, 41])


def test_some_of_the_numbers_are_those_of_all():
    wanted = torch.tensor([5, 0, 199])
    assert torch.equal(grid().gumbel(wanted), grid().gumbel(200)[..., wanted])


def test_other_seeds_sessions_levels_and_frames_give_other_numbers():
    keys = torch.cat([grid(seed).key.flatten() for seed in (0, 1, 2**63, 2**64 - 1)])
    assert len(keys.unique()) == len(keys) == 4 * 600
    assert torch.equal(grid(2**64).key, grid(0).key), "seeds count modulo 2^64"


def test_uniform_numbers_are_uniform():
    u = grid(sessions=10, frames=100).uniform(250).flatten().double()
    n = len(u)
    assert n == 10**6
    assert u.min() > 0
    assert u.max() < 1
    ranks = torch.arange(n) / n
    distance = (u.sort().values - ranks).abs().max() * n**0.5
    assert 0.2 < distance < 2.0, "Kolmogorov-Smirnov: 1.63 at one in a hundred, 1.95 at one in a thousand"


def test_neighbours_in_every_direction_are_unrelated():
    u = grid(sessions=10, frames=100).uniform(250).double() * 12**0.5 - 3**0.5
    for dim in range(4):
        a, b = u.narrow(dim, 0, u.shape[dim] - 1), u.narrow(dim, 1, u.shape[dim] - 1)
        correlation = (a * b).mean() * a.numel() ** 0.5
        assert correlation.abs() < 4, f"{correlation:.1f} standard deviations along dimension {dim}"


def test_gumbel_noise_draws_from_the_softmax():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    picked = (logits + grid(sessions=25, frames=200).gumbel(4)).argmax(-1).flatten()
    counts = picked.bincount(minlength=4).double()
    expected = logits.double().softmax(0) * len(picked)
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 16.3, "one in a thousand for 3 degrees of freedom"


def test_nothing_is_drawn_from_the_global_generator():
    before = torch.get_rng_state()
    grid().gumbel(3)
    assert torch.equal(before, torch.get_rng_state())


class FromKey(TorchDispatchMode):
    """Follows which tensors are computed from a key, and refuses products of others."""

    def __init__(self, key: torch.Tensor):
        super().__init__()
        self.known = [key]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if any(arg is known for arg in args for known in self.known):
            self.known.append(out)
        else:
            assert func is not torch.ops.aten.mul.Tensor, "a product in which there is no key"
        return out


def test_no_product_is_known_to_overflow_before_the_key_is():
    """C++ that multiplies the count of a loop by such constants is undefined, and torch.compile writes it."""
    key = torch.arange(2)
    with FromKey(key) as follow:
        KeyedRandom(key).fold(torch.arange(2)).uniform(40)
    assert len(follow.known) > 20
