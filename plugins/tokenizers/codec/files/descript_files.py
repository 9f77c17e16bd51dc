"""Files of descript-audio-codec and of its causal fork: sizes, and weights by the names of accomp.

    {"state_dict": {...}, "metadata": {"kwargs": {...}}}          DAC.save(path, package=False), the published weights
    a torch.package that holds the model as an object             DAC.save(path): its code must be run to open it

The fork pads on the left with additional modules, which shifts the numbers in the names; so layers of encoder and
decoder are matched by order, not by name.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from accomp.core.errors import CheckpointError
from accomp.plugins.tokenizers.codec.files.weight_files import Weights, converting, read_torch, untrained
from accomp.plugins.tokenizers.codec.networks.dac_network import DacNetwork
from accomp.plugins.tokenizers.codec.networks.quantizer import quiet_import

OUTSIDE = (
    "encoder_dim",
    "encoder_rates",
    "decoder_dim",
    "decoder_rates",
    "n_codebooks",
    "codebook_size",
    "codebook_dim",
)
EXPECTED = (
    'expected {"state_dict": ..., "metadata": {"kwargs": ...}}, as descript-audio-codec saves weights, '
    "or a codec file of accomp"
)


def descript_sizes(path: Path) -> dict[str, Any]:
    """Read the sizes in the file. Raises CheckpointError like `read_descript`."""
    return _sizes(_content(path, trusted=False)[0], path)


def read_descript(path: Path, *, trusted: bool = False) -> Weights:
    """Read sizes (arguments of DacNetwork, with all codebooks of the file) and tensors. Raises CheckpointError.

    `trusted` allows code in the file to run, which a torch.package needs.
    """
    kwargs, state = _content(path, trusted=trusted)
    sizes = _sizes(kwargs, path)
    return sizes, _renamed(sizes, state, path)


def _content(path: Path, *, trusted: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the arguments of the model and its state dict."""
    if not _is_package(path):
        return _plain(read_torch(path, "dac", trusted=trusted), path)
    if trusted:
        return _packaged(path)
    raise CheckpointError(
        f"the file is a torch.package, which runs code when opened @ {path}; give the plain "
        f"weights instead, or, if you trust where it comes from, convert it once: {converting(path, 'dac')}"
    )


def _is_package(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".data/extern_modules") for name in archive.namelist())


def _packaged(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with quiet_import("the packaged codec"):
        from torch.package.package_importer import PackageImporter

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
    narrow = {"codebook_size": 2, "codebook_dim": 2, "latent": 2, "encoder_width": 1}
    sketch = {**sizes, **narrow, "decoder_width": 2 ** len(sizes["strides"])}  # names do not depend on the width
    ours, theirs = _layers_of(untrained(lambda: DacNetwork(**sketch), 0).state_dict()), _layers_of(state)
    renamed: dict[str, Tensor] = {}
    for side in ("encoder", "decoder", "quantizer"):
        here, there = (sorted((n for n in names if n[0] == side), key=_place) for names in (ours, theirs))
        if [ours[layer].keys() for layer in here] != [theirs[layer].keys() for layer in there]:
            raise CheckpointError(
                f"the {side} has {len(there)} layers with weights; the sizes that the file states make {len(here)}, "
                f"or others @ {path}; it is no DAC"
            )
        for our, their in zip(here, there, strict=True):
            renamed |= {".".join((*our, leaf)): tensor for leaf, tensor in theirs[their].items()}
    return renamed


def _layers_of(state: Mapping[str, Tensor]) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """Group tensors by layer, then by name."""
    layers: dict[tuple[str, ...], dict[str, Tensor]] = {}
    for name, tensor in state.items():
        *layer, leaf = name.split(".")
        layers.setdefault(tuple(layer), {})[leaf] = tensor
    return layers


def _place(layer: Iterable[str]) -> list[tuple[int, str]]:
    """Return a sort key with numeric order: 10 comes after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in layer]
