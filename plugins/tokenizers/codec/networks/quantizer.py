"""Residual vector quantization: the dac package's modules, and look-ups for encoding and decoding."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accomp.core.errors import PluginError


@contextmanager
def quiet_import(what: str) -> Iterator[None]:
    """Import the dac package without warnings, preserving Python's random state; explain failures.

    (Importing dac's dependencies draws from `random`; its layers warn that weight_norm is deprecated.)
    """
    state = random.getstate()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImportError, OSError) as error:
        raise PluginError(
            f"{what} needs the dac package, which could not be imported ({error}); "
            "run: pip install 'accomp[codec]', and see what `accomp doctor` says of torchaudio"
        ) from error
    finally:
        random.setstate(state)


def new_quantizer(width: int, codebooks: int, codebook_size: int, codebook_dim: int) -> Any:
    """dac's ResidualVectorQuantize of latents [.., width]; a level looks up `codebook_dim`-d projections by angle."""
    with quiet_import("the codec's quantizer"):
        from dac.nn.quantize import ResidualVectorQuantize

        return ResidualVectorQuantize(width, codebooks, codebook_size, codebook_dim)


def matrix(conv: Any) -> Tensor:
    """The [out, in] matrix of a convolution of kernel 1, with weight norm (g v / |v|) or without."""
    if not hasattr(conv, "weight_v"):
        return conv.weight[..., 0]
    return conv.weight_g[..., 0] * F.normalize(conv.weight_v[..., 0], dim=1)


def project(level: Any, z: Tensor) -> Tensor:
    """z [..., E] -> query vectors of the level [..., codebook_dim]."""
    return F.linear(z, matrix(level.in_proj), level.in_proj.bias)


def restore(level: Any, vectors: Tensor) -> Tensor:
    """Codebook vectors [..., codebook_dim] -> latents [..., E]."""
    return F.linear(vectors, matrix(level.out_proj), level.out_proj.bias)


def nearest(level: Any, vectors: Tensor) -> Tensor:
    """vectors [..., codebook_dim] -> codes [...] int64: the nearest codebook entry, both L2-normalised."""
    return (F.normalize(vectors, dim=-1) @ F.normalize(level.codebook.weight, dim=-1).T).argmax(-1)


def quantize(quantizer: Any, z: Tensor) -> Tensor:
    """z [B, T, E] -> codes [B, K, T] int64, each level quantizes the residual of the previous ones."""
    codes = []
    for level in quantizer.quantizers:
        code = nearest(level, project(level, z))
        z = z - restore(level, level.codebook(code))
        codes.append(code)
    return torch.stack(codes, dim=1)


def dequantize(quantizer: Any, codes: Tensor) -> Tensor:
    """codes [B, K, T] -> latents [B, T, E], the sum over levels."""
    levels = zip(quantizer.quantizers, codes.unbind(1), strict=True)
    return torch.stack([restore(level, level.codebook(code)) for level, code in levels]).sum(0)


class FrozenQuantizer(nn.Module):
    """A frozen quantizer with precomputed float64 tables.

    Latents are projected once, for all levels; the contribution of a code is then subtracted from the projections of
    later levels.
    """

    projection: Tensor  # [K * codebook_dim, E]
    offset: Tensor  # [K * codebook_dim]
    directions: Tensor  # [K, codebook_dim, C]
    removed: Tensor  # [K, C, K * codebook_dim]: contribution of a code to all projections
    embeddings: Tensor  # [K * C, E] float32
    first: Tensor  # [K, 1]: first row of each level in `embeddings`

    def __init__(self, quantizer: Any):
        super().__init__()
        levels = quantizer.quantizers
        latents = torch.stack([restore(level, level.codebook.weight) for level in levels]).double()
        projection = torch.cat([matrix(level.in_proj) for level in levels]).double()
        kept = {
            "projection": projection,
            "offset": torch.cat([level.in_proj.bias for level in levels]).double(),
            "directions": torch.stack([F.normalize(level.codebook.weight, dim=-1).T for level in levels]).double(),
            "removed": latents @ projection.T,
            "embeddings": latents.float().flatten(0, 1),
            "first": torch.arange(len(levels))[:, None] * latents.shape[1],
        }
        for name, tensor in kept.items():
            self.register_buffer(name, tensor.detach().contiguous())

    def quantize(self, z: Tensor) -> Tensor:
        """z [B, T, E] float64 -> codes [B, K, T] int64; the nearest entry does not depend on a vector's length."""
        projected, codes = F.linear(z, self.projection, self.offset), []
        for level, directions, removed in zip(range(len(self.first)), self.directions, self.removed, strict=True):
            dim = len(directions)
            code = (projected[..., level * dim : (level + 1) * dim] @ directions).argmax(-1)
            projected = projected - removed[code]
            codes.append(code)
        return torch.stack(codes, dim=1)

    def embed(self, codes: Tensor) -> Tensor:
        """codes [B, K, T] -> latents [B, T, E] float32, the sum over levels."""
        return self.embeddings[codes + self.first].sum(dim=1)
