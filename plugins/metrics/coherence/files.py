"""Weight files of `coherence`."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from accomp.core.errors import CheckpointError
from accomp.core.files import hash_file, write_atomic
from accomp.plugins.metrics.coherence.network import CoherenceNetwork

_FORMAT = {"format": "accomp coherence 1"}
_TRAIN = "`accomp coherence train ROOT --out FOLDER` writes one"


def shipped() -> Path:
    """Return the path of the included weights."""
    return Path(__file__).parents[1] / "weights" / "coherence.safetensors"


def save(network: CoherenceNetwork, path: Path) -> None:
    """Write the weights as float16."""
    tensors = {name: _half(tensor) for name, tensor in network.state_dict().items()}
    write_atomic(path, safetensors.torch.save(tensors, metadata=_FORMAT))


def load(path: Path) -> tuple[CoherenceNetwork, str]:
    """Return the network in evaluation mode and a hash of the file. Raises CheckpointError if missing or foreign."""
    try:
        tensors = safetensors.torch.load(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"no such file; {_TRAIN} @ {path}") from error
    except Exception as error:  # a damaged file may raise any exception
        raise CheckpointError(f"cannot be read as safetensors: {error}; {_TRAIN} @ {path}") from error
    if bad := [name for name, tensor in sorted(tensors.items()) if not tensor.isfinite().all()]:
        raise CheckpointError(f"the weights hold NaN or Inf: {bad[0]}; {_TRAIN} @ {path}")
    with torch.random.fork_rng(devices=[]):
        network = CoherenceNetwork()
    try:
        network.load_state_dict({name: _whole(tensor) for name, tensor in tensors.items()})
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise CheckpointError(f"not the weights of `coherence`: {first} {_TRAIN} @ {path}") from error
    return network.eval(), hash_file(path)[:16]


def _half(tensor: Tensor) -> Tensor:
    return tensor.half().contiguous() if tensor.is_floating_point() else tensor


def _whole(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
