"""Checks of objectives and samplers of continuous latents."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.diffusion.kinds import Regime
from accomp.core.diffusion.latent_model import LatentModel
from accomp.core.interfaces import Velocities
from accomp.core.model.conditions import Conditions, ContextCondition, LabelCondition
from accomp.core.testing.common import WIDTH, PluginUnderTest, generator
from accomp.core.testing.parts import Mean, Sum
from accomp.core.testing.results import Findings, expect, expect_close, expect_tensor
from accomp.core.types import Batch, Loss, TokenSpace

LATENTS = TokenSpace(sample_rate=8000, hop=160, codebooks=0, codebook_size=0, latent_dim=6)
BATCH, FRAMES, CHUNK = 6, 24, 4
REGIMES: tuple[Regime, ...] = ("block_causal", "enc_dec")
CLOCKS = tuple(Clock(t_f, k) for t_f in (0, -3, 3, 7) for k in (1, CHUNK))
SIZE = (BATCH, LATENTS.latent_dim, CHUNK)


def check_objective(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of an objective of denoising models."""
    objective = None
    with findings.property("is built by cls(config, space), and is chunked, clocked and names its unit"):
        objective = subject.build(space=LATENTS)
        for attribute in ("chunked", "clocked"):
            expect(getattr(objective, attribute) is True, f"{attribute} is {getattr(objective, attribute)!r}")
        expect(isinstance(objective.unit, str), f"unit is {objective.unit!r}")
    if objective is None:
        return
    batch = _batch()
    with findings.property("loss: a finite scalar with a gradient for every parameter of the model, detached parts"):
        for clock, regime in _cases():
            model = _model(clock, regime)
            loss = objective.loss(model, batch, clock, generator())
            expect(isinstance(loss, Loss), f"a {type(loss).__name__} is not a Loss")
            expect_tensor(loss.total, (), "total")
            loss.total.backward()
            dead = [name for name, p in model.named_parameters() if p.numel() and (p.grad is None or not p.grad.any())]
            expect(not dead, f"{clock}, {regime}: no gradient for {', '.join(dead)}")
            expect(not any(part.requires_grad for part in loss.parts.values()), "a part is not detached")
    with findings.property("the total is the mean of the parts over so many frames of each"):
        loss = objective.loss(_model(CLOCKS[1]), batch, CLOCKS[1], generator())
        parts = torch.stack(list(loss.parts.values()))
        expect(loss.counts is not None and loss.counts.shape == parts.shape, f"counts is {loss.counts}")
        expect_close((parts * loss.counts).sum() / loss.counts.sum(), loss.total, "the mean", 1e-4)
    with findings.property("the same generator gives the same loss, with conditions dropped at random"):
        model = _model(CLOCKS[0], drop=0.5)
        first, second = (objective.loss(model, batch, CLOCKS[0], generator(1)).total for _ in range(2))
        expect(torch.equal(first, second), f"{first.item()} and {second.item()}")
    with findings.property("targets outside `valid` do nothing"):
        for clock, regime in _cases():
            cut = FRAMES - CHUNK // 2
            short = attrs.evolve(batch, valid=(torch.arange(FRAMES) < cut).expand(BATCH, -1))
            other = attrs.evolve(short, y=torch.where(torch.arange(FRAMES) < cut, batch.y, batch.y + 1))
            model = _model(clock, regime)
            first, second = (objective.loss(model, b, clock, generator()).total for b in (short, other))
            expect_close(first, second, f"{clock}, {regime}: y changed from frame {cut} on, valid up to there", 1e-6)
    with findings.property("a block from s on hears x up to frame s + t_f, and nothing later"):
        for clock, regime in _cases():
            _check_hearing(objective, clock, regime)


def _check_hearing(objective: Any, clock: Clock, regime: Regime) -> None:
    """Check the dependence on input; the last block alone is valid, so that all of the loss is its."""
    start = (min(FRAMES, FRAMES - clock.t_f + clock.k) - clock.k) // clock.k * clock.k
    frame = torch.arange(FRAMES)
    batch = attrs.evolve(_batch(), valid=((frame >= start) & (frame < start + clock.k)).expand(BATCH, -1))
    batch.x.requires_grad_()
    model = _model(clock, regime).eval()
    objective.loss(model, batch, clock, generator()).total.backward()
    assert batch.x.grad is not None, "asked for"
    seen = batch.x.grad.abs().sum((0, 2)) > 0
    newest = clock.visible(start) - 1
    later = (seen & (frame > newest)).nonzero().flatten().tolist()
    expect(not later, f"{clock}, {regime}: the block from frame {start} on hears input frames {later}")
    expect(bool(seen[newest]), f"{clock}, {regime}: the block from frame {start} on ignores input frame {newest}")


def check_sampler(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of a denoising sampler."""
    sampler = None
    with findings.property("is built by cls(config, space) and has levels from 1 down to 0, and plus"):
        built = subject.build(space=LATENTS)
        levels = list(built.levels)
        expect(len(levels) > 1 and levels[0] == 1.0 and levels[-1] == 0.0, f"levels are {levels}")
        expect(levels == sorted(levels, reverse=True), f"levels are {levels}")
        expect(isinstance(built.plus, bool), f"plus is {built.plus!r}")
        sampler = built
    if sampler is None:
        return
    target = torch.randn(SIZE, generator=generator(5))

    def point(x: Tensor, t: float) -> Velocities:
        """Return the velocity towards `target`, the only possible value."""
        v = (x - target[: len(x)]) / t
        return Velocities(v, v)

    def model(x: Tensor, t: float) -> Velocities:
        return Velocities(torch.tanh(x) * (1 + t), torch.tanh(x))

    with findings.property("path: N steps, each of finite latents [B, E, k], asking the model once, at its level"):
        times: list[float] = []

        def listening(x: Tensor, t: float) -> Velocities:
            times.append(t)
            return model(x, t)

        steps = list(sampler.path(listening, _draw))
        expect(len(steps) == len(sampler.levels) - 1, f"{len(steps)} steps for {len(sampler.levels)} levels")
        expect(times == list(sampler.levels[:-1]), f"asked at {times}")
        for x in steps:
            expect_tensor(x, SIZE, "latents")
    with findings.property("what is certain is found, whatever the noise"):
        *_, x = sampler.path(point, _draw)
        expect_close(x, target, "the latents", 1e-4)
    with findings.property("the same noise gives the same latents, and a row does not depend on the others"):
        *_, first = sampler.path(model, _draw)
        *_, second = sampler.path(model, _draw)
        *_, single = sampler.path(model, lambda number: _draw(number)[:1])
        expect(torch.equal(first, second), "two courses differ")
        expect_close(single, first[:1], "a row alone", 1e-6)
    with findings.property("other noise gives other latents"):
        *_, other = sampler.path(model, lambda number: _draw(number + 100))
        expect(not torch.allclose(first, other), "they are the same")


def _draw(number: int) -> Tensor:
    return torch.randn(SIZE, generator=generator(number))


def _cases() -> list[tuple[Clock, Regime]]:
    return [(clock, regime) for clock in CLOCKS for regime in REGIMES]


def _model(clock: Clock, regime: Regime = "block_causal", drop: float = 0.0) -> LatentModel:
    conditions = Conditions(ContextCondition(drop), {"instrument": LabelCondition(classes=5, drop=drop)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LatentModel(Sum(LATENTS), Mean(), LATENTS, clock, conditions, WIDTH, regime)


def _batch() -> Batch:
    rng = generator()
    x = torch.randn(BATCH, FRAMES, LATENTS.latent_dim, generator=rng)
    x[0] = 0.0  # not given
    y = torch.randn(BATCH, LATENTS.latent_dim, FRAMES, generator=rng)
    labels = {"instrument": torch.randint(5, (BATCH,), generator=rng)}
    return Batch(x, y, torch.ones(BATCH, FRAMES, dtype=torch.bool), labels)
