"""Conversion of weights of stream-music-gen to the model of accomp.

Its transformer is `llama` with feedforward = "silu" in another weight layout: query head h shares key head h % J
instead of h // (H / J); rotary pairs are neighbours (2i, 2i + 1) instead of half a head apart; norms have no weights;
and its scores s <q, k> of unit vectors correspond to s / sqrt(d) merged into the scale of q.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from accomp.plugin.corpora import CLASSES
from accomp.plugins.importers.stream_music_gen.weights import (
    LAYERS,
    ROPE_BASE,
    Reference,
    heads_prefix,
    layers_prefix,
)


def parts(model: Reference) -> dict[str, Any]:
    """Return the spec sections of the equivalent model."""
    sizes = model.sizes
    fusers = {
        "streaming": {"plugin": "gated_add", "norm": "reference"},
        "streaming by concatenation": {"plugin": "add", "norm": False},
        "offline prefix": {"plugin": "add", "norm": False},
        "StemGen": {"plugin": "concat", "norm": False},
    }
    backbone = {
        "plugin": "llama", "depth": sizes["L"], "heads": sizes["H"], "kv_heads": sizes["J"], "head_dim": sizes["d"],
        "feedforward": "silu", "hidden": sizes["F"], "rope_dim": 2 * sizes["R"], "rope_base": ROPE_BASE,
    }  # fmt: skip
    return {"model": {"width": sizes["D"]}, "fuser": fusers[model.kind], "backbone": backbone}


def translated(model: Reference, scale: float) -> dict[str, Tensor]:
    """Convert weights to the model of `parts`; `scale` is s, the factor of attention scores in the reference."""
    padding = model.weights.get("input_padding", torch.empty(0, model.sizes["E"]))
    return {"input_padding": padding, **_around(model), **_backbone(model, scale)}


def _around(model: Reference) -> dict[str, Tensor]:
    """Convert embeddings, fuser and heads."""
    if model.kind == "StemGen":
        return {**_stemgen_ids(model), **_renamed(model, {"input_emb.input_fc": "fuser.project"})}
    ours = {"table.weight": model.weights["output_emb.emb.weight"]}
    for part in ("weight", "bias"):
        ours[f"heads.{part}"] = torch.cat(
            [model.weights[f"{heads_prefix(model.kind)}.{q}.{part}"] for q in range(model.sizes["K"])]
        )
    match model.kind:
        case "streaming":
            names = {"ln_in": "input_norm", "ln_out": "output_norm", "ln_fuse": "norm", "proj_in_to_out": "project"}
            ours |= _renamed(model, {there: f"fuser.{here}" for there, here in names.items()})
            ours["fuser.gate"] = model.weights["add_gate"]
        case "streaming by concatenation":  # W [x; e] = W_x x + W_e e, and W_e e is a table too
            x, e = model.weights["dec_input_emb.weight"].split([model.sizes["E"], model.sizes["D"]], dim=1)
            ours["table.weight"] = ours["table.weight"] @ e.T
            ours |= {"fuser.project.weight": x, "fuser.project.bias": model.weights["dec_input_emb.bias"]}
        case "offline prefix":
            ours |= _renamed(model, {"input_emb_fc": "fuser.project"})
    return ours


def _stemgen_ids(model: Reference) -> dict[str, Tensor]:
    """Convert table and heads, which lack rows for PAD and instruments there.

    Its levels share one table: code c of level q is row 2 + q C + c, and the mask of level q row 1 + q C, which is also
    a code of the level below. Here every level has its own mask, its PAD. The instrument is added once, by level 0.
    """
    K, C, M, D = (model.sizes[letter] for letter in "KCMD")
    theirs, instruments = model.weights["input_emb.target_token_emb.weight"], model.weights["input_emb.inst_emb.weight"]
    levels = [
        torch.cat([
            theirs[1 + q * C][None],
            instruments if q == 0 else torch.zeros(len(CLASSES), M),
            theirs[2 + q * C : 2 + q * C + C],
        ])
        for q in range(K)
    ]  # fmt: skip
    never = {"weight": torch.zeros(1 + len(CLASSES), D), "bias": torch.zeros(1 + len(CLASSES))}
    heads = {
        f"heads.{part}": torch.cat([
            rows for q in range(K) for rows in (blank, model.weights[f"{heads_prefix(model.kind)}.{q}.{part}"])
        ])
        for part, blank in never.items()
    }  # fmt: skip
    return {"table.weight": torch.cat(levels), **heads}


def _renamed(model: Reference, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Return weight and bias of the existing modules by their new names."""
    pairs = [(f"{there}.{part}", f"{here}.{part}") for there, here in names.items() for part in ("weight", "bias")]
    return {here: model.weights[there] for there, here in pairs if there in model.weights}


def _backbone(model: Reference, scale: float) -> dict[str, Tensor]:
    D, H, J, d, R = (model.sizes[letter] for letter in "DHJdR")
    heads = [group * J + head for head in range(J) for group in range(H // J)]
    still = range(2 * R, d)
    dims = [*range(0, 2 * R, 2), *still[: d // 2 - R], *range(1, 2 * R, 2), *still[d // 2 - R :]]
    ours = {"backbone.norm.weight": torch.ones(D)}
    for block in range(model.sizes["L"]):
        there, here = f"{layers_prefix(model.kind)}.layers.{2 * block}.1", f"backbone.layers.{block}"
        attention = {name: model.weights[f"{there}.{name}"] for name in LAYERS[0]}
        q, k, v = (attention[f"to_{name}.weight"].unflatten(0, (-1, d)) for name in "qkv")
        ours[f"{here}.attention.qkv.weight"] = torch.cat([q[heads][:, dims], k[:, dims], v]).flatten(0, 1)
        out = attention["to_out.weight"].unflatten(1, (-1, d))
        ours[f"{here}.attention.out.weight"] = out[:, heads].flatten(1)
        q_scale = attention["qk_norm_q_scale"][heads] * (scale / math.sqrt(d))
        ours[f"{here}.attention.qk_scale"] = torch.cat([q_scale, attention["qk_norm_k_scale"]])[..., dims]
        there = f"{layers_prefix(model.kind)}.layers.{2 * block + 1}.1.ff"
        names = {f"{there}.0.0": f"{here}.feedforward.up", f"{there}.2": f"{here}.feedforward.out"}
        ours |= _renamed(model, names)
        ours |= {f"{here}.{norm}.weight": torch.ones(D) for norm in ("attention_norm", "feedforward_norm")}
    return ours
