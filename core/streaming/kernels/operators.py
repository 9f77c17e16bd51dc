"""Operators of torch around Triton kernels, so that torch.compile keeps them in its one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import library
from triton import knobs


def operator(name: str, *, changes: Iterable[str], like: Callable[..., Any]) -> Callable[[Any], Any]:
    """Decorate a function that launches kernels as the operator accomp::`name`.

    It writes `wrap_triton(kernel)[grid](...)` in so many words: torch reads its source to find the kernels, whose own
    source is part of the key under which compiled graphs are kept. Its arguments are tensors and constants: torch 2.11
    passes any other number, an epsilon for example, as float64, and the arithmetic becomes float64 with it.

    On a GPU the compiler sees the launch itself (triton_op): it compiles the kernel with the rest, and no Python runs
    it. Under Triton's interpreter there is nothing to compile, and the operator is opaque (custom_op); its graph is the
    same otherwise.

    Args:
        changes: arguments that are written in place. They must be tensors of their own, not parts of another: then
            the compiled graph writes them in place, without a copy. They have no default: torch 2.11 leaves out
            arguments that equal one, then looks for them.
        like: from the same arguments to empty results of the right shape.
    """

    def decorate(launch: Callable[..., Any]) -> Any:
        if not interpreted():
            return library.triton_op(f"accomp::{name}", launch, mutates_args=tuple(changes))
        opaque = library.custom_op(f"accomp::{name}", launch, mutates_args=tuple(changes))
        opaque.register_fake(like)
        return opaque

    return decorate


def wrap_triton(kernel: Any) -> Any:
    """Return what launches a kernel: torch's wrapper, whose launches graphs see; under the interpreter the kernel
    itself, which torch 2.11 refuses to wrap.
    """
    return kernel if interpreted() else library.wrap_triton(kernel)


def interpreted() -> bool:
    """Test for TRITON_INTERPRET=1, set before Triton was imported: kernels run in Python, on a CPU."""
    return bool(knobs.runtime.interpret)


def power_of_two(size: int, least: int = 1) -> int:
    """Return the smallest power of two that is no less than `size` and `least`, as a block of Triton's must be."""
    return max(least, 1 << (size - 1).bit_length())
