"""Safe reading of foreign checkpoint files: every tensor is validated, no code in the file is run."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from torch import Tensor

from accomp.core.errors import CheckpointError

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_forward_module.", "_checkpoint_wrapped_module.")
"""Name parts inserted by torch.compile, FSDP, Lightning and activation checkpointing."""


def load(file: Path) -> dict[str, Any]:
    """Read a .ckpt: a dict whose "state_dict" has float tensors by name, without wrapper prefixes.

    Raises CheckpointError for a file that is missing, damaged, or anything else.
    """
    if not file.is_file():
        what = "a folder, expected the file of a checkpoint in it" if file.is_dir() else "no such file"
        raise CheckpointError(f"{what} @ {file}")
    _check_archive(file)
    held = _read(file)
    state = held.get("state_dict") if isinstance(held, dict) else None
    if not isinstance(state, dict) or not all(isinstance(weight, Tensor) for weight in state.values()):
        what = ", ".join(map(str, held)) if isinstance(held, dict) else type(held).__name__
        raise CheckpointError(
            f"expected a dict with the weights under 'state_dict', found {what or 'nothing'} @ {file}"
        )
    if problems := [f"{name}: {why}" for name, weight in state.items() if (why := _unusable(name, weight))]:
        raise CheckpointError(*(f"{problem} @ {file}" for problem in problems[:20]))
    return held | {"state_dict": _unwrapped(state, file)}


def arguments(path: Path) -> dict[str, Any]:
    """Read an args.yml as a dict, empty if missing; Python types in it are read as plain ones.

    Raises CheckpointError for a file that is no YAML.
    """
    if not path.is_file():
        return {}
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read the training arguments: {error} @ {path}") from error
    return {str(name): value for name, value in found.items()} if isinstance(found, Mapping) else {}


def _plain(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_scalar(node)


class _PlainLoader(yaml.SafeLoader):
    """YAML loader that reads !!python/tuple as list and other Python tags as plain values, without calls."""

    yaml_multi_constructors: ClassVar = {
        **yaml.SafeLoader.yaml_multi_constructors,
        "tag:yaml.org,2002:python/": _plain,
    }


def _check_archive(file: Path) -> None:
    """Verify the checksums of a zip, which torch does not."""
    try:
        if not zipfile.is_zipfile(file):  # raises BadZipFile for some damaged ends
            return
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"a damaged file: {error}; get it again @ {file}") from error
    if damaged is not None:
        raise CheckpointError(f"a damaged file: the checksum of {damaged!r} in it is wrong; get it again @ {file}")


def _read(file: Path) -> Any:
    """Read by torch, memory-mapped; the format before torch 1.6, not a zip, is read into memory."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(file) or file.read_bytes()[:1] == b"\x80":
            raise CheckpointError(
                f"it holds more than tensors and numbers, and to read that would be to run its code: "
                f"{_first_line(error)}; where you trust it, keep its weights alone: torch.save({{'state_dict': "
                f"torch.load(FILE, weights_only=False)['state_dict']}}, NEW) @ {file}"
            ) from error
        raise CheckpointError(f"not a checkpoint that torch can read: {_first_line(error)} @ {file}") from error
    except Exception as error:  # torch raises many types of exceptions
        raise CheckpointError(f"not a checkpoint that torch can read: {_first_line(error)} @ {file}") from error


def _unusable(name: object, weight: Tensor) -> str:
    """Return the reason why a tensor is not valid as weights, or ""."""
    if not isinstance(name, str):
        return f"the name of a weight is {type(name).__name__} {name!r}; expected a text"
    if weight.is_meta:
        return "a tensor without content (on torch's meta device)"
    if weight.layout is not torch.strided or weight.is_quantized:
        return f"a tensor of layout {weight.layout}; expected a dense one (torch.strided)"
    if weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
        return f"claims {weight.numel():,} numbers, of which the file holds {weight.untyped_storage().nbytes():,} bytes"
    return ""


def _unwrapped(state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    names = {}
    for name in state:
        plain = name
        for wrapper in WRAPPERS:
            plain = plain.replace(wrapper, "")
        names[name] = plain.removeprefix("module.")
    if len(set(names.values())) < len(names):
        twice = sorted({plain for plain in names.values() if list(names.values()).count(plain) > 1})
        raise CheckpointError(f"weights are there twice, wrapped and plain: {', '.join(twice[:5])} @ {file}")
    return {names[name]: weight for name, weight in state.items()}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
