"""Operators of torch around Triton kernels, so that torch.compile keeps them in its one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import library
from triton import knobs


def operator(name: str, *, changes: Iterable[str], like: Callable[..., Any]) -> Callable[[Any], Any]:
    """Decorate a function that launches a kernel as the operator accomp::`name`.

    The compiler does not look into it: what it would find out, and at each of 80 launches anew, takes half of the time
    of tracing a step of 16 layers. The function runs when a graph is captured, and not in the replay.

    Args:
        changes: arguments that are written in place. They must be tensors of their own, not parts of another: then
            the compiled graph writes them in place, without a copy. They have no default: torch 2.11 leaves out
            arguments that equal one, then looks for them.
        like: from the same arguments to empty results of the right shape.
    """

    def decorate(launch: Callable[..., Any]) -> Any:
        made = library.custom_op(f"accomp::{name}", launch, mutates_args=tuple(changes))
        made.register_fake(like)
        return made

    return decorate


def interpreted() -> bool:
    """Test for TRITON_INTERPRET=1, set before Triton was imported: kernels run in Python, on a CPU."""
    return bool(knobs.runtime.interpret)


def power_of_two(size: int, least: int = 1) -> int:
    """Return the smallest power of two that is no less than `size` and `least`, as a block of Triton's must be."""
    return max(least, 1 << (size - 1).bit_length())
