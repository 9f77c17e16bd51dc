"""What an objective promises: a finite loss that its generator decides, and sight of no more than the clock allows."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor, nn

from accomp.core.interfaces import Backbone, Fuser
from accomp.core.model import Model
from accomp.core.spec import Conditions, ContextCondition, LabelCondition
from accomp.core.streaming.clock import Clock
from accomp.core.testing.common import SPACE, WIDTH, Subject, generator
from accomp.core.testing.findings import Findings, expect, expect_close, expect_tensor
from accomp.core.types import Batch, Loss, TokenSpace

BATCH, FRAMES, CHUNK = 3, 24, 4
SINGLE = attrs.evolve(SPACE, codebooks=1)
"""One level and so no delay: here the clock's sentence holds frame by frame."""


def check(subject: Subject, findings: Findings) -> None:
    """All properties of an objective."""
    objective = None
    with findings.property("is built by cls(config, space) and states decoding and chunked"):
        built = subject.build(space=SPACE)
        expect(built.decoding in ("causal", "masked"), f"decoding is {built.decoding!r}")
        expect(isinstance(built.chunked, bool), f"chunked is {built.chunked!r}")
        objective = built
    if objective is None:
        return
    chunks = (1, CHUNK) if objective.chunked else (1,)
    clocks = [Clock(t_f, k) for t_f in (0, -3, 3) for k in chunks]
    _check_loss(objective, clocks, findings)
    if objective.decoding == "causal":
        for space in (SPACE, SINGLE):
            _check_sight(subject.build(space=space), space, clocks, findings)


def _check_loss(objective: Any, clocks: list[Clock], findings: Findings) -> None:
    batch = _batch(SPACE)
    with findings.property("loss: a finite scalar with a gradient for every parameter of the model, detached parts"):
        for clock in clocks:
            model = _model(SPACE, clock)
            loss = objective.loss(model, batch, clock, generator())
            expect(isinstance(loss, Loss), f"a {type(loss).__name__} is not a Loss")
            expect_tensor(loss.total, (), "total")
            loss.total.backward()
            used = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
            dead = [name for name, p in model.named_parameters() if p.numel() and name not in used]
            expect(not dead, f"{clock}: no gradient for {', '.join(dead)}")
            for name, part in loss.parts.items():
                expect_tensor(part, (), f"part {name}")
                expect(not part.requires_grad, f"part {name} is not detached")
    with findings.property("the same generator gives the same loss, with conditions dropped at random"):
        model = _model(SPACE, clocks[0], drop=0.5)
        first, second = (objective.loss(model, batch, clocks[0], generator(1)).total for _ in range(2))
        expect(torch.equal(first, second), f"{first.item()} and {second.item()}")
    with findings.property("targets outside `valid` do nothing"):
        for clock in clocks:
            model = _model(SPACE, clock)
            cut = FRAMES // 2
            short = attrs.evolve(batch, valid=_valid(cut))
            other = attrs.evolve(short, y=_changed(batch.y, cut))
            first, second = (objective.loss(model, b, clock, generator()).total for b in (short, other))
            expect_close(first, second, f"{clock}, y changed from frame {cut} on, valid up to there", 1e-6)


def _check_sight(objective: Any, space: TokenSpace, clocks: list[Clock], findings: Findings) -> None:
    levels = space.codebooks
    s = FRAMES // 2
    end_of_sight = "s + t_f" if levels == 1 else "s + t_f + K - 1"
    with findings.property(f"K = {levels}: chunk s hears x before {end_of_sight}, and nothing later"):
        for clock in clocks:
            batch = attrs.evolve(_batch(space), valid=_valid(s + clock.k) & ~_valid(s))
            batch.x.requires_grad_()
            objective.loss(_model(space, clock), batch, clock, generator()).total.backward()
            seen = batch.x.grad.abs().sum(dim=(0, 2)) if batch.x.grad is not None else torch.zeros(FRAMES)
            end = clock.visible(s) + levels - 1 + (clock.k - 1 if levels > 1 else 0)
            beyond = [t for t in range(end, FRAMES) if seen[t] > 0]
            expect(not beyond, f"{clock}: frames {s}..{s + clock.k - 1} depend on input frames {beyond}")
            deaf = [t for t in range(clock.visible(s)) if seen[t] == 0]
            expect(not deaf, f"{clock}: frames {s}..{s + clock.k - 1} ignore input frames {deaf}")
    with findings.property(f"K = {levels}: no prediction sees its own code, and later ones do"):
        for clock in clocks:
            batch, model = _batch(space), _model(space, clock)
            first = model.vocabulary.first_code + (levels - 1) * model.vocabulary.size
            rare = space.codebook_size - 1  # a code of the last level that no other frame holds
            y = batch.y.clamp(max=rare - 1)
            y[:, levels - 1, s] = rare
            for valid, visible in ((_valid(s + 1), False), (_valid(FRAMES), True)):
                model.zero_grad()
                objective.loss(model, attrs.evolve(batch, y=y, valid=valid), clock, generator()).total.backward()
                gradient = model.table.weight.grad
                used = gradient is not None and bool(gradient[first + rare].any())
                which = f"frame {s} of the last level, with valid frames up to {int(valid[0].sum())}"
                expect(used == visible, f"{clock}: the code at {which}, {'is' if used else 'is not'} an input")


class _Sum(Fuser):
    """h = A x + B e."""

    def __init__(self, space: TokenSpace):
        super().__init__()
        self.embed_width = WIDTH
        self.a, self.b = nn.Linear(space.latent_dim, WIDTH), nn.Linear(WIDTH, WIDTH)

    def fuse(self, x: Tensor | None, e: Tensor) -> Tensor:
        return self.b(e) if x is None else self.a(x) + self.b(e)


class _Mean(Backbone):
    """h_s + tanh(W mean of h up to s), or of all h."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(WIDTH, WIDTH)

    def forward(self, h: Tensor, *, causal: bool = True, state: Any = None) -> Tensor:
        weights = torch.ones(h.shape[1], h.shape[1])
        weights = weights.tril() if causal else weights
        return h + torch.tanh(self.w(weights / weights.sum(1, keepdim=True) @ h))


def _model(space: TokenSpace, clock: Clock, drop: float = 0.0) -> Model:
    """A model of two layers; the same weights each time."""
    conditions = Conditions(ContextCondition(drop), {"instrument": LabelCondition(classes=5, drop=drop)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model(_Sum(space), _Mean(), space, clock, conditions, WIDTH)


def _batch(space: TokenSpace) -> Batch:
    rng = generator()
    x = torch.randn(BATCH, FRAMES, space.latent_dim, generator=rng)
    y = torch.randint(space.codebook_size, (BATCH, space.codebooks, FRAMES), generator=rng)
    return Batch(x, y, _valid(FRAMES), {"instrument": torch.randint(5, (BATCH,), generator=rng)})


def _valid(frames: int) -> Tensor:
    """[B, T] bool, true before `frames`."""
    return (torch.arange(FRAMES) < frames).expand(BATCH, -1)


def _changed(y: Tensor, start: int) -> Tensor:
    y = y.clone()
    y[:, :, start:] = (y[:, :, start:] + 1) % SPACE.codebook_size
    return y
