"""Files of descript-audio-codec and of its causal fork: what they state, and their weights under our names.

    {"state_dict": {...}, "metadata": {"kwargs": {...}}}          DAC.save(path, package=False), the published weights
    a torch.package that holds the model as an object             DAC.save(path): its code must be run to open it

The fork pads on the left with modules of its own, which shifts the numbers in the names; so names are not looked up, the
layers of encoder and decoder are taken in their order.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from accomp.core.errors import CheckpointError
from accomp.plugins.tokenizers.dac_network import DacNetwork
from accomp.plugins.tokenizers.quantizer import quiet_import
from accomp.plugins.tokenizers.weight_files import CONVERT, read_torch, untrained

OUTSIDE = ("encoder_dim", "encoder_rates", "decoder_dim", "decoder_rates", "n_codebooks", "codebook_size", "codebook_dim")
EXPECTED = (
    'expected {"state_dict": ..., "metadata": {"kwargs": ...}}, as descript-audio-codec saves weights, '
    "or a codec file of accomp"
)
Weights = tuple[dict[str, Any], dict[str, Tensor]]


def read_descript(path: Path, *, trusted: bool = False) -> Weights:
    """Sizes (those of Dac.architecture, with all codebooks of the file) and tensors. Raises CheckpointError.

    `trusted` lets the file run code that it holds, which a torch.package needs.
    """
    if _is_package(path):
        if not trusted:
            raise CheckpointError(
                f"the file is a torch.package: a whole program, whose code would be run to open it @ {path}; "
                f"give the plain weights instead, or, if you trust where it comes from, convert it once: "
                f"{CONVERT.format(path)}"
            )
        kwargs, state = _packaged(path)
    else:
        kwargs, state = _plain(read_torch(path, trusted=trusted), path)
    sizes = _sizes(kwargs, path)
    return sizes, _renamed(sizes, state, path)


def _is_package(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".data/extern_modules") for name in archive.namelist())


def _packaged(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with quiet_import("the packaged codec"):
        from torch.package import PackageImporter

        model = PackageImporter(str(path)).load_pickle("DAC", "DAC.pth", "cpu")
    names = (*OUTSIDE, "latent_dim", "sample_rate", "causal_encoder", "causal_decoder")
    return {name: getattr(model, name) for name in names if hasattr(model, name)}, model.state_dict()


def _plain(content: Any, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        return dict(content["metadata"]["kwargs"]), dict(content["state_dict"])
    except (KeyError, TypeError, ValueError):
        found = ", ".join(map(str, list(content)[:6])) if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"not weights of a DAC: found {found} @ {path}; {EXPECTED}") from None


def _sizes(kwargs: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if missing := [name for name in (*OUTSIDE, "sample_rate") if name not in kwargs]:
        raise CheckpointError(f"the DAC's metadata lacks {', '.join(missing)} @ {path}; {EXPECTED}")
    strides = [int(s) for s in kwargs["encoder_rates"]]
    upwards = [int(s) for s in kwargs["decoder_rates"]]
    causal = [bool(kwargs.get(f"causal_{side}", False)) for side in ("encoder", "decoder")]
    wrong = []
    if upwards != strides[::-1]:
        wrong.append(f"decoder_rates {upwards}; expected encoder_rates in reverse, {strides[::-1]}")
    if causal[0] != causal[1]:
        wrong.append(f"causal_encoder = {causal[0]}, causal_decoder = {causal[1]}; expected both or neither")
    if not isinstance(kwargs["codebook_dim"], int):
        wrong.append(f"codebook_dim = {kwargs['codebook_dim']}; expected one number for all levels")
    if kwargs.get("use_s4"):
        wrong.append("use_s4 = True; expected convolutions")
    if min(strides) < 2:
        wrong.append(f"encoder_rates {strides}; expected each to be at least 2")
    if wrong:
        raise CheckpointError(*(f"a DAC of a kind that is not known here: {text} @ {path}" for text in wrong))
    width = int(kwargs["encoder_dim"])
    return {
        "codebooks": int(kwargs["n_codebooks"]),
        "codebook_size": int(kwargs["codebook_size"]),
        "codebook_dim": int(kwargs["codebook_dim"]),
        "latent": int(kwargs.get("latent_dim") or width * 2 ** len(strides)),
        "encoder_width": width,
        "decoder_width": int(kwargs["decoder_dim"]),
        "strides": strides,
        "sample_rate": int(kwargs["sample_rate"]),
        "causal": causal[0],
    }


def _renamed(sizes: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    def build() -> DacNetwork:
        return DacNetwork(**sizes)

    ours = _layers_of(_described(build).state_dict())
    theirs = _layers_of(state)
    renamed, wrong = {}, []
    for side in ("encoder", "decoder", "quantizer"):
        here, there = (sorted((n for n in names if n[0] == side), key=_place) for names in (ours, theirs))
        if len(here) != len(there):
            wrong.append(f"{len(there)} layers with weights in the {side}; its sizes make {len(here)}")
            continue
        for our, their in zip(here, there, strict=True):
            wanted, found = ours[our], theirs[their]
            if {leaf: list(t.shape) for leaf, t in wanted.items()} != {leaf: list(t.shape) for leaf, t in found.items()}:
                wrong.append(f"{'.'.join(their)} has {_shapes(found)}; its sizes make {_shapes(wanted)}")
            renamed |= {".".join((*our, leaf)): tensor for leaf, tensor in found.items()}
    if wrong:
        more = [f"and {len(wrong) - 5} more"] if len(wrong) > 5 else []
        raise CheckpointError(*(f"weights and metadata of the DAC do not agree: {w} @ {path}" for w in wrong[:5]), *more)
    return renamed


def _described(build: Callable[[], DacNetwork]) -> nn.Module:
    import torch

    with torch.device("meta"):
        return untrained(build, 0)


def _layers_of(state: Mapping[str, Tensor]) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """Tensors by the layer that has them, then by their own name."""
    layers: dict[tuple[str, ...], dict[str, Tensor]] = {}
    for name, tensor in state.items():
        *layer, leaf = name.split(".")
        layers.setdefault(tuple(layer), {})[leaf] = tensor
    return layers


def _place(layer: Iterable[str]) -> list[tuple[int, str]]:
    """Numbers in a name compare as numbers: 10 comes after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in layer]


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(tensors.items()))
