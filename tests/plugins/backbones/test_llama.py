"""The decoder against a second one, written out plainly: every position by itself, no ring, angles in double."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from accomp.core.errors import CombinationError
from accomp.core.types import AttentionPattern, TokenSpace
from accomp.plugins.backbones.llama import Llama, Rotary

SPACE = TokenSpace(32000, 640, codebooks=4, codebook_size=10, latent_dim=6)
WIDTH = 16


def llama(**config) -> Llama:
    """Two layers with every weight random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Llama(Llama.Config(**{"depth": 2, "heads": 4, "kv_heads": 2} | config), SPACE, WIDTH)
        for weight in made.parameters():
            weight.data += 0.2 * torch.randn_like(weight)
    return made.eval()


def inputs(positions: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, positions, WIDTH, generator=torch.Generator().manual_seed(seed))


def rms(v: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    return v / v.square().mean(-1, keepdim=True).sqrt() * weight


def turned(v: Tensor, position: int, rope_dim: int, base: float = 10_000.0) -> Tensor:
    """v [..., d] with dimensions i and i + d/2 turned by position * base^(-2 i / rope_dim), i < rope_dim / 2."""
    half, pairs = v.shape[-1] // 2, rope_dim // 2
    out = v.clone()
    for i in range(pairs):
        angle = position * base ** (-2 * i / rope_dim)
        a, b = v[..., i], v[..., i + half]
        out[..., i] = a * math.cos(angle) - b * math.sin(angle)
        out[..., i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def plainly(model: Llama, h: Tensor, *, window: int = 10**9, pinned: int = -1, causal: bool = True) -> Tensor:
    """The same network, position by position; `pinned` is seen from everywhere, at most `window` positions away."""
    heads, groups, rope = 4, model.kv_heads, int((model.rotary.steps != 0).sum())
    d, S = model.head_dim, h.shape[1]
    for layer in model.layers:
        attention, x = layer.attention, rms(h, layer.attention_norm.weight)
        q, k, v = (x @ attention.qkv.weight.T).view(*x.shape[:2], -1, d).split([heads, groups, groups], dim=2)
        q, k = rms(q, attention.qk_scale[:heads, 0]), rms(k, attention.qk_scale[heads:, 0])
        out = torch.zeros_like(q)
        for p in range(S):
            seen = [s for s in range(S) if not causal or (s <= p and (p - s < window or s == pinned))]
            for head in range(heads):
                group = head // (heads // groups)
                scores = [
                    (turned(q[:, p, head], min(p - s, window), rope) * k[:, s, group]).sum(-1) / d**0.5 for s in seen
                ]
                weights = torch.stack(scores, dim=-1).softmax(-1)
                out[:, p, head] = (weights[..., None] * v[:, seen, group]).sum(1)
        h = h + out.flatten(2) @ attention.out.weight.T
        x = rms(h, layer.feedforward_norm.weight)
        if hasattr(layer.feedforward.up, "bias") and layer.feedforward.up.bias is not None:
            h = h + layer.feedforward.out(F.silu(layer.feedforward.up(x)))
        else:
            gate, value = (x @ layer.feedforward.up.weight.T).chunk(2, dim=-1)
            h = h + (gate * gate.sigmoid() * value) @ layer.feedforward.out.weight.T
    return rms(h, model.norm.weight)


def stepwise(model: Llama, h: Tensor, state, calls: list[int]) -> Tensor:
    with torch.inference_mode():
        return torch.cat([model(part, state=state) for part in h.split(calls, dim=1)], dim=1)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "config", [{}, {"kv_heads": None}, {"feedforward": "silu"}, {"head_dim": 8, "rope_dim": 4}, {"kv_heads": 1}]
)
def test_it_is_the_network_written_out(config, causal):
    model, h = llama(**config), inputs(7)
    assert torch.allclose(model(h, causal=causal), plainly(model, h, causal=causal), atol=1e-5)


def test_steps_are_the_whole():
    model, h = llama(), inputs(20)
    whole = model(h)
    assert torch.allclose(stepwise(model, h, model.new_state(2, 20), [1] * 20), whole, atol=1e-5)
    assert torch.allclose(stepwise(model, h, model.new_state(2, 20, chunk=8), [8, 3, 1, 8]), whole, atol=1e-5)


@pytest.mark.parametrize("pinned", [-1, 0, 3])
@pytest.mark.parametrize(("window", "chunk"), [(4, 1), (5, 3), (1, 1)])
def test_the_ring_is_full_attention_under_a_mask(window, chunk, pinned):
    model, h = llama(), inputs(14)
    kept = range(pinned, pinned + 1) if pinned >= 0 else range(0)
    state = model.new_state(2, window, chunk=chunk, pinned=kept)
    calls = [chunk] * (14 // chunk) + [14 % chunk] * (14 % chunk > 0)
    expected = plainly(model, h, window=window, pinned=pinned)
    assert torch.allclose(stepwise(model, h, state, calls), expected, atol=1e-4)


def test_a_pinned_position_changes_nothing_within_the_window():
    model, h = llama(), inputs(12)
    steps = [stepwise(model, h, model.new_state(2, 12, pinned=kept), [1] * 12) for kept in (range(0), range(2, 4))]
    assert torch.allclose(steps[0], steps[1], atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=8))
def test_rollback_is_never_having_gone_ahead(window, chunk, moves):
    model, h = llama(depth=1), inputs(40)
    state, at = model.new_state(2, window, chunk=chunk, pinned=range(1)), 0
    for length, keep in [*moves, (1, True)]:
        length = min(length, chunk)
        part = h[:, at : at + length] if keep else inputs(length, seed=9)
        with torch.inference_mode():
            out = model(part, state=state)
            if not keep:
                state.rollback(state.position - length)
        at += length * keep
    straight = stepwise(model, h[:, :at], model.new_state(2, window, pinned=range(1)), [1] * at)
    assert torch.allclose(out[:, -1], straight[:, -1], atol=1e-5)


def test_each_row_has_its_own_position():
    model, h = llama(), inputs(12, batch=3)
    state = model.new_state(3, 5, pinned=range(1))
    stepwise(model, h[:, :8], state, [1] * 8)
    state.reset(torch.tensor([False, True, False]))
    rest = stepwise(model, h[:, 8:], state, [1] * 4)
    assert state.position.tolist() == [12, 4, 12]
    whole = stepwise(model, h, model.new_state(3, 5, pinned=range(1)), [1] * 12)
    assert torch.equal(rest[[0, 2]], whole[[0, 2], 8:])
    fresh = stepwise(model, h[:, 8:], model.new_state(3, 5, pinned=range(1)), [1] * 4)
    assert torch.equal(rest[1], fresh[1])


def test_only_the_distance_counts_even_after_hours():
    model, h = llama(), inputs(6)
    near = stepwise(model, h, model.new_state(2, 6), [1] * 6)
    state = model.new_state(2, 6)
    state.rollback(torch.full((2,), 50 * 3600 * 24 * 30))  # a month of 50 Hz frames
    state.position += -state.position % state.capacity
    for keys in state.keys:
        assert not keys.data.any(), "what was before is nothing"
    far = stepwise(model, torch.cat([torch.zeros(2, 5, WIDTH), h], dim=1), state, [1] * 11)
    again = stepwise(model, torch.cat([torch.zeros(2, 5, WIDTH), h], dim=1), fresh_with_empty_past(model), [1] * 11)
    assert near.shape == (2, 6, WIDTH)
    assert torch.allclose(far, again, atol=1e-5)


def fresh_with_empty_past(model: Llama):
    """A state that has absorbed one window of keys that are all zero."""
    state = model.new_state(2, 6)
    state.position += state.capacity
    return state


def test_angles_are_those_of_double_precision():
    rotary = Rotary(head_dim=16, rope_dim=16, base=10_000.0)
    for position in (0, 1, 499, 50 * 3600 * 8, 2**31 + 7):
        rotation = rotary(torch.tensor([[[position]]]))
        v = torch.randn(1, 1, 1, 16, generator=torch.Generator().manual_seed(1))
        expected = turned(v[0, 0].double(), position, 16)
        assert torch.allclose(rotation(v)[0, 0, :, 0].double(), expected, atol=2e-6)


def test_a_state_takes_no_sight_and_no_more_than_its_chunk():
    model = llama()
    sight = AttentionPattern(torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="do not pass `sight` with it"):
        model(inputs(1), sight=sight, state=model.new_state(2, 4))
    with pytest.raises(ValueError, match="3 positions in one call; this state was made for at most 2"):
        model(inputs(3), state=model.new_state(2, 4, chunk=2))
    for wrong in ({"window": 0}, {"window": 4, "chunk": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            model.new_state(2, **wrong)


def test_numbers_that_do_not_divide_are_all_told():
    with pytest.raises(CombinationError) as error:
        Llama(Llama.Config(depth=1, heads=3, kv_heads=2), SPACE, WIDTH)
    assert len(error.value.problems) == 3
    assert "model.width 16 is not a multiple of backbone.heads 3" in error.value.problems[0]
    assert "heads 3 is not a multiple of backbone.kv_heads 2" in error.value.problems[1]
    assert "rope_dim 5 and head_dim 5 must be even" in error.value.problems[2]
    with pytest.raises(CombinationError, match="rope_dim 8 and head_dim 4"):
        Llama(Llama.Config(depth=1, heads=4, rope_dim=8), SPACE, WIDTH)


def test_hidden_width_follows_llama_where_absent():
    assert llama().layers[0].feedforward.out.in_features == 256
    wide = Llama(Llama.Config(depth=1, heads=16), SPACE, 1024)
    assert wide.layers[0].feedforward.out.in_features == 2816
    assert llama(feedforward="silu").layers[0].feedforward.out.in_features == 64
    assert llama(hidden=40).layers[0].feedforward.out.in_features == 40
