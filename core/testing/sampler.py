"""Checks of samplers: codes in range, reproducible from the same random numbers, logits left unchanged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accomp.core.keyed_random import KeyedRandom
from accomp.core.testing import denoised
from accomp.core.testing.common import SPACE, PluginUnderTest, generator
from accomp.core.testing.results import Findings, Mismatch, expect, expect_tensor

BATCH, FRAMES = 4, 11
LEVELS, CODES = SPACE.codebooks, SPACE.codebook_size


def check(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of a sampler."""
    if getattr(subject.cls, "decoding", None) == "denoised":
        denoised.check_sampler(subject, findings)
        return
    sampler = None
    with findings.property('is built by cls(config, space) and states decoding, "causal" or "masked"'):
        built = subject.build(space=SPACE)
        expect(built.decoding in ("causal", "masked"), f"decoding is {built.decoding!r}")
        sampler = built
    if sampler is None:
        return
    if sampler.decoding == "causal":
        _check_causal(sampler, findings)
    else:
        _check_masked(sampler, findings)


def _check_causal(sampler: Any, findings: Findings) -> None:
    logits = 3 * torch.randn(BATCH, LEVELS, CODES, generator=generator())
    with findings.property("pick: logits [B, K, C] -> codes [B, K] int64 in [0, C)"):
        for seed in range(20):
            codes = sampler.pick(logits.clone(), _noise(seed))
            expect_tensor(codes, (BATCH, LEVELS), "codes", torch.int64)
            expect(((codes >= 0) & (codes < CODES)).all(), f"codes leave [0, {CODES}): {codes.tolist()}")
    with findings.property("the same noise gives the same codes"):
        first, second = sampler.pick(logits.clone(), _noise(1)), sampler.pick(logits.clone(), _noise(1))
        expect(torch.equal(first, second), f"{first.tolist()}, then {second.tolist()}")
    with findings.property("a row does not depend on the others of its batch"):
        whole = sampler.pick(logits.clone(), _noise(2))
        single = torch.cat(
            [sampler.pick(logits[i : i + 1].clone(), KeyedRandom(_noise(2).key[i : i + 1])) for i in range(BATCH)]
        )
        expect(torch.equal(whole, single), f"{whole.tolist()} together, {single.tolist()} alone")
    with findings.property("does not change its logits"):
        given = logits.clone()
        sampler.pick(given, _noise(0))
        expect(torch.equal(given, logits), "they were changed")
    with findings.property("a code that is certain is picked"):
        certain = torch.randint(CODES, (BATCH, LEVELS), generator=generator(5))
        sure = torch.full_like(logits, -torch.inf).scatter(2, certain[..., None], 0.0)
        for seed in range(5):
            codes = sampler.pick(sure.clone(), _noise(seed))
            expect(torch.equal(codes, certain), f"{codes.tolist()}, where only {certain.tolist()} had any probability")
    with findings.property("runs inside a compiled step: one graph, no break"):
        torch.compiler.reset()  # or an eighth sampler of the same class would hit the recompile limit
        step = torch.compile(sampler.pick, fullgraph=True, backend="eager", dynamic=False)
        expect(torch.equal(step(logits.clone(), _noise(3)), sampler.pick(logits.clone(), _noise(3))), "other codes")


def _check_masked(sampler: Any, findings: Findings) -> None:
    rng = generator()
    canvas = torch.randint(CODES, (BATCH, LEVELS, FRAMES), generator=rng)
    todo = torch.rand(BATCH, LEVELS, FRAMES, generator=rng) < torch.linspace(0.3, 1.0, BATCH)[:, None, None]
    logits = 3 * torch.randn(BATCH, LEVELS, FRAMES, CODES, generator=rng)

    def fill(
        seed: int, where: Tensor = todo, row: slice = slice(None), believed: Tensor = logits
    ) -> tuple[Tensor, _Predict]:
        predict = _Predict(believed[row])
        return sampler.fill(
            predict, canvas[row].clone(), where[row].clone(), KeyedRandom(_noise(seed).key[row])
        ), predict

    with findings.property("fill: canvas [B, K, T], todo [B, K, T] -> codes [B, K, T] int64 in [0, C)"):
        for seed in range(5):
            codes, _ = fill(seed)
            expect_tensor(codes, (BATCH, LEVELS, FRAMES), "codes", torch.int64)
            expect(((codes >= 0) & (codes < CODES)).all(), f"codes leave [0, {CODES}): {codes.unique().tolist()}")
    with findings.property("ends: at most T predictions for a level, none where nothing is to do"):
        _, predict = fill(0)
        counts = [predict.levels.count(level) for level in range(LEVELS)]
        expect(max(counts) <= FRAMES, f"{counts} predictions for the {LEVELS} levels of {FRAMES} frames")
        some = todo & (torch.arange(LEVELS) != 1)[:, None]
        _, predict = fill(0, some)
        expect(1 not in predict.levels, f"asked about levels {predict.levels}, where level 1 was complete")
        _, predict = fill(0, torch.zeros_like(todo))
        expect(not predict.levels, f"asked about levels {predict.levels}, where there was nothing to do")
    with findings.property("predict gets one level, an int, and a negative code exactly where none is known"):
        _, predict = fill(0)
        for n, (level, seen) in enumerate(zip(predict.levels, predict.canvases, strict=True)):
            expect(type(level) is int and 0 <= level < LEVELS, f"level {level!r} of {LEVELS}")
            expect_tensor(seen, (BATCH, LEVELS, FRAMES), "canvas", torch.int64)
            hidden = int((seen != canvas)[~todo].sum())
            expect(hidden == 0, f"prediction {n}: {hidden} codes that were given are not on the canvas")
            old = int((seen[todo] >= 0).sum()) if n == 0 else 0
            expect(old == 0, f"prediction 0: {old} codes are on the canvas that were to be found")
            expect((seen < CODES).all(), f"prediction {n}: codes leave [0, {CODES}): {seen.unique().tolist()}")
            expect((seen[:, level] < 0).any(), f"prediction {n}: level {level} is asked for, and all of it is known")
    with findings.property("keeps what was not to do"):
        for where in (todo, torch.zeros_like(todo)):
            codes, _ = fill(1, where)
            expect(
                torch.equal(codes[~where], canvas[~where]), f"{int((codes != canvas)[~where].sum())} codes were changed"
            )
    with findings.property("a code that is certain is filled in"):
        certain = torch.randint(CODES, (BATCH, LEVELS, FRAMES), generator=generator(5))
        sure = torch.full_like(logits, -torch.inf).scatter(3, certain[..., None], 0.0)
        codes, _ = fill(1, believed=sure)
        wrong = int((codes != certain)[todo].sum())
        expect(wrong == 0, f"{wrong} of {int(todo.sum())} codes are others than the only ones with any probability")
    with findings.property("the same noise gives the same codes"):
        (first, _), (second, _) = fill(2), fill(2)
        expect(torch.equal(first, second), f"{int((first != second).sum())} codes differ")
    with findings.property("a row does not depend on the others of its batch"):
        whole, _ = fill(2)
        single = torch.cat([fill(2, row=slice(i, i + 1))[0] for i in range(BATCH)])
        expect(torch.equal(whole, single), f"{int((whole != single).sum())} codes differ between together and alone")
    with findings.property("changes neither canvas, todo nor logits"):
        given, predict = (canvas.clone(), todo.clone()), _Predict(logits)
        sampler.fill(predict, *given, _noise(3))
        same = {
            "canvas": torch.equal(given[0], canvas),
            "todo": torch.equal(given[1], todo),
            "logits": predict.intact(),
        }
        expect(all(same.values()), f"{', '.join(name for name, kept in same.items() if not kept)} changed")


class _Predict:
    """A model whose prediction depends slightly on the canvas, with a record of its calls.

    Attributes:
        levels, canvases: the arguments of each call.
    """

    LIMIT = 2 * LEVELS * FRAMES

    def __init__(self, logits: Tensor):
        """logits [B, K, T, C]."""
        self._logits = logits
        self.levels: list[int] = []
        self.canvases: list[Tensor] = []
        self._answers: list[tuple[Tensor, Tensor]] = []

    def __call__(self, canvas: Tensor, level: int) -> Tensor:
        if len(self.levels) == self.LIMIT:
            raise Mismatch(f"asked for more than {self.LIMIT} predictions for {LEVELS} levels of {FRAMES} frames")
        self.levels.append(level)
        self.canvases.append(canvas.clone())
        mood = torch.sin(canvas.sum((1, 2))[:, None] + torch.arange(CODES))
        answer = self._logits[:, level] + mood[:, None]
        self._answers.append((answer, answer.clone()))
        return answer

    def intact(self) -> bool:
        """Test that the returned logits were not modified."""
        return all(torch.equal(answer, copy) for answer, copy in self._answers)


def _noise(seed: int) -> KeyedRandom:
    """Return keys [B, K], as a session has them: one for each row and level."""
    return KeyedRandom.seeded(seed).fold(torch.arange(BATCH)[:, None]).fold(torch.arange(LEVELS))
