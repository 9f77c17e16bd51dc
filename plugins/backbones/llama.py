"""A LLaMA-style decoder: pre-norm RMSNorm, rotary positions, query-key norm, SwiGLU, grouped-query attention."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from accomp.plugin import AttentionPattern, Backbone, CombinationError, TokenSpace
from accomp.plugin.sequences import CacheSlots, RingKVCache, RowKernels, computed_once, in_loops

Visible = bool | Tensor | BlockMask
"""Causal or not; a mask; or its tiles."""


class Llama(Backbone):
    """h = h + Attention(RMSNorm(h)); h = h + FeedForward(RMSNorm(h)); `depth` times, then a last RMSNorm.

    The backbone of arXiv 2510.22105, section 4. With feedforward = "silu", rope_dim = 32 and head_dim = 64 it is
    that of the paper's public code.
    """

    @frozen
    class Config:
        """Sizes and variants.

        Attributes:
            depth: layers.
            heads: query heads.
            kv_heads: key and value heads, each shared by successive heads / kv_heads query heads; `heads` by default.
            head_dim: d, width of a head; width / heads by default.
            feedforward: "swiglu" W2 (silu(W1 h) * W3 h), without biases, or "silu" W2 silu(W1 h), with them.
            hidden: width inside the feed-forward; by default 8/3 of the width, rounded up to a multiple of 256, for
                swiglu and 4 times the width for silu.
            rope_dim: R, number of rotary dimensions per head; all by default.
            rope_base: the longest period is about 2 pi rope_base positions.
            dropout: dropout rate inside the feed-forward in training.
        """

        depth: int = field(validator=[v.ge(1), v.le(1000)])
        heads: int = field(validator=[v.ge(1), v.le(4096)])
        kv_heads: int | None = field(default=None, validator=v.optional(v.ge(1)))
        head_dim: int | None = field(default=None, validator=v.optional([v.ge(2), v.le(65_536)]))
        feedforward: Literal["swiglu", "silu"] = "swiglu"
        hidden: int | None = field(default=None, validator=v.optional(v.ge(1)))
        rope_dim: int | None = field(default=None, validator=v.optional(v.ge(2)))
        rope_base: float = field(default=10_000.0, validator=v.gt(1.0))
        dropout: float = field(default=0.0, validator=[v.ge(0.0), v.lt(1.0)])

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """Return a small configuration for the conformance kit."""
        return cls.Config(depth=2, heads=4, kv_heads=2)

    def __init__(self, config: Config, space: TokenSpace, width: int):
        """Raises CombinationError, with every problem, for numbers that do not divide."""
        super().__init__()
        heads, kv_heads = config.heads, config.kv_heads or config.heads
        head_dim = config.head_dim or width // heads
        rope_dim = config.rope_dim or head_dim
        problems = []
        if not config.head_dim and width % heads:
            problems.append(f"model.width {width} is not a multiple of backbone.heads {heads}; set backbone.head_dim")
        if heads % kv_heads:
            problems.append(f"backbone.heads {heads} is not a multiple of backbone.kv_heads {kv_heads}")
        if head_dim % 2 or rope_dim % 2 or rope_dim > head_dim:
            problems.append(f"backbone.rope_dim {rope_dim} and head_dim {head_dim} must be even, the first no greater")
        if problems:
            raise CombinationError(*problems)
        self.kv_heads, self.head_dim = kv_heads, head_dim
        self.rotary = Rotary(head_dim, rope_dim, config.rope_base)
        self.layers = nn.ModuleList(
            Layer(Attention(width, heads, kv_heads, head_dim), _feedforward(config, width), width)
            for _ in range(config.depth)
        )
        self.norm = nn.RMSNorm(width)
        with torch.no_grad():  # keeps the scale of the residual stream independent of depth
            for name, weight in self.named_parameters():
                if name.endswith("out.weight"):
                    weight.div_(math.sqrt(2 * config.depth))

    def forward(  # type: ignore[override]
        self, h: Tensor, *, causal: bool = True, state: RingKVCache | None = None, sight: AttentionPattern | None = None
    ) -> Tensor:
        """h [B, S, D] -> [B, S, D]. With a state, the S positions continue the cached ones; see Backbone.forward.

        Raises ValueError for a state with a `sight`: the window of the state defines the attention to cached positions.
        """
        if state is None:
            position = torch.arange(h.shape[1], device=h.device)[None] if sight is None else sight.position
            visible = causal if sight is None else _visible(sight)
            rotation = self.rotary(position[..., None])
            if self.training:
                rotation = Rotation(*map(computed_once, rotation))
            for layer in self.layers:
                h = layer(h, rotation, visible)
            return self.norm(h)
        if sight is not None:
            raise ValueError("a state defines its own attention pattern; do not pass `sight` with it")
        span = state.span(h.shape[1], causal)
        rotation = self.rotary(torch.cat([span.position[..., None], span.distance], dim=-1))
        for index, layer in enumerate(self.layers):
            h = layer(h, rotation, past=CachedKeys(state, index, span))
        state.advance(h.shape[1])
        return self.norm(h)

    def new_state(
        self,
        batch: int,
        window: int,
        *,
        chunk: int = 1,
        pinned: range = range(0),
        dtype: torch.dtype | None = None,
    ) -> RingKVCache:
        """See Backbone.new_state."""
        weight = self.norm.weight
        return RingKVCache(
            batch, window, layers=len(self.layers), heads=self.kv_heads, head_dim=self.head_dim, chunk=chunk,
            pinned=pinned, dtype=dtype or weight.dtype, device=weight.device,
        )  # fmt: skip


class Rotary(nn.Module):
    """Rotary positions (arXiv 2104.09864): dimensions i and i + d/2 rotate together, by position * base ** (-2 i / R).

    Only the first R/2 of the d/2 pairs rotate. Angles are fixed-point numbers, 2^64 per turn: int64 overflow wraps
    around as angles do, so precision does not degrade with position on any device.
    """

    def __init__(self, head_dim: int, rope_dim: int, base: float):
        super().__init__()
        pairs = torch.arange(head_dim // 2, dtype=torch.float64, device="cpu")  # also under the meta device
        turns = torch.where(pairs < rope_dim // 2, base ** (-2 * pairs / rope_dim) / (2 * math.pi), 0.0)
        self.steps: Tensor
        self.sign: Tensor
        self.register_buffer("steps", (turns * 2.0**64).round().long().repeat(2), persistent=False)
        signs = torch.tensor([-1.0, 1.0], device="cpu").repeat_interleave(head_dim // 2)
        self.register_buffer("sign", signs, persistent=False)

    def forward(self, position: Tensor) -> Rotation:
        """position [B, S, P] int64 -> rotations of vectors [B, S, H, P, d]."""
        angle = (position[..., None] * self.steps)[:, :, None].float() * (2 * math.pi / 2.0**64)
        return Rotation(angle.cos(), angle.sin() * self.sign)


class Rotation(NamedTuple):
    """Precomputed rotation: cos and signed sin, [B, S, 1, P, d]."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x [B, S, H, d] -> [B, S, H, P, d], each vector rotated to its P positions."""
        x = x[..., None, :]
        return x * self.cos.to(x.dtype) + x.roll(x.shape[-1] // 2, dims=-1) * self.sin.to(x.dtype)


class CachedKeys(NamedTuple):
    """Access of one layer to the KV cache: the cache, the index of the layer, and the cache slots of this call."""

    ring: RingKVCache
    layer: int
    span: CacheSlots


class Layer(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual connection."""

    def __init__(self, attention: Attention, feedforward: SwiGLU | SiLU, width: int):
        super().__init__()
        self.attention_norm, self.attention = nn.RMSNorm(width), attention
        self.feedforward_norm, self.feedforward = nn.RMSNorm(width), feedforward

    def forward(self, h: Tensor, rotation: Rotation, visible: Visible = True, past: CachedKeys | None = None) -> Tensor:
        """h [B, S, D] -> [B, S, D]. `visible`: causal flag, attention mask [B, 1, S, S], or its tiles."""
        if past is not None and past.ring.kernels is not None and h.shape[1] == 1:
            return self._row(h, rotation, past, past.ring.kernels)
        h = h + self.attention(self.attention_norm(h), rotation, visible, past)
        return h + self.feedforward(self.feedforward_norm(h))

    def _row(self, h: Tensor, rotation: Rotation, past: CachedKeys, kernels: RowKernels) -> Tensor:
        """As forward, for h [B, 1, D] after cached positions."""
        attention, feedforward = self.attention, self.feedforward
        qkv = kernels.project(h, attention.qkv, norm=self.attention_norm)
        o = past.ring.attend_row(past.layer, qkv, attention.qk_scale, rotation.cos, rotation.sin)
        h = kernels.project(o, attention.out, residual=h)
        hidden = kernels.project(h, feedforward.up, norm=self.feedforward_norm, activation=feedforward.activation)
        return kernels.project(hidden, feedforward.out, residual=h)


class Attention(nn.Module):
    """softmax(rotated q . rotated k / sqrt(d)) v, where q and k have unit mean square times a learned scale per head.

    H query heads share J key and value heads, H / J successive ones each.
    """

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.qkv = nn.Linear(width, (heads + 2 * kv_heads) * head_dim, bias=False)
        self.qk_scale = nn.Parameter(torch.ones(heads + kv_heads, 1, head_dim))
        self.out = nn.Linear(heads * head_dim, width, bias=False)

    def forward(self, h: Tensor, rotation: Rotation, visible: Visible, past: CachedKeys | None) -> Tensor:
        """h [B, S, D] -> [B, S, D]."""
        qk, v = self.qkv(h).unflatten(-1, (-1, self.head_dim)).tensor_split([self.heads + self.kv_heads], dim=2)
        qk = F.rms_norm(qk, (self.head_dim,)) * self.qk_scale[:, 0]
        turned = rotation(qk).to(v.dtype)
        (q, k), v = turned[:, :, :, 0].transpose(1, 2).tensor_split([self.heads], dim=1), v.transpose(1, 2)
        if past is None:
            o = _over_rows(q, k, v, visible)
        else:
            still = qk[:, :, self.heads :].transpose(1, 2)
            k = torch.where(past.span.pinned[:, None, :, None], still, k)
            o = self._attend(q, turned[:, :, : self.heads, 1:].transpose(1, 2), k, v, past)
        return self.out(o.transpose(1, 2).flatten(2))

    def _attend(self, q: Tensor, back: Tensor, k: Tensor, v: Tensor, past: CachedKeys) -> Tensor:
        """q [B, H, S, d], k and v [B, J, S, d] -> [B, H, S, d], over cached positions and this call.

        Cached keys are rotated to their position. Pinned keys are cached unrotated and multiply `back`
        [B, H, S, P, d], the query rotated to their distance, which is clipped at the window.
        """
        B, H, S, d = q.shape
        keys, values = past.ring.write(past.layer, past.span, k, v)
        J, L = keys.shape[1:3]
        bias = torch.where(past.span.hidden[:, None], -math.inf, 0.0).to(q.dtype).expand(B, H, S, L)
        if pinned := back.shape[3]:
            further = (back - q[..., None, :]).view(B, J, -1, S, pinned, d) * keys[:, :, None, None, :pinned]
            further = further.sum(-1).view(B, H, S, pinned) / math.sqrt(d)
            bias = torch.cat([bias[..., :pinned] + further, bias[..., pinned:]], dim=-1)
        q, bias = q.reshape(B, J, -1, d), bias.reshape(B, J, -1, L)  # heads that share keys form one product
        if in_loops(q):
            p = ((q * keys).sum(-1) / math.sqrt(d) + bias[:, :, 0]).softmax(-1)
            return (p[..., None] * values).sum(2).view(B, H, S, d)
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=bias).reshape(B, H, S, d)


def _visible(sight: AttentionPattern) -> Visible:
    return sight.visible[:, None] if sight.blocks is None else sight.blocks


def _over_rows(q: Tensor, k: Tensor, v: Tensor, visible: Visible) -> Tensor:
    """q [B, H, S, d], k and v [B, J, S, d] -> [B, H, S, d], without a cache."""
    gqa = q.shape[1] != k.shape[1]
    if isinstance(visible, BlockMask):  # autocast leaves its arguments as they are
        out: Tensor = flex_attention(q.to(v.dtype), k.to(v.dtype), v, block_mask=visible, enable_gqa=gqa)
        return out
    mask, causal = (visible, False) if isinstance(visible, Tensor) else (None, visible)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=gqa)


def _feedforward(config: Llama.Config, width: int) -> SwiGLU | SiLU:
    if config.feedforward == "swiglu":
        return SwiGLU(width, config.hidden or -(-8 * width // (3 * 256)) * 256, config.dropout)
    return SiLU(width, config.hidden or 4 * width, config.dropout)


class SwiGLU(nn.Module):
    """W2 (silu(W1 h) * W3 h) (arXiv 2002.05202); `up` holds W1 and W3."""

    activation: Final = "swiglu"

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        """h [B, S, D] -> [B, S, D]."""
        gate, value = self.up(h).chunk(2, dim=-1)
        return self.out(self.dropout(F.silu(gate) * value))


class SiLU(nn.Module):
    """W2 silu(W1 h + b1) + b2."""

    activation: Final = "silu"

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, width)

    def forward(self, h: Tensor) -> Tensor:
        """h [B, S, D] -> [B, S, D]."""
        return self.out(self.dropout(F.silu(self.up(h))))
