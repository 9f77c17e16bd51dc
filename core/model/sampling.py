"""Draw a code from logits. Samplers differ in the codes they keep; drawing among these is common to all.

The random number belongs to the code: the same code gets the same number from the same key, whichever others are kept.
"""

from __future__ import annotations

import math

import torch
from attrs import validators as v
from torch import Tensor

from accomp.core.keyed_random import KeyedRandom

valid_temperature = v.and_(v.ge(0.0), v.lt(math.inf))
"""The validator of a Config's `temperature`: finite, not negative."""


def temper(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """logits [B, ..., C] -> those of softmax(logits / temperature), float32, with a maximum of 0 in each row.

    temperature: one, or one for each item [B]. At temperature 0, the limit, the likeliest code (the first of equals)
    has 0 and all others -inf. A code whose logit is -inf stays impossible at every temperature.
    """
    if isinstance(temperature, Tensor):
        each = temperature.view(-1, *[1] * (logits.ndim - 1))
        return torch.where(each > 0, temper(logits, 1.0) / each.clamp(min=1e-6), temper(logits, 0.0))
    if temperature == 0.0:
        likeliest = torch.arange(logits.shape[-1], device=logits.device) == logits.argmax(-1, keepdim=True)
        return torch.where(likeliest, 0.0, -math.inf)
    logits = logits.float()
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def draw(logits: Tensor, rng: KeyedRandom, codes: Tensor | None = None) -> Tensor:
    """Draw a code for each row from its softmax: the argmax of logits + Gumbel noise.

    logits [..., n] are those of all codes, or of the ones in `codes` [..., n] int64; key [...] -> codes [...] int64.
    """
    choice = (logits + rng.gumbel(logits.shape[-1] if codes is None else codes)).argmax(-1, keepdim=True)
    return (choice if codes is None else codes.gather(-1, choice)).squeeze(-1)


def in_one_kernel(logits: Tensor) -> bool:
    """Whether logits are being compiled for a GPU, where a sort is several kernels and `fewest_likeliest` part of one.

    Elsewhere sorting is faster.
    """
    return torch.compiler.is_compiling() and logits.is_cuda


def fewest_likeliest(logits: Tensor, weight: Tensor | float, needed: float) -> Tensor:
    """Choose the fewest of the likeliest codes that together weigh `needed`, and their equals -> mask [..., C].

    The least logit of theirs is found bit by bit, by comparisons and sums over the row (radix selection).

    Args:
        logits: [..., C].
        weight: of each code [..., C]; 1.0 counts them.
        needed: where all weigh less, all are chosen.
    """
    bits = logits.float().view(torch.int32)
    order = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # integers in the order of the numbers
    order = torch.where(order == -1, 0, order)  # -0.0 is 0.0

    def enough(least: Tensor | int) -> Tensor:
        return torch.where(order >= least, weight, 0.0).sum(-1, keepdim=True) >= needed

    least = torch.where(enough(0), 0, torch.full_like(order[..., :1], -(2**31)))
    last = 16 if logits.dtype == torch.bfloat16 else 0  # it has no bits below
    for bit in range(30, last - 1, -1):
        least = torch.where(enough(least + (1 << bit)), least + (1 << bit), least)
    return order >= least
