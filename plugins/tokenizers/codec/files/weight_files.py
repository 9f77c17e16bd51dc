"""Codec weights: included, in a file, on the Hugging Face hub, or random; validated before use."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from accomp.plugin import CheckpointError, PluginError, write_atomic

KEY = "accomp codec"
_LEVELS = "quantizer.quantizers."
SHIPPED = Path(__file__).parents[2] / "weights"
TRAIN = 'train one with `accomp codec train SPEC --out FOLDER` and give weights = "FOLDER/codec.safetensors"'

EXPECTED = f'a .safetensors file, "default", "hub:owner/repo/file" or "random"; {TRAIN}'

Weights = tuple[dict[str, Any], dict[str, Tensor]]
"""Sizes of a network and its tensors."""
Network = TypeVar("Network", bound=nn.Module)


def save_weights(
    path: Path, network: nn.Module, plugin: str, architecture: Mapping[str, Any], *, half: bool = True
) -> None:
    """Write a codec file (safetensors; float16 by default) with plugin and sizes in its header."""
    dtype = torch.float16 if half else torch.float32
    tensors = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in network.state_dict().items()}
    write_atomic(path, safetensors.torch.save(tensors, metadata=header_of(plugin, architecture)))


def header_of(plugin: str, architecture: Mapping[str, Any]) -> dict[str, str]:
    """Return the header of a codec file."""
    return {KEY: json.dumps({"plugin": plugin, "architecture": dict(architecture)}, sort_keys=True)}


def load_network(
    build: Callable[[], nn.Module], weights: str, plugin: str, architecture: Mapping[str, Any], seed: int
) -> nn.Module:
    """Build a network with the weights named by `weights`.

    The first architecture["codebooks"] levels of the file are used; all other sizes must match.

    "default": included in accomp. "random": untrained, from `seed`, for tests. "hub:owner/repo/file" or
    "hub:owner/repo/file@revision": a file on the Hugging Face hub. Anything else: the path of a codec file.
    The global random state is preserved. Raises CheckpointError for a file that is missing, damaged, of another plugin
    or of other sizes; PluginError if huggingface_hub is missing.
    """
    if weights == "random":
        return untrained(build, seed)
    path = locate(weights, plugin)
    found, tensors = read_own(path, plugin)
    check_sizes({**architecture, "codebooks": found.get("codebooks")}, found, path)
    codebooks = first_codebooks(architecture["codebooks"], found, path)["codebooks"]
    return filled(build, first_levels(codebooks, tensors), path)


def untrained(build: Callable[[], Network], seed: int) -> Network:
    """Build a network with random weights; preserves the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def filled(build: Callable[[], Network], tensors: Mapping[str, Tensor], path: Path) -> Network:
    """Build a network with weights from `path`. Raises CheckpointError if they do not fit or are not finite."""
    if bad := [name for name, tensor in sorted(tensors.items()) if not torch.isfinite(tensor).all()]:
        more = f" and {len(bad) - 1} more" if bad[1:] else ""
        raise CheckpointError(f"the weights hold NaN or Inf: {bad[0]}{more} @ {path}; {TRAIN}")
    network = untrained(build, 0)
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        first, *rest = (line.strip() for line in str(error).splitlines()[1:])
        more = f" and {len(rest)} more" if rest else ""
        raise CheckpointError(
            f"the tensors do not fit the sizes that the file states: {first}{more} @ {path}"
        ) from error
    return network


def first_codebooks(wanted: int, found: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the sizes of the file with this number of codebooks. Raises CheckpointError if it has fewer."""
    if wanted > found["codebooks"]:
        raise CheckpointError(
            f"the file has {found['codebooks']} codebooks, the spec asks for {wanted} @ {path}; "
            f"set [tokenizer] codebooks = {found['codebooks']} or less"
        )
    return {**found, "codebooks": wanted}


def first_levels(codebooks: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a network with dac's quantizer without the levels from `codebooks` on."""
    later = {name: name.removeprefix(_LEVELS).split(".")[0] for name in tensors if name.startswith(_LEVELS)}
    return {name: tensor for name, tensor in tensors.items() if int(later.get(name, -1)) < codebooks}


def check_sizes(wanted: Mapping[str, Any], found: Mapping[str, Any], path: Path) -> None:
    """Raise CheckpointError with a line for each size that differs from the file; one that is not stated is 0."""
    wanted, found = json.loads(json.dumps(dict(wanted))), json.loads(json.dumps(dict(found)))
    problems = [
        f"the weights have {key} = {found.get(key, 0)!r}, the spec asks for {wanted.get(key, 0)!r} @ {path}; "
        f"set [tokenizer] {key} = {json.dumps(found.get(key, 0))} or give other weights"
        for key in sorted(found.keys() | wanted.keys())
        if found.get(key, 0) != wanted.get(key, 0)
    ]
    if problems:
        raise CheckpointError(*problems)


def converting(path: Path, plugin: str) -> str:
    """Return the command that converts a file by running its code."""
    return f"`accomp codec convert {path} codec.safetensors --tokenizer {plugin} --run-code`"


def read_torch(path: Path, plugin: str, *, trusted: bool = False) -> Any:
    """Read a file of torch.save without running code from it, unless `trusted`.

    Raises CheckpointError for a damaged file, or one that needs to run code.
    """
    try:
        zipped = zipfile.is_zipfile(path)
        return torch.load(path, map_location="cpu", weights_only=not trusted, mmap=zipped)
    except pickle.UnpicklingError as error:
        what = next((line.strip() for line in str(error).splitlines() if "Unsupported" in line), "pickled objects")
        raise CheckpointError(
            f"the file holds more than tensors and plain values ({what}) @ {path}; opening it runs code of its own. "
            f"If you trust where it comes from, convert it once: {converting(path, plugin)}"
        ) from error
    except Exception as error:  # a damaged file may raise any exception
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"not a readable torch file: {why} @ {path}") from error


def is_safetensors(path: Path) -> bool:
    """Return True for a safetensors file, by its first bytes: a length and the JSON header."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8


def locate(weights: str, plugin: str, expected: str = EXPECTED) -> Path:
    """Return the path of the file, downloaded from the hub if necessary. Raises CheckpointError if missing."""
    if weights == "default" and expected == EXPECTED:
        path = SHIPPED / f"{plugin}.safetensors"
        if not path.is_file():
            raise CheckpointError(f"no weights are shipped for tokenizer {plugin!r}; {TRAIN}")
        return path
    if weights.startswith("hub:"):
        return download(weights)
    path = Path(weights)
    if not path.is_file():
        raise CheckpointError(f"no such codec file; expected {expected} @ tokenizer {plugin!r}: weights = {weights!r}")
    return path


def download(weights: str) -> Path:
    """Return the file of "hub:owner/repo/file[@revision]" from hub or cache. Raises CheckpointError, PluginError."""
    name, _, revision = weights.removeprefix("hub:").partition("@")
    owner, _, rest = name.partition("/")
    repo, _, file = rest.partition("/")
    if not (owner and repo and file):
        raise CheckpointError(f"weights = {weights!r}; expected hub:owner/repo/file.safetensors or ...@revision")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise PluginError(f"weights = {weights!r} needs huggingface_hub; run: pip install huggingface_hub") from error
    try:
        return Path(hf_hub_download(f"{owner}/{repo}", file, revision=revision or None))
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"cannot fetch {weights!r}: {first}; without a network, copy the file here and give its path as weights"
        ) from error


def is_own(path: Path) -> bool:
    """Return True for a file of `save_weights`, for any plugin."""
    if not is_safetensors(path):
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def stated(path: Path) -> tuple[str, dict[str, Any]]:
    """Return plugin and sizes of a file of `save_weights`. Raises CheckpointError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            described = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"not a readable safetensors file: {error} @ {path}; {TRAIN}") from error
    if described is None:
        raise CheckpointError(
            f"a safetensors file, but not a codec of accomp (no {KEY!r} in its header) @ {path}; {TRAIN}"
        )
    try:
        made_for = json.loads(described)
        plugin, sizes = made_for["plugin"], made_for["architecture"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"the header of the file cannot be read ({type(error).__name__}: {error}) @ {path}; {TRAIN}"
        ) from error
    if not isinstance(plugin, str) or not isinstance(sizes, dict) or not isinstance(sizes.get("codebooks", 0), int):
        raise CheckpointError(f"the header of the file lacks plugin and sizes: {described} @ {path}; {TRAIN}")
    return plugin, sizes


def own_sizes(path: Path, plugin: str) -> dict[str, Any]:
    """Return the sizes in a file of `save_weights` for this plugin. Raises CheckpointError for any other."""
    made_for, sizes = stated(path)
    if made_for != plugin:
        raise CheckpointError(
            f"the weights are for tokenizer {made_for!r}, not {plugin!r} @ {path}; "
            f"set [tokenizer] plugin = {made_for!r} or give other weights"
        )
    return sizes


def read_own(path: Path, plugin: str) -> Weights:
    """Return sizes and tensors of a file of `save_weights`. Raises CheckpointError for any other."""
    sizes = own_sizes(path, plugin)
    try:
        return sizes, safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"not a readable safetensors file: {error} @ {path}; {TRAIN}") from error
