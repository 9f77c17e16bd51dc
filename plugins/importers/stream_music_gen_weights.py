"""The weights of stream-music-gen, the public code of the streaming paper: what must be there, and the same as ours.

Its transformer is `llama` with feedforward = "silu", its numbers in other places: query head h shares key head h % J
where ours shares h // (H / J), rotated pairs are neighbours (2i, 2i + 1) where ours are half a head apart, norms have
no weights, and its scores s <q, k> of unit vectors are ours with s / sqrt(d) taken into the scale of q.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from accomp.plugin import CheckpointError
from accomp.plugin.corpora import CLASSES

# Shapes by letters: K levels, V ids a level, C codes a level, D width, M half of it, E latents, H query and J key heads
# of width d, F inside the feed-forward, R rotated pairs, P learned input frames. "KC+2" is K * C + 2.
OWN = {
    "streaming": {
        "add_gate": "D", "ln_in.weight": "E", "ln_in.bias": "E", "ln_out.weight": "D", "ln_out.bias": "D",
        "ln_fuse.weight": "D", "ln_fuse.bias": "D",
    },
    "streaming by concatenation": {"dec_input_emb.weight": "D E+D", "dec_input_emb.bias": "D"},
    "offline prefix": {"input_emb_fc.weight": "D E", "input_emb_fc.bias": "D"},
    "StemGen": {
        "input_emb.target_token_emb.weight": "KC+2 M", "input_emb.inst_emb.weight": f"{len(CLASSES)} M",
        "input_emb.input_fc.weight": "M E", "input_emb.input_fc.bias": "M",
    },
}  # fmt: skip
"""Kind -> the keys that only it has."""
TABLE = {"output_emb.emb.weight": "VK D"}
PROJECTION = {"proj_in_to_out.weight": "D E", "proj_in_to_out.bias": "D"}
LAYERS = (
    {
        "qk_norm_q_scale": "H 1 d", "qk_norm_k_scale": "J 1 d",
        "to_q.weight": "Hd D", "to_k.weight": "Jd D", "to_v.weight": "Jd D", "to_out.weight": "D Hd",
    },
    {"ff.0.0.weight": "F D", "ff.0.0.bias": "F", "ff.2.weight": "D F", "ff.2.bias": "D"},
)  # fmt: skip
"""Even and odd layers."""
COPY = "encoder.to_logits.output_fc"
"""Where StemGen's heads stand a second time."""
ROPE_BASE = 10_000.0


@frozen(eq=False)
class Reference:
    """One of its models: every weight is there, and their shapes fit together.

    Attributes:
        kind: a key of OWN. A chunked model has the weights of a streaming one.
        sizes: the letters above -> numbers, and L, how many blocks of attention and feed-forward there are.
        weights: name, without what stands before all of them -> float32.
    """

    kind: str
    sizes: Mapping[str, int]
    weights: Mapping[str, Tensor]

    @property
    def streams(self) -> bool:
        """Whether it plays by a clock."""
        return self.kind.startswith("streaming")

    @property
    def codes(self) -> int:
        """C, codes a level. All but StemGen count PAD and the instruments among the ids of a level."""
        return self.sizes["C"] if self.kind == "StemGen" else self.sizes["V"] - 1 - len(CLASSES)


# --- what must be there ------------------------------------------------------------------------------------------


def recognise(weights: Mapping[str, Tensor]) -> Reference:
    """Which model these weights are. Raises CheckpointError, with everything that is wrong, where they are none."""
    found = {kind: len(own.keys() & weights.keys()) for kind, own in OWN.items()}
    kind = max(found, key=lambda kind: found[kind])
    if any(name.startswith("film_gen.") for name in weights):
        raise CheckpointError(
            "a streaming model that fuses by FiLM (it has film_gen) through a network that sees both streams, which no "
            'fuser here does; models trained with cond_method = "add" or "concat" can be imported'
        )
    if not found[kind]:
        raise CheckpointError(
            f"none of the models of stream-music-gen: expected {' or '.join(next(iter(own)) for own in OWN.values())} "
            f"among its weights, found {_listed(weights)}"
        )
    counted = _counted(kind, weights)
    if problems := [
        f"{what} up to {n - 1}, of {len(weights)} weights" for what, n in counted.items() if n > len(weights)
    ]:
        raise CheckpointError(f"the numbers in its names are no count of its parts: {'; '.join(problems)}")
    shapes = _shapes(kind, weights, counted)
    sizes = _measured(shapes, weights, counted)
    if problems := list(_problems(kind, weights, shapes, sizes)):
        raise CheckpointError(f"looks like a model of the kind {kind!r} of stream-music-gen, but:", *problems)
    single = {name: weight.float() for name, weight in weights.items()}
    if beyond := [name for name, weight in single.items() if not weight.isfinite().all()]:
        raise CheckpointError(f"weights hold numbers that float32 does not: {_listed(beyond)}")
    return Reference(kind, sizes, single)


def _heads(kind: str) -> str:
    return "output_layer.output_fc" if kind == "StemGen" else "decoder.to_logits.out_heads"


def _layers(kind: str) -> str:
    return "encoder.attn_layers" if kind == "StemGen" else "decoder.attn_layers"


def _counted(kind: str, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Levels and blocks, by the numbers in the names."""

    def count(before: str) -> int:
        numbers = [re.match(rf"{re.escape(before)}\.(\d+)\.", name) for name in weights]
        return max((int(number[1]) + 1 for number in numbers if number), default=0)

    return {"K": count(_heads(kind)), "L": math.ceil(count(f"{_layers(kind)}.layers") / len(LAYERS))}


def _shapes(kind: str, weights: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, str]:
    """Name -> shape of every weight that a model of that kind has; what may be absent is in where `weights` has it."""
    shapes = OWN[kind] | {f"{_layers(kind)}.rotary_pos_emb.inv_freq": "R"}
    for layer in range(len(LAYERS) * sizes["L"]):
        names = LAYERS[layer % len(LAYERS)].items()
        shapes |= {f"{_layers(kind)}.layers.{layer}.1.{name}": shape for name, shape in names}
    heads, ids = [_heads(kind)], "C" if kind == "StemGen" else "V"
    if any(name.startswith(COPY) for name in weights):
        heads.append(COPY)
    for q in range(sizes["K"]):
        shapes |= {f"{head}.{q}.weight": f"{ids} D" for head in heads}
        shapes |= {f"{head}.{q}.bias": ids for head in heads}
    if kind != "StemGen":
        shapes |= TABLE
    if kind.startswith("streaming") and "input_padding" in weights:
        shapes["input_padding"] = "P E"
    if kind == "streaming" and not _bare(weights):
        shapes |= PROJECTION
    return shapes


def _bare(weights: Mapping[str, Tensor]) -> bool:
    """Whether latents are as wide as the model; the reference does not project them then."""
    shapes = [weights[name].shape for name in ("ln_in.weight", "ln_fuse.weight") if name in weights]
    return len(shapes) == 2 and shapes[0] == shapes[1] and not PROJECTION.keys() & weights.keys()


def _measured(shapes: Mapping[str, str], weights: Mapping[str, Tensor], counted: Mapping[str, int]) -> dict[str, int]:
    """Letter -> its size, as most weights have it, so that the odd one out is told and not the others."""
    dims = [
        pair
        for name, shape in shapes.items()
        if name in weights and weights[name].ndim == len(shape.split())
        for pair in zip(shape.split(), weights[name].shape, strict=True)
    ]
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    sizes = dict(counted)
    for letters in (1, 2):  # "D", then "Hd": H where d is known
        for dim, size in dims:
            known = 1 if letters == 1 else sizes.get(dim[1:], 0)
            if dim.isalpha() and len(dim) == letters and known:
                votes[dim[0]][size // known] += 1
        sizes |= {letter: counter.most_common(1)[0][0] for letter, counter in votes.items()}
    both = [size for dim, size in dims if dim == "E+D"]
    if both and "D" in sizes:
        sizes["E"] = both[0] - sizes["D"]
    return sizes


def _size(dim: str, sizes: Mapping[str, int]) -> int | None:
    """ "KC+2" -> K * C + 2; None where a letter is not known."""
    if any(letter.isalpha() and letter not in sizes for letter in dim):
        return None
    terms = [math.prod(sizes[letter] for letter in term) if term.isalpha() else int(term) for term in dim.split("+")]
    return sum(terms)


def _problems(
    kind: str, weights: Mapping[str, Tensor], shapes: Mapping[str, str], sizes: Mapping[str, int]
) -> Iterator[str]:
    if missing := [name for name in shapes if name not in weights]:
        yield f"weights are missing: {_listed(missing)}"
    if unknown := [name for name in weights if name not in shapes]:
        yield f"such a model has no weights of these names: {_listed(unknown)}"
    for name in (name for name in shapes if name in weights):
        weight, expected = weights[name], tuple(_size(dim, sizes) for dim in shapes[name].split())
        if weight.ndim != len(expected) or any(b not in (None, a) for a, b in zip(weight.shape, expected, strict=True)):
            told = ", ".join("any" if size is None else str(size) for size in expected)
            yield f"{name} has shape {tuple(weight.shape)}, expected ({told})"
        if not weight.is_floating_point() or not weight.isfinite().all():
            yield f"{name} holds {weight.dtype} with NaN, Inf or no real numbers"
    if kind == "StemGen":
        if "M" in sizes and "D" in sizes and 2 * sizes["M"] != sizes["D"]:
            yield f"embeddings are {sizes['M']} wide; expected half of the width {sizes['D']}"
        for name in (name for name in weights if name.startswith(COPY)):
            original = name.replace(COPY, _heads(kind))
            if original in weights and not torch.equal(weights[name], weights[original]):
                yield f"{name} differs from {original}, whose copy it should be"
    elif sizes.get("V", math.inf) < 2 + len(CLASSES):
        yield f"a level has {sizes['V']} ids; expected more than PAD and {len(CLASSES)} instruments"
    if sizes.get("H", 0) % sizes.get("J", 1):
        yield f"{sizes['H']} query heads cannot share {sizes['J']} key heads"
    turning = weights.get(f"{_layers(kind)}.rotary_pos_emb.inv_freq")
    if turning is not None and turning.ndim == 1:
        expected_turning = ROPE_BASE ** (-torch.arange(len(turning)) / len(turning))
        if not torch.allclose(turning.float(), expected_turning, rtol=0.01):
            yield f"inv_freq is not that of rotary positions with base {ROPE_BASE:g}"
        if 2 * len(turning) > sizes.get("d", math.inf):
            yield f"{2 * len(turning)} dimensions of a head turn, of {sizes['d']}"


def _listed(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


# --- the same here -----------------------------------------------------------------------------------------------


def parts(model: Reference) -> dict[str, Any]:
    """The sections of a spec that build this model here."""
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
    """The weights of the model that `parts` builds; `scale` is s, which the reference multiplies its scores with."""
    padding = model.weights.get("input_padding", torch.empty(0, model.sizes["E"]))
    return {"input_padding": padding, **_around(model), **_backbone(model, scale)}


def _around(model: Reference) -> dict[str, Tensor]:
    """Embeddings, fuser and heads."""
    if model.kind == "StemGen":
        return {**_stemgen_ids(model), **_renamed(model, {"input_emb.input_fc": "fuser.project"})}
    ours = {"table.weight": model.weights["output_emb.emb.weight"]}
    for part in ("weight", "bias"):
        ours[f"heads.{part}"] = torch.cat(
            [model.weights[f"{_heads(model.kind)}.{q}.{part}"] for q in range(model.sizes["K"])]
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
    """Table and heads, which there have no row for PAD and instruments.

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
            rows for q in range(K) for rows in (blank, model.weights[f"{_heads(model.kind)}.{q}.{part}"])
        ])
        for part, blank in never.items()
    }  # fmt: skip
    return {"table.weight": torch.cat(levels), **heads}


def _renamed(model: Reference, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Weight and bias of those modules that the model has."""
    pairs = [(f"{there}.{part}", f"{here}.{part}") for there, here in names.items() for part in ("weight", "bias")]
    return {here: model.weights[there] for there, here in pairs if there in model.weights}


def _backbone(model: Reference, scale: float) -> dict[str, Tensor]:
    D, H, J, d, R = (model.sizes[letter] for letter in "DHJdR")
    heads = [group * J + head for head in range(J) for group in range(H // J)]
    still = range(2 * R, d)
    dims = [*range(0, 2 * R, 2), *still[: d // 2 - R], *range(1, 2 * R, 2), *still[d // 2 - R :]]
    ours = {"backbone.norm.weight": torch.ones(D)}
    for block in range(model.sizes["L"]):
        there, here = f"{_layers(model.kind)}.layers.{2 * block}.1", f"backbone.layers.{block}"
        attention = {name: model.weights[f"{there}.{name}"] for name in LAYERS[0]}
        q, k, v = (attention[f"to_{name}.weight"].unflatten(0, (-1, d)) for name in "qkv")
        ours[f"{here}.attention.qkv.weight"] = torch.cat([q[heads][:, dims], k[:, dims], v]).flatten(0, 1)
        out = attention["to_out.weight"].unflatten(1, (-1, d))
        ours[f"{here}.attention.out.weight"] = out[:, heads].flatten(1)
        q_scale = attention["qk_norm_q_scale"][heads] * (scale / math.sqrt(d))
        ours[f"{here}.attention.qk_scale"] = torch.cat([q_scale, attention["qk_norm_k_scale"]])[..., dims]
        there = f"{_layers(model.kind)}.layers.{2 * block + 1}.1.ff"
        names = {f"{there}.0.0": f"{here}.feedforward.up", f"{there}.2": f"{here}.feedforward.out"}
        ours |= _renamed(model, names)
        ours |= {f"{here}.{norm}.weight": torch.ones(D) for norm in ("attention_norm", "feedforward_norm")}
    return ours
