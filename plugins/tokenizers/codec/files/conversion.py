"""`accomp codec convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from safetensors.torch import save

from accomp.core.console import say
from accomp.core.errors import DataError, SpecError
from accomp.core.files import write_atomic
from accomp.core.registry import Registry
from accomp.plugins.tokenizers.codec.files.weight_files import header_of


def convert(
    weights: Annotated[Path, typer.Argument(help="Weights of another program; see docs/guides/codec.md.")],
    out: Annotated[Path, typer.Argument(help="The codec file to write (.safetensors).")],
    tokenizer: Annotated[str, typer.Option(help="Tokenizer of the weights: dac or encodec.")] = "dac",
    run_code: Annotated[
        bool, typer.Option("--run-code", help="Allow code in the file to run. Only for trusted sources.")
    ] = False,
) -> None:
    """Convert codec weights of another program to safetensors: all codebooks, in the original precision."""
    cls = Registry().find("tokenizer", tokenizer).load()
    if not hasattr(cls, "read"):
        raise SpecError(
            f"tokenizer {tokenizer!r} reads no other program's weights; expected --tokenizer dac or encodec"
        )
    if not weights.is_file():
        raise DataError(f"no such file @ {weights}")
    sizes, tensors = cls.read(weights, trusted=run_code)
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, header_of(tokenizer, sizes))
    write_atomic(out, data)
    say(f"{tokenizer}: {sizes['codebooks']} codebooks of {sizes['codebook_size']}, {sizes['sample_rate']} Hz @ {out}")
