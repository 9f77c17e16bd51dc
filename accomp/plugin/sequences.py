"""Token sequences: delay pattern, model, masks, chunks, KV caches; for objectives, backbones, fusers and samplers."""

from __future__ import annotations

from accomp.core.model.ahead_keys import AheadKeys
from accomp.core.model.attention_tiles import tiled
from accomp.core.model.chunks import Chunks, chunk_starts, draw_starts
from accomp.core.model.ear import with_heard
from accomp.core.model.future_heads import LooksAhead
from accomp.core.model.level_weights import each_level, weights_of
from accomp.core.model.masking import STEPS, Candidates, Draw, each, fill_in, per_level, training_mask
from accomp.core.model.model import Model, nats_of, withhold
from accomp.core.model.past_dropout import drop_past
from accomp.core.model.sequence import DelayPattern
from accomp.core.model.tokens import MASK, PADDING
from accomp.core.offline.framewise import hidden, whole_clip
from accomp.core.offline.prepended import Prepended
from accomp.core.streaming.graphs import cuda_graph
from accomp.core.streaming.kv_cache import CacheSlots, RingKVCache
from accomp.core.streaming.row_kernels import RowKernels, in_loops
from accomp.core.tensors import computed_once, total

__all__ = [
    "MASK",
    "PADDING",
    "STEPS",
    "AheadKeys",
    "CacheSlots",
    "Candidates",
    "Chunks",
    "DelayPattern",
    "Draw",
    "LooksAhead",
    "Model",
    "Prepended",
    "RingKVCache",
    "RowKernels",
    "chunk_starts",
    "computed_once",
    "cuda_graph",
    "draw_starts",
    "drop_past",
    "each",
    "each_level",
    "fill_in",
    "hidden",
    "in_loops",
    "nats_of",
    "per_level",
    "tiled",
    "total",
    "training_mask",
    "weights_of",
    "whole_clip",
    "with_heard",
    "withhold",
]
