"""Masking of a clip: training masks of a masked model, and iterative decoding of the masked codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from attrs import frozen
from attrs import validators as v
from torch import Tensor

from accomp.core.errors import CombinationError
from accomp.core.interfaces import Predict
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.sampling import temper
from accomp.core.model.tokens import MASK
from accomp.core.types import TokenSpace

STEPS = (128, 64, 32)
"""Forwards for each level (both papers), with 32 for all further ones."""

Number = TypeVar("Number", int, float)


def each(valid: Any) -> Any:
    """Validator of a Config's field that holds a number for each level, or None: `valid` for each number."""
    return v.optional(v.deep_iterable(valid))


def per_level(
    key: str, given: tuple[Number, ...] | None, usual: tuple[Number, ...], space: TokenSpace
) -> tuple[Number, ...]:
    """Expand `given` to K levels, one number standing for all; without it `usual`, its last number repeated.

    Raises CombinationError, naming `key`, for a wrong count of numbers.
    """
    levels = space.codebooks
    if given is None:
        return (usual + usual[-1:] * levels)[:levels]
    if len(given) not in (1, levels):
        raise CombinationError(
            f"{key} = {list(given)} has {len(given)} numbers; give {levels}, one for each level of the codec, or one "
            f"for all of them"
        )
    return given * levels if len(given) == 1 else given


def training_mask(shape: torch.Size, rng: torch.Generator) -> Tensor:
    """Draw the codes to be predicted in a training step: shape (B, K, T) -> [B, K, T] bool, on the generator's device.

    Of a level L ~ U{0..K-1}, each is masked with probability cos(u pi / 2), u ~ U(0, 1); all coarser levels are visible
    and all finer ones masked (SoundStorm, arXiv 2305.09636, as changed by StemGen, arXiv 2312.08723, section 2.1).
    """
    (batch, levels, frames), device = shape, rng.device
    chosen = torch.randint(levels, (batch, 1, 1), generator=rng, device=device)
    share = (torch.rand(batch, 1, 1, generator=rng, device=device) * (math.pi / 2)).cos()
    hidden = torch.rand(batch, 1, frames, generator=rng, device=device) < share
    level = torch.arange(levels, device=device)[:, None]
    return (level > chosen) | ((level == chosen) & hidden)


def masked_after(tokens: int, steps: int) -> list[int]:
    """Count of the n `tokens` that are still masked after each of min(steps, n) steps; the last is 0.

    trunc(cos((t + 1) / S * pi / 2) * n) after step t of S, and at least one fewer than before.
    """
    steps = min(steps, tokens)
    left = [tokens]
    for t in range(steps):
        share = math.cos((t + 1) / steps * math.pi / 2)
        left.append(min(math.trunc(share * tokens), left[-1] - 1))
    return left[1:]


class Candidates(NamedTuple):
    """A code drawn for every frame of a level in one step, to be ranked; the best are kept.

    Attributes:
        level: index of the level.
        p: [B, T], probability of each under the model.
        progress: [B, 1], (t + 1) / S: share of its steps that each row has done including this one; 1 in the last.
        noise: key [B, T], for the ranking's own random numbers.
    """

    level: int
    p: Tensor
    progress: Tensor
    noise: KeyedRandom


Rank = Callable[[Candidates], Tensor]
"""Candidates -> a score of each [B, T]; higher is better."""


@frozen
class Draw:
    """A code from softmax(logits / temperature) over the top_k likeliest, or over all; the likeliest at temperature 0.

    One uniform number a code, looked up in the cumulative distribution: Gumbel noise for every logit, as in
    core.model.sampling for single frames, takes ten times as long, which matters over a whole clip.
    """

    temperature: float = 1.0
    top_k: int | None = None

    def __call__(self, logits: Tensor, noise: KeyedRandom) -> tuple[Tensor, Tensor]:
        """logits [B, T, C], noise's key [B, T] -> codes [B, T] int64, and softmax(logits) of each [B, T] float32."""
        p = logits.float().softmax(-1)
        weights, likeliest = p if self.temperature == 1.0 else temper(logits, self.temperature).softmax(-1), None
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            weights, likeliest = weights.topk(self.top_k)
        sums = weights.cumsum(-1)
        codes = torch.searchsorted(sums, noise.uniform(1) * sums[..., -1:])  # never one of weight 0
        codes = codes if likeliest is None else likeliest.gather(-1, codes)
        return codes.squeeze(-1), p.gather(-1, codes).squeeze(-1)


@frozen
class Choice:
    """What a step of `fill_in` does after its forward: draw a code for every frame, keep the best.

    Equal ones, for arguments of the same shapes, may share a compiled graph.
    """

    level: int
    draw: Draw
    rank: Rank

    def __call__(
        self, logits: Tensor, canvas: Tensor, waiting: Tensor, key: Tensor, left: Tensor, progress: Tensor
    ) -> Tensor:
        """Choose -> the level's codes, and 1 where they still wait, int64 [2, B, T].

        Args:
            logits: [B, T, C].
            canvas: codes so far [B, K, T].
            waiting: [B, T] bool, frames without a code.
            key: of the step's random numbers [B, T].
            left: frames of each row that wait after it [B, 1].
            progress: see Candidates.
        """
        noise = KeyedRandom(key)
        drawn, p = self.draw(logits, noise.fold(0))
        still = _worst(self.rank(Candidates(self.level, p, progress, noise.fold(1))), waiting, left)
        return torch.stack([torch.where(waiting & ~still, drawn, canvas[:, self.level]), still.long()])


@runtime_checkable
class TakesSteps(Protocol):
    """A Predict that computes a forward and the choice after it together."""

    def step(self, choose: Choice) -> Callable[..., Tensor]:
        """Return the computation: the arguments of `choose` after the logits -> its result."""
        ...


def fill_in(
    predict: Predict, canvas: Tensor, todo: Tensor, rng: KeyedRandom, *, steps: Sequence[int], draw: Draw, rank: Rank
) -> Tensor:
    """Decode iteratively, coarse levels first: canvas, todo [B, K, T] -> codes [B, K, T], `canvas` where not `todo`.

    A step draws a code for every frame of the level and keeps those with the highest `rank`; their count follows from
    `masked_after` of the row's own number of tokens and of `steps`, one for each level. `rng.key` is [B, K]. Random
    numbers belong to a session, level, step and frame, so that a row's result does not depend on the rest of its batch.
    """
    canvas = canvas.masked_fill(todo, MASK)
    frames = torch.arange(canvas.shape[2], device=canvas.device)
    counts = todo.sum(-1).T.tolist()
    for level, most in enumerate(steps):
        choose = Choice(level, draw, rank)
        step = predict.step(choose) if isinstance(predict, TakesSteps) else apart(predict, choose)
        left, progress = _plan(counts[level], most, canvas.device)
        number = torch.arange(left.shape[1], device=canvas.device)[:, None]
        key = KeyedRandom(rng.key[:, level, None, None]).fold(number).fold(frames).key  # [B, steps, T]
        waiting = todo[:, level]
        for t in range(left.shape[1]):
            codes, still = step(canvas, waiting, key[:, t], left[:, t : t + 1], progress[:, t : t + 1])
            canvas[:, level], waiting = codes, still.bool()
    return canvas


def apart(predict: Predict, choose: Choice) -> Callable[..., Tensor]:
    """What TakesSteps.step returns, of a forward and the choice one after the other."""
    return lambda canvas, *given: choose(predict(canvas, choose.level), canvas, *given)


def _plan(counts: list[int], steps: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each of the n steps of a level: the count of tokens still masked in each row, and its progress [B, n]."""
    rows = [masked_after(count, steps) for count in counts]
    total = max(map(len, rows))
    left = torch.tensor([row + [0] * (total - len(row)) for row in rows], device=device)
    own = torch.tensor([[max(1, len(row))] for row in rows], device=device)
    return left, (torch.arange(1, total + 1, device=device) / own).clamp(max=1.0)


def _worst(score: Tensor, waiting: Tensor, left: Tensor) -> Tensor:
    """The `left` [B, 1] of the `waiting` [B, T] bool with the lowest score [B, T], the later ones among equals: [B,
    T].
    """
    order = score.masked_fill(~waiting, math.inf).argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device)
    place = torch.empty_like(order).scatter_(1, order, places.expand_as(order))
    return waiting & (place >= len(places) - left)
