"""Weight files of COCOLA: the public Lightning checkpoint and the result of `accomp cocola convert`."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
import typer
from torch import Tensor

from accomp.core.console import say
from accomp.core.errors import CheckpointError
from accomp.core.files import hash_file, write_atomic
from accomp.plugins.metrics.cocola.network import CocolaNetwork


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="COCOLA's .ckpt, as published.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
) -> None:
    """Convert the public COCOLA checkpoint to a weight file for the metric `cocola`, without running code from it."""
    if out.suffix != ".safetensors":
        raise CheckpointError(f"OUT is '{out}'; expected a name that ends in .safetensors")
    tensors = read_checkpoint(checkpoint)
    check(tensors, checkpoint)
    save(tensors, out, {"made_from": checkpoint.name, "sha256": hash_file(checkpoint)})
    say(f"COCOLA's {len(tensors)} tensors written @ {out}")


def save(tensors: dict[str, Tensor], path: Path, told: dict[str, str]) -> None:
    """Write tensors by COCOLA's names, with metadata."""
    write_atomic(path, safetensors.torch.save(tensors, metadata={"format": "cocola", **told}))


def load(path: Path) -> tuple[CocolaNetwork, str]:
    """Return the network of a converted file in evaluation mode and a hash of the file.

    Raises CheckpointError for a missing file or other weights.
    """
    if path.suffix == ".ckpt":
        raise CheckpointError(f"a Lightning checkpoint; convert it once: accomp cocola convert {path} OUT.safetensors")
    try:
        tensors = safetensors.torch.load(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"no such file; make it with `accomp cocola convert CKPT OUT` @ {path}") from error
    except Exception as error:
        raise CheckpointError(f"cannot be read as safetensors: {error} @ {path}") from error
    check(tensors, path)
    with torch.random.fork_rng(devices=[]):
        network = CocolaNetwork()
    network.load_state_dict(tensors)
    return network.eval(), hash_file(path)[:16]


def check(tensors: dict[str, Tensor], path: Path) -> None:
    """Raise CheckpointError unless the tensors have COCOLA's names and shapes and are finite."""
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in CocolaNetwork().state_dict().items()}
    problems = [f"lacks {name}" for name in wanted if name not in tensors]
    problems += [f"has {name}, which COCOLA lacks" for name in tensors if name not in wanted]
    problems += [
        f"{name} is {list(tensors[name].shape)}; expected {list(shape)}"
        for name, shape in wanted.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    problems += [f"{name} holds NaN or Inf" for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if problems:
        few = problems[:5] + ([f"and {len(problems) - 5} more"] if len(problems) > 5 else [])
        raise CheckpointError(f"not COCOLA's weights: {'; '.join(few)} @ {path}")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a Lightning .ckpt by COCOLA's names. Raises CheckpointError for anything else.

    No code in the file is run: torch.load with weights_only refuses every class but tensors, and enums among the
    hyper-parameters are read as None.
    """
    try:
        others = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_nothing, name) for name in others]):
            held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no such file @ {path}") from error
    except pickle.UnpicklingError as error:
        why = str(error).partition("WeightsUnpickler error:")[2].strip().partition("\n")[0] or "it is no pickle"
        raise CheckpointError(
            f"holds more than weights and settings, and was not opened further: {why} @ {path}; expected the file "
            "as COCOLA's authors publish it"
        ) from error
    except Exception as error:  # a broken file may raise any exception
        raise CheckpointError(f"cannot be read as a checkpoint: {' '.join(str(error).split())} @ {path}") from error
    tensors = held.get("state_dict") if isinstance(held, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise CheckpointError(f"no checkpoint of Lightning's: expected a table `state_dict` of tensors @ {path}")
    return {str(name): tensor.contiguous() for name, tensor in tensors.items()}


def _nothing(*_: object, **__: object) -> None:
    """Replace a class in the checkpoint that is not a tensor."""
