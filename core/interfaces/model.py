"""Interfaces of the parts of a model: fuser and backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import Tensor, nn

from accomp.core.types import AttentionPattern

if TYPE_CHECKING:
    import torch


class Fuser(nn.Module):
    """A module that combines input latents and output embeddings, position by position (frame-local).

    Attributes:
        embed_width: De, the width in which it takes the output embeddings.
    """

    embed_width: int

    def fuse(self, x: Tensor | None, e: Tensor | None, c: Tensor | None = None) -> Tensor:
        """Combine the two sequences. At least one of `x` and `e` is given.

        Args:
            x: input latents [B, S, E]; None for positions without input.
            e: output embeddings [B, S, De]; None for positions without output.
            c: [B, 1, De], the label embedding added at every position; None where labels enter otherwise.

        Returns:
            Hidden states [B, S, D].

        Raises:
            TypeError: the subclass does not implement it.
        """
        raise TypeError(f"{type(self).__name__} has no fuse")


@runtime_checkable
class State(Protocol):
    """A KV cache: keys, values and positions of the sessions of one batch. Memory is constant for any session length.

    Attributes:
        position: [B] int64, number of positions that each row has processed.
    """

    position: Tensor

    def rollback(self, position: Tensor) -> None:
        """Discard everything from a position on.

        Args:
            position: [B] int64, at most one chunk before the present position. Below 0 only for a row that begins
                anew: positions before the beginning are visible to no other position.
        """
        ...

    def reset(self, rows: Tensor) -> None:
        """Restart some rows; the others continue unchanged.

        Args:
            rows: [B] bool, true for the rows to be restarted.
        """
        ...


class Backbone(nn.Module):
    """A sequence model between fuser and output heads."""

    def forward(
        self, h: Tensor, *, causal: bool = True, state: State | None = None, sight: AttentionPattern | None = None
    ) -> Tensor:
        """Compute the hidden states of a sequence, or of its next positions.

        Args:
            h: [B, S, D].
            causal: False together with a state: every row attends to what the last row of the call attends to, namely
                all rows of the call and the window that ends with them.
            state: KV cache; the S positions follow those that it has processed.
            sight: position and visible rows of every row instead; excludes a state.

        Returns:
            [B, S, D].

        Raises:
            TypeError: the subclass does not implement it.
        """
        raise TypeError(f"{type(self).__name__} has no forward")

    def new_state(
        self,
        batch: int,
        window: int,
        *,
        chunk: int = 1,
        pinned: range = range(0),
        dtype: torch.dtype | None = None,
    ) -> State:
        """Allocate a KV cache of static size, window + chunk - 1 positions and the pinned ones.

        Args:
            batch: number of sessions.
            window: positions that a position attends to, itself included.
            chunk: largest S of a call.
            pinned: positions that are attended to always.
            dtype: type of the cached values, torch.int8 included; that of the arithmetic where None.

        Returns:
            The empty cache.

        Raises:
            TypeError: the subclass does not implement it.
        """
        raise TypeError(f"{type(self).__name__} has no new_state")
