"""Validation of weights of stream-music-gen, the public code of the streaming paper: names, shapes, values."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

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
"""Kind -> keys that identify it."""
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
"""Prefix of the copy of StemGen's heads."""
ROPE_BASE = 10_000.0


@frozen(eq=False)
class Reference:
    """One of its models with complete weights of consistent shapes.

    Attributes:
        kind: a key of OWN. A chunked model has the weights of a streaming one.
        sizes: the letters above -> numbers, and L, the number of blocks of attention and feed-forward.
        weights: name without common prefix -> float32.
    """

    kind: str
    sizes: Mapping[str, int]
    weights: Mapping[str, Tensor]

    @property
    def streams(self) -> bool:
        """True for a streaming model, which has a clock."""
        return self.kind.startswith("streaming")

    @property
    def codes(self) -> int:
        """C, codes a level. All but StemGen count PAD and the instruments among the ids of a level."""
        return self.sizes["C"] if self.kind == "StemGen" else self.sizes["V"] - 1 - len(CLASSES)


def recognise(weights: Mapping[str, Tensor]) -> Reference:
    """Identify the model of these weights. Raises CheckpointError with all problems for other weights."""
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


def heads_prefix(kind: str) -> str:
    """Return the name prefix of the output heads."""
    return "output_layer.output_fc" if kind == "StemGen" else "decoder.to_logits.out_heads"


def layers_prefix(kind: str) -> str:
    """Return the name prefix of the transformer layers."""
    return "encoder.attn_layers" if kind == "StemGen" else "decoder.attn_layers"


def _counted(kind: str, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the numbers of levels and blocks by the numbers in the names."""

    def count(before: str) -> int:
        numbers = [re.match(rf"{re.escape(before)}\.(\d+)\.", name) for name in weights]
        return max((int(number[1]) + 1 for number in numbers if number), default=0)

    return {"K": count(heads_prefix(kind)), "L": math.ceil(count(f"{layers_prefix(kind)}.layers") / len(LAYERS))}


def _shapes(kind: str, weights: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, str]:
    """Return name -> shape of every weight of a model of that kind; optional ones only if in `weights`."""
    shapes = OWN[kind] | {f"{layers_prefix(kind)}.rotary_pos_emb.inv_freq": "R"}
    for layer in range(len(LAYERS) * sizes["L"]):
        names = LAYERS[layer % len(LAYERS)].items()
        shapes |= {f"{layers_prefix(kind)}.layers.{layer}.1.{name}": shape for name, shape in names}
    heads, ids = [heads_prefix(kind)], "C" if kind == "StemGen" else "V"
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
    """Return True if latents have the model width; the reference does not project them then."""
    shapes = [weights[name].shape for name in ("ln_in.weight", "ln_fuse.weight") if name in weights]
    return len(shapes) == 2 and shapes[0] == shapes[1] and not PROJECTION.keys() & weights.keys()


def _measured(shapes: Mapping[str, str], weights: Mapping[str, Tensor], counted: Mapping[str, int]) -> dict[str, int]:
    """Return the size of each letter by majority of the weights, so that only outliers are reported."""
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
    """ "KC+2" -> K * C + 2; None for an unknown letter."""
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
            original = name.replace(COPY, heads_prefix(kind))
            if original in weights and not torch.equal(weights[name], weights[original]):
                yield f"{name} differs from {original}, whose copy it should be"
    elif sizes.get("V", math.inf) < 2 + len(CLASSES):
        yield f"a level has {sizes['V']} ids; expected more than PAD and {len(CLASSES)} instruments"
    if sizes.get("H", 0) % sizes.get("J", 1):
        yield f"{sizes['H']} query heads cannot share {sizes['J']} key heads"
    turning = weights.get(f"{layers_prefix(kind)}.rotary_pos_emb.inv_freq")
    if turning is not None and turning.ndim == 1:
        expected_turning = ROPE_BASE ** (-torch.arange(len(turning)) / len(turning))
        if not torch.allclose(turning.float(), expected_turning, rtol=0.01):
            yield f"inv_freq is not that of rotary positions with base {ROPE_BASE:g}"
        if 2 * len(turning) > sizes.get("d", math.inf):
            yield f"{2 * len(turning)} dimensions of a head rotate, of {sizes['d']}"


def _listed(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
