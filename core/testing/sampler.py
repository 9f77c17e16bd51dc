"""What a sampler promises: codes in range, the same for the same noise, from logits that it leaves alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from accomp.core.streaming.noise import Noise
from accomp.core.testing.common import SPACE, Subject, generator
from accomp.core.testing.findings import Findings, Mismatch, expect, expect_tensor

BATCH, FRAMES = 4, 11
LEVELS, CODES = SPACE.codebooks, SPACE.codebook_size


def check(subject: Subject, findings: Findings) -> None:
    """All properties of a causal or a masked sampler."""
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
        alone = torch.cat(
            [sampler.pick(logits[i : i + 1].clone(), Noise(_noise(2).key[i : i + 1])) for i in range(BATCH)]
        )
        expect(torch.equal(whole, alone), f"{whole.tolist()} together, {alone.tolist()} alone")
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
    todo = torch.rand(BATCH, LEVELS, FRAMES, generator=rng) < 0.6
    logits = 3 * torch.randn(BATCH, LEVELS, FRAMES, CODES, generator=rng)
    with findings.property("fill: canvas [B, K, T], todo [B, K, T] -> codes [B, K, T] int64 in [0, C), and ends"):
        codes = sampler.fill(_Predict(logits), canvas.clone(), todo.clone(), _noise(0))
        expect_tensor(codes, (BATCH, LEVELS, FRAMES), "codes", torch.int64)
        expect(((codes >= 0) & (codes < CODES)).all(), f"codes leave [0, {CODES})")
    with findings.property("keeps what was not to do"):
        codes = sampler.fill(_Predict(logits), canvas.clone(), todo.clone(), _noise(1))
        expect(torch.equal(codes[~todo], canvas[~todo]), f"{int((codes != canvas)[~todo].sum())} codes were changed")
        nothing = sampler.fill(_Predict(logits), canvas.clone(), torch.zeros_like(todo), _noise(1))
        expect(torch.equal(nothing, canvas), "codes were changed where there was nothing to do")
    with findings.property("the same noise gives the same codes"):
        first, second = (sampler.fill(_Predict(logits), canvas.clone(), todo.clone(), _noise(2)) for _ in range(2))
        expect(torch.equal(first, second), f"{int((first != second).sum())} codes differ")
    with findings.property("changes neither canvas, todo nor logits"):
        given = (canvas.clone(), todo.clone(), logits.clone())
        sampler.fill(_Predict(given[2]), given[0], given[1], _noise(3))
        changed = [
            n
            for n, a, b in zip(("canvas", "todo", "logits"), given, (canvas, todo, logits), strict=True)
            if not torch.equal(a, b)
        ]
        expect(not changed, f"{', '.join(changed)} changed")


class _Predict:
    """A model that always believes the same: (canvas, conditions to drop) -> logits [B, K, T, C]."""

    LIMIT = 2000

    def __init__(self, logits: Tensor):
        self._logits = logits
        self._calls = 0

    def __call__(self, canvas: Tensor, drop: frozenset[str] = frozenset()) -> Tensor:
        self._calls += 1
        if self._calls > self.LIMIT:
            raise Mismatch(f"asked for more than {self.LIMIT} predictions")
        return self._logits


def _noise(seed: int) -> Noise:
    """Keys [B, K], as a session gives them: one for each row and level."""
    return Noise.seeded(seed).fold(torch.arange(BATCH)[:, None]).fold(torch.arange(LEVELS))
