"""Checks of objectives: a finite loss, reproducible from its generator, that depends on allowed inputs only.

Dependence is measured by gradient, one prediction at a time, separately for every step of the delay pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import torch
from attrs import frozen
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition
from accomp.core.model.model import Model
from accomp.core.testing import denoised
from accomp.core.testing.common import SPACE, WIDTH, PluginUnderTest, generator
from accomp.core.testing.parts import Mean, Sum
from accomp.core.testing.results import Findings, expect, expect_close, expect_tensor
from accomp.core.types import Batch, Loss, TokenSpace

BATCH, FRAMES, CHUNK = 12, 24, 4
PROBED = (0, 11)
"""Frames whose predictions are analysed; with K = 3 their steps are at the beginning, inside and end of a chunk."""
DRAWS = 32
"""Number of losses analysed for an objective that does not predict every frame each time."""
MANY = attrs.evolve(SPACE, codebook_size=2 * FRAMES)
"""Number of codes with which every frame has its own."""


def check(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of an objective."""
    if getattr(subject.cls, "decoding", None) == "denoised":
        denoised.check_objective(subject, findings)
        return
    objective = None
    with findings.property("is built by cls(config, space) and states decoding, chunked and clocked"):
        built = subject.build(space=SPACE)
        expect(built.decoding in ("causal", "masked"), f"decoding is {built.decoding!r}")
        for attribute in ("chunked", "clocked"):
            value = getattr(built, attribute)
            expect(isinstance(value, bool), f"{attribute} is {value!r}")
        expect(built.clocked or not built.chunked, "chunked, but not clocked: chunks belong to a clock")
        objective = built
    if objective is None:
        return
    sizes = (1, CHUNK) if objective.chunked else (1,)
    clocks: list[Clock | None] = [Clock(t_f, k) for t_f in (0, -3, 3) for k in sizes] if objective.clocked else [None]
    _check_loss(objective, clocks, findings)
    for levels in (SPACE.codebooks, 1):  # with one level there is no delay
        space = attrs.evolve(MANY, codebooks=levels)
        built = subject.build(space=space)
        if objective.clocked:
            _check_clocked(built, space, clocks, findings)
        if objective.decoding == "causal":
            _check_causal(built, space, clocks, findings)
    if not objective.clocked:
        _check_whole(subject.build(space=MANY), findings)
    if objective.decoding == "masked":
        _check_masked(subject.build(space=MANY), clocks, findings)


def _check_loss(objective: Any, clocks: list[Clock | None], findings: Findings) -> None:
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
            expect(not dead, f"{_describe(clock)}no gradient for {', '.join(dead)}")
            for name, part in loss.parts.items():
                expect_tensor(part, (), f"part {name}")
                expect(not part.requires_grad, f"part {name} is not detached")
    with findings.property("where it counts tokens, the total is the mean of the parts level_q over so many of each"):
        for clock in clocks:
            loss = objective.loss(_model(SPACE, clock), batch, clock, generator())
            if loss.counts is not None:
                parts = torch.stack([loss.parts[f"level_{q}"] for q in range(SPACE.codebooks)])
                expect(loss.counts.shape == parts.shape, f"counts is {tuple(loss.counts.shape)}, expected [K]")
                expect_close((parts * loss.counts).sum() / loss.counts.sum(), loss.total, _describe(clock), 1e-4)
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
            expect_close(first, second, f"{_describe(clock)}y changed from frame {cut} on, valid up to there", 1e-6)


def _check_clocked(objective: Any, space: TokenSpace, clocks: list[Clock | None], findings: Findings) -> None:
    promise = f"K = {space.codebooks}: each step of the chunk from s hears x before s + t_f, and nothing later"
    with findings.property(promise):
        for clock in filter(None, clocks):
            for probe in _probes(objective, space, clock):
                allowed = torch.arange(FRAMES) < clock.visible(probe.step // clock.k * clock.k)
                seen = probe.heard(allowed)
                expect(not (seen & ~allowed).any(), f"{probe} hears input frames {_places(seen & ~allowed)}")
                expect(not (allowed & ~seen).any(), f"{probe} ignores input frames {_places(allowed & ~seen)}")


def _check_causal(objective: Any, space: TokenSpace, clocks: list[Clock | None], findings: Findings) -> None:
    with findings.property(f"K = {space.codebooks}: a step sees what the steps before it put out, and nothing later"):
        steps = torch.arange(FRAMES) + torch.arange(space.codebooks)[:, None]
        for clock in clocks:
            for probe in _probes(objective, space, clock):
                allowed = steps < probe.step
                seen = probe.given(allowed)
                expect(not (seen & ~allowed).any(), f"{probe} sees (level, frame) {_places(seen & ~allowed)}")
                expect(not (allowed & ~seen).any(), f"{probe} ignores (level, frame) {_places(allowed & ~seen)}")


def _check_whole(objective: Any, findings: Findings) -> None:
    with findings.property("without a clock every prediction hears the whole input"):
        for probe in _probes(objective, MANY, None):
            seen = probe.heard(torch.ones(FRAMES).bool())
            expect(seen.all(), f"{probe} ignores input frames {_places(~seen)}")
    with findings.property("without a clock input outside `valid` is not heard"):
        cut = FRAMES // 2
        batch = attrs.evolve(_batch(MANY), valid=_valid(cut))
        batch.x.requires_grad_()
        objective.loss(_model(MANY, None), batch, None, generator()).total.backward()
        beyond = _nonzero(batch.x.grad, (0, 2)) & (torch.arange(FRAMES) >= cut)
        expect(not beyond.any(), f"valid before {cut}, and input frames {_places(beyond)} are heard")


def _check_masked(objective: Any, clocks: list[Clock | None], findings: Findings) -> None:
    with findings.property("a code that is predicted is not seen, and any other is"):
        for clock in clocks:
            for draw in range(4):
                batch = _one_code_a_frame(MANY, batch=1)
                predicted = _predicted(objective, batch, clock, generator(draw))
                model = _model(MANY, clock)
                objective.loss(model, batch, clock, generator(draw)).total.backward()
                seen = _table_rows(model)
                expect(not (seen & predicted).any(), f"predicted and seen: (level, frame) {_places(seen & predicted)}")
                neither = ~(seen | predicted)
                expect(not neither.any(), f"neither predicted nor seen: (level, frame) {_places(neither)}")


@frozen
class _Probe:
    """One prediction, and by gradient the inputs it depends on.

    All heads are uniform but for one code, whose bias makes it impossible: where it is not the target, it gets no
    gradient. It is the target of this prediction alone.
    """

    objective: Any
    space: TokenSpace
    clock: Clock | None
    level: int
    frame: int

    def __str__(self) -> str:
        return f"{_describe(self.clock)}step {self.step}, frame {self.frame} of level {self.level},"

    @property
    def step(self) -> int:
        """Step of the delay pattern."""
        return self.frame + self.level

    def heard(self, allowed: Tensor) -> Tensor:
        """Input frames that it depends on, [T] bool."""
        return self._union(allowed, lambda model, batch: _nonzero(batch.x.grad, (0, 2)))

    def given(self, allowed: Tensor) -> Tensor:
        """Codes that it depends on, [K, T] bool."""
        return self._union(allowed, lambda model, batch: _table_rows(model))

    def _union(self, allowed: Tensor, look: Callable[[Model, Batch], Tensor]) -> Tensor:
        """Combine the dependences over several losses, until all required ones were found."""
        seen = torch.zeros_like(allowed)
        for draw in range(DRAWS):
            model, batch = _model(self.space, self.clock), _one_code_a_frame(self.space)
            code = self.level * model.vocabulary.size + model.vocabulary.first_code + self.frame
            with torch.no_grad():
                weight = model.heads.weight[code].clone()
                _silence(model)
                model.heads.weight[code] = weight
                model.heads.bias[code] = -1000.0
            batch.x.requires_grad_()
            self.objective.loss(model, batch, self.clock, generator(draw)).total.backward()
            seen |= look(model, batch)
            if not (allowed & ~seen).any():
                break
        return seen


def _probes(objective: Any, space: TokenSpace, clock: Clock | None) -> Iterator[_Probe]:
    for level in range(space.codebooks):
        for frame in PROBED:
            yield _Probe(objective, space, clock, level, frame)


def _predicted(objective: Any, batch: Batch, clock: Clock | None, rng: torch.Generator) -> Tensor:
    """Find the codes that count in the loss, [K, T] bool: with uniform predictions, those whose score should rise."""
    model = _model(MANY, clock)
    with torch.no_grad():
        _silence(model)
    objective.loss(model, batch, clock, rng).total.backward()
    assert model.heads.bias.grad is not None, "checked before: every parameter gets a gradient"
    rise = -model.heads.bias.grad.unflatten(0, (MANY.codebooks, -1))
    return rise[:, model.vocabulary.first_code :][:, :FRAMES] > 0


def _silence(model: Model) -> None:
    """Make every prediction uniform."""
    model.heads.weight.zero_()
    model.heads.bias.zero_()


def _table_rows(model: Model) -> Tensor:
    """Find the codes 0..T-1 of each level that were an input of the differentiated value, [K, T] bool."""
    rows = _nonzero(model.table.weight.grad, (1,)).expand(len(model.table.weight))
    return rows.unflatten(0, (model.space.codebooks, -1))[:, model.vocabulary.first_code :][:, :FRAMES]


def _nonzero(gradient: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """Test a gradient for non-zero values along `dims`; a missing gradient is zero everywhere."""
    return torch.tensor(False) if gradient is None else (gradient != 0).sum(dims) > 0


def _places(mask: Tensor) -> list[Any]:
    """Format a mask [T] as [3, 4], a mask [K, T] as [(1, 3), (1, 4)]."""
    places = [tuple(place) for place in mask.nonzero().tolist()]
    return [place[0] for place in places] if mask.ndim == 1 else places


def _describe(clock: Clock | None) -> str:
    return "" if clock is None else f"{clock}: "


def _model(space: TokenSpace, clock: Clock | None, drop: float = 0.0) -> Model:
    """Build a model of two layers; the same weights each time."""
    conditions = Conditions(ContextCondition(drop), {"instrument": LabelCondition(classes=5, drop=drop)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model(Sum(space), Mean(), space, clock, conditions, WIDTH)


def _batch(space: TokenSpace) -> Batch:
    rng = generator()
    x = torch.randn(BATCH, FRAMES, space.latent_dim, generator=rng)
    y = torch.randint(space.codebook_size, (BATCH, space.codebooks, FRAMES), generator=rng)
    return Batch(x, y, _valid(FRAMES), {"instrument": torch.randint(5, (BATCH,), generator=rng)})


def _one_code_a_frame(space: TokenSpace, batch: int = BATCH) -> Batch:
    """Build clips in which frame t has the code t on every level."""
    whole = _batch(space)
    y = torch.arange(FRAMES).expand(batch, space.codebooks, -1)
    return Batch(whole.x[:batch], y, whole.valid[:batch], {"instrument": whole.labels["instrument"][:batch]})


def _valid(frames: int) -> Tensor:
    """Return [B, T] bool, true before `frames`."""
    return (torch.arange(FRAMES) < frames).expand(BATCH, -1)


def _changed(y: Tensor, start: int) -> Tensor:
    y = y.clone()
    y[:, :, start:] = (y[:, :, start:] + 1) % SPACE.codebook_size
    return y
