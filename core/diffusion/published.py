"""The network of the published system (Live Music Diffusion Models, arXiv 2605.22717), by the names of its weights.

A diffusion transformer in which the noise level is a row of its own, behind the target, at rotary position 0 of the
window. It serves to check definitions of this package against published arithmetic, and to load published weights;
accomp trains the models of core/diffusion/latent_model.py.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from attrs import frozen
from torch import Tensor, nn


@frozen
class Sizes:
    """Sizes of a network: `width` D, `latent` C, `cond` the conditions' width, `add` = 2 + 2 C fuser channels."""

    width: int
    latent: int
    cond: int
    heads: int
    depth: int
    add: int
    rope_base: float
    rotary_dims: int
    head_dim: int
    frequencies: int = 128


class NetworkConditions(NamedTuple):
    """Conditions of an item: `cross` [B, n, cond] is attended to, `glob` [B, cond] is added to the noise level."""

    cross: Tensor
    glob: Tensor


class PublishedNetwork(nn.Module):
    """Maps rows of latents, with a final row of the noise level, to velocities."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        D, C = sizes.width, sizes.latent
        self.sizes = sizes
        self.timestep_features = nn.Linear(1, sizes.frequencies, bias=False)
        self.to_timestep_embed = nn.Sequential(nn.Linear(2 * sizes.frequencies, D), nn.SiLU(), nn.Linear(D, D))
        self.to_cond_embed = _two_layers(sizes.cond, D)
        self.to_global_embed = _two_layers(sizes.cond, D)
        self.to_input_add_embed = nn.Linear(sizes.add, D, bias=False)
        self.preprocess_conv = nn.Conv1d(C, C, 1, bias=False)
        self.postprocess_conv = nn.Conv1d(C, C, 1, bias=False)
        self.transformer = nn.ModuleDict(
            {
                "project_in": nn.Linear(C, D, bias=False),
                "project_out": nn.Linear(D, C, bias=False),
                "layers": nn.ModuleList(_Layer(sizes) for _ in range(sizes.depth)),
            }
        )

    def rows(self, noisy: Tensor | None, clean: Tensor | None, x_in: Tensor | None, given: Tensor) -> Tensor:
        """Embed rows of context or target, before the first layer: [B, T, D].

        noisy [B, C, T]: latents of target rows, None for rows of context. clean [B, C, T]: those of the context, None
        for the target. x_in [B, C, T]: input latents, None without any; given [T] bool: frames with input.
        """
        there = next(x for x in (noisy, clean) if x is not None)
        blank, one = torch.zeros_like(there), torch.ones_like(there[:, :1])
        q = given.to(there).expand_as(one)
        parts = [one * (clean is not None), blank if clean is None else clean, q, blank if x_in is None else x_in * q]
        h: Tensor = self.to_input_add_embed(torch.cat(parts, dim=1).mT)
        return h if noisy is None else h + self.latents(noisy)

    def latents(self, x: Tensor) -> Tensor:
        """Embed latents x [B, C, T] of noisy rows [B, T, D]."""
        return self.transformer["project_in"]((x + self.preprocess_conv(x)).mT)

    def token(self, t: Tensor, conditions: NetworkConditions) -> Tensor:
        """The row of the noise levels t [B]: [B, 1, D]."""
        angle = 2 * math.pi * self.timestep_features(t[:, None])
        level = self.to_timestep_embed(torch.cat([angle.cos(), angle.sin()], dim=-1))
        return (level + self.to_global_embed(conditions.glob))[:, None]

    def forward(
        self,
        h: Tensor,
        conditions: NetworkConditions,
        position: Tensor,
        sees: Tensor | None = None,
        depth: int | None = None,
    ) -> list[Tensor]:
        """Rows h [B, S, D] at rotary positions [S] -> the output of each of the first `depth` layers.

        sees: [S, S] bool, row i attends to row j; all to all where None.
        """
        cross = self.to_cond_embed(conditions.cross)
        rotation = _rotation(position, self.sizes).to(h)
        hidden = []
        layers: list[nn.Module] = [*self.transformer["layers"].children()]
        for layer in layers[:depth]:
            h = layer(h, cross, rotation, sees)
            hidden.append(h)
        return hidden

    def velocity(self, h: Tensor) -> Tensor:
        """Project the last layer's rows [B, T, D] to velocities [B, C, T]."""
        v: Tensor = self.transformer["project_out"](h).mT
        return v + self.postprocess_conv(v)

    def window(self, frames: int) -> Tensor:
        """Rotary positions of the rows of a window, and of the token behind it: 1..frames, 0."""
        return torch.cat([torch.arange(1, frames + 1), torch.zeros(1, dtype=torch.int64)])


class _Layer(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        D, inner = sizes.width, 4 * sizes.width
        self.pre_norm, self.cross_attend_norm, self.ff_norm = (_Gain(D) for _ in range(3))
        self.self_attn = _SelfAttention(sizes)
        self.cross_attn = _CrossAttention(sizes)
        self.ff = nn.ModuleDict({"ff": nn.Sequential(_Gated(D, inner), nn.Identity(), nn.Linear(inner, D))})

    def forward(self, h: Tensor, cross: Tensor, rotation: Tensor, sees: Tensor | None) -> Tensor:
        h = h + self.self_attn(self.pre_norm(h), rotation, sees)
        h = h + self.cross_attn(self.cross_attend_norm(h), cross)
        return h + self.ff["ff"](self.ff_norm(h))


class _Gain(nn.Module):
    """LayerNorm with a gain and no bias."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, h: Tensor) -> Tensor:
        return F.layer_norm(h, self.gamma.shape, self.gamma, eps=1e-5)


class _Gated(nn.Module):
    """a * silu(b) of two projections."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, h: Tensor) -> Tensor:
        value, gate = self.proj(h).chunk(2, dim=-1)
        return value * F.silu(gate)


class _SelfAttention(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.heads, inner = sizes.heads, sizes.heads * sizes.head_dim
        self.to_qkv = nn.Linear(sizes.width, 3 * inner, bias=False)
        self.to_out = nn.Linear(inner, sizes.width, bias=False)
        self.q_norm, self.k_norm = (nn.LayerNorm(sizes.head_dim, eps=1e-6) for _ in range(2))

    def forward(self, h: Tensor, rotation: Tensor, sees: Tensor | None) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.to_qkv(h).chunk(3, dim=-1))
        q, k = _turned(self.q_norm(q), rotation), _turned(self.k_norm(k), rotation)
        return self.to_out(F.scaled_dot_product_attention(q, k, v, attn_mask=sees).transpose(1, 2).flatten(2))


class _CrossAttention(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.heads, inner = sizes.heads, sizes.heads * sizes.head_dim
        self.to_q = nn.Linear(sizes.width, inner, bias=False)
        self.to_kv = nn.Linear(sizes.width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, sizes.width, bias=False)
        self.q_norm, self.k_norm = (nn.LayerNorm(sizes.head_dim, eps=1e-6) for _ in range(2))

    def forward(self, h: Tensor, cross: Tensor) -> Tensor:
        parts = (self.to_q(h), *self.to_kv(cross).chunk(2, dim=-1))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        o = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        return self.to_out(o.transpose(1, 2).flatten(2))


def _two_layers(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, out, bias=False), nn.SiLU(), nn.Linear(out, out, bias=False))


def _rotation(position: Tensor, sizes: Sizes) -> Tensor:
    """Angles [S, R / 2] in float64: dims i and i + R / 2 rotate by position * base ** (-2 i / R)."""
    pairs = torch.arange(0, sizes.rotary_dims, 2, dtype=torch.float64)
    return position.double()[:, None] * sizes.rope_base ** (-pairs / sizes.rotary_dims)


def _turned(x: Tensor, angle: Tensor) -> Tensor:
    """Rotate the first R dimensions of x [B, H, S, d] by angles [S, R / 2]."""
    half = angle.shape[1]
    a, b, rest = x.tensor_split([half, 2 * half], dim=-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)
