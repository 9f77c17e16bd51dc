"""EnCodec files of transformers and audiocraft: sizes, and weights by the names of accomp.

    transformers    config.json, and beside it model.safetensors or pytorch_model.bin
    audiocraft      {"best_state": {...}, "xp.cfg": YAML}, in MusicGen's repositories compression_state_dict.bin

Both number layers alike and differ in names and in the default padding at the ends of a clip: transformers mirrors,
audiocraft pads with zeros.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor

from accomp.core.errors import CheckpointError
from accomp.plugins.tokenizers.codec.files.weight_files import Weights, is_safetensors, read_torch

WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_NAMES = (
    (r"\.model\.", ".layers."),  # audiocraft -> transformers
    (r"\.convtr\.convtr\.", ".conv."),
    (r"\.conv\.conv\.", ".conv."),
    (r"\.vq\.layers\.(\d+)\._codebook\.", r".layers.\1.codebook."),
    (r"\.layers\.(\d+)\.(?!codebook)", r".\1."),  # transformers -> accomp
    (r"\.block\.", ".body."),
    (r"parametrizations\.weight\.original0", "weight_g"),
    (r"parametrizations\.weight\.original1", "weight_v"),
)


def weights_beside(folder: Path) -> Path:
    """Return the weight file in a folder of transformers. Raises CheckpointError for none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"the folder has neither {' nor '.join(WEIGHTS)} @ {folder}")


def read_encodec(path: Path, config: Callable[[], Path], *, trusted: bool = False) -> Weights:
    """Read sizes (arguments of EncodecNetwork, with all codebooks of the file) and tensors.

    `config` locates the config.json of transformers' weights. `trusted` allows code in the file to run. Raises
    CheckpointError for anything but an EnCodec of the kind of the 32 kHz model.
    """
    content = _content(path, trusted)
    if "pretrained" in content and "best_state" not in content:
        raise CheckpointError(
            f"the file has no weights, it only names others: {content['pretrained']!r} @ {path}; give those"
        )
    if "best_state" in content:
        sizes, state = _audiocraft(content.get("xp.cfg"), path), content["best_state"]
    else:
        sizes, state = _transformers(config()), content
    tensors = _renamed(state, path)
    sizes["codebooks"] = len(tensors["codes"])
    return sizes, tensors


def _content(path: Path, trusted: bool) -> dict[str, Any]:
    if is_safetensors(path):
        try:
            return dict(safetensors.torch.load_file(path))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"not a readable safetensors file: {error} @ {path}") from error
    content = read_torch(path, "encodec", trusted=trusted)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"not weights of EnCodec: {type(content).__name__} @ {path}; expected a state dict of transformers, or "
            "audiocraft's best_state and xp.cfg"
        )
    return dict(content)


def _transformers(path: Path) -> dict[str, Any]:
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read the config.json that belongs to the weights: {error} @ {path}") from error
    sizes = {
        "sample_rate": "sampling_rate", "codebook_size": "codebook_size", "latent": "hidden_size",
        "filters": "num_filters", "ratios": "upsampling_ratios", "kernel": "kernel_size",
        "last_kernel": "last_kernel_size", "residual_kernel": "residual_kernel_size",
        "residual_layers": "num_residual_layers", "dilation_growth": "dilation_growth_rate", "compress": "compress",
        "lstm_layers": "num_lstm_layers", "padding": "pad_mode",
    }  # fmt: skip
    wanted = {
        "model_type": "encodec", "audio_channels": 1, "use_causal_conv": False, "norm_type": "weight_norm",
        "normalize": False, "use_conv_shortcut": False, "chunk_length_s": None,
    }  # fmt: skip
    return _checked(stated.get, sizes, wanted, path)


def _audiocraft(text: Any, path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text) if isinstance(text, str) else None
    except yaml.YAMLError:
        config = None
    if not isinstance(config, Mapping):
        raise CheckpointError(f"xp.cfg is not the YAML text of a configuration @ {path}; export the model again")
    sizes = {
        "sample_rate": "sample_rate", "codebook_size": "rvq.bins", "latent": "seanet.dimension",
        "filters": "seanet.n_filters", "ratios": "seanet.ratios", "kernel": "seanet.kernel_size",
        "last_kernel": "seanet.last_kernel_size", "residual_kernel": "seanet.residual_kernel_size",
        "residual_layers": "seanet.n_residual_layers", "dilation_growth": "seanet.dilation_base",
        "compress": "seanet.compress", "lstm_layers": "seanet.lstm", "padding": "seanet.pad_mode",
    }  # fmt: skip
    wanted = {
        "channels": 1, "encodec.causal": False, "encodec.renormalize": False, "seanet.norm": "weight_norm",
        "seanet.true_skip": True, "seanet.activation": "ELU", "seanet.disable_norm_outer_blocks": 0,
        "encodec.quantizer": "rvq",
    }  # fmt: skip
    return _checked(lambda name: _looked_up(config, name), sizes, wanted, path)


def _looked_up(config: Mapping[str, Any], name: str) -> Any:
    """Return the value of a dotted name; "${other.name}" refers to another value."""
    value: Any = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, str) and (reference := re.fullmatch(r"\$\{([\w.]+)\}", value)):
        return _looked_up(config, reference[1]) if reference[1] != name else None
    return value


def _checked(
    get: Callable[[str], Any], sizes: Mapping[str, str], wanted: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    found = {ours: get(theirs) for ours, theirs in sizes.items()}
    problems = [f"{sizes[name]} is missing" for name, value in found.items() if value is None]
    problems += [f"{name} = {get(name)!r}, expected {value!r}" for name, value in wanted.items() if get(name) != value]
    paddings = {"reflect": "reflect", "constant": "zeros", "zero": "zeros"}
    if found["padding"] is not None and found["padding"] not in paddings:
        problems.append(f"{sizes['padding']} = {found['padding']!r}, expected one of {', '.join(paddings)}")
    if problems:
        raise CheckpointError(
            *(f"not EnCodec as its 32 kHz model is: {problem} @ {path}" for problem in problems),
        )
    return found | {"padding": paddings[found["padding"]], "ratios": [int(ratio) for ratio in found["ratios"]]}


def _renamed(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor
    books = {int(name.split(".")[2]): tensor for name, tensor in tensors.items() if name.endswith(".codebook.embed")}
    if sorted(books) != list(range(len(books))) or not books:
        raise CheckpointError(f"the file lacks codebooks: found those of levels {sorted(books)} @ {path}")
    ours = {name: t for name, t in tensors.items() if not name.startswith("quantizer.")}
    for name in [name for name in ours if name.endswith("weight_v")]:
        weight, length = ours.pop(name), ours.pop(name[:-1] + "g", None)
        if length is None:
            raise CheckpointError(f"{name} has no weight_g beside it @ {path}")
        norm = weight.float().norm(dim=(1, 2), keepdim=True)
        ours[name[: -len("_v")]] = weight.float() * (length.float() / norm)
    return ours | {"codes": torch.stack([books[level] for level in sorted(books)])}
