"""Checks of fusers: shapes with and without input, output and labels, frame-locality, no unused parameter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from accomp.core.testing.common import SPACE, WIDTH, PluginUnderTest, generator
from accomp.core.testing.results import Findings, expect, expect_close, expect_tensor

BATCH, POSITIONS = 2, 6


def check(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of a fuser."""
    fuser = None
    with findings.property("is built by cls(config, space, width) and states embed_width"):
        built = subject.build(space=SPACE, width=WIDTH)
        expect(isinstance(built, nn.Module), f"a {type(built).__name__} is not a torch.nn.Module")
        expect(isinstance(built.embed_width, int) and built.embed_width > 0, f"embed_width is {built.embed_width!r}")
        fuser = built.eval()
    if fuser is None:
        return
    rng = generator()
    x = torch.randn(BATCH, POSITIONS, SPACE.latent_dim, generator=rng)
    e = torch.randn(BATCH, POSITIONS, fuser.embed_width, generator=rng)
    c = torch.randn(BATCH, 1, fuser.embed_width, generator=rng)
    stir(fuser)

    shape = (BATCH, POSITIONS, WIDTH)
    with findings.property("fuse: x [B, S, E], e [B, S, De] -> h [B, S, D]"):
        expect_tensor(fuser.fuse(x, e), shape, "h")
    with findings.property("works without input: x = None"):
        expect_tensor(fuser.fuse(None, e), shape, "h")
    with findings.property("works without output: e = None"):
        expect_tensor(fuser.fuse(x, None), shape, "h")
    with findings.property("labels c [B, 1, De] matter at every position, also without x, and without e"):
        for what, given in (("x and e", (x, e)), ("x = None", (None, e)), ("e = None", (x, None))):
            told = fuser.fuse(*given, c)
            expect_tensor(told, shape, f"h of {what} and c")
            moved = (fuser.fuse(*given, _changed(c, 0)) != told).any(-1)
            deaf = [s for s in range(POSITIONS) if not moved[:, s].all()]
            expect(not deaf, f"{what}: h ignores c at {deaf}")
            expect(not torch.equal(told, fuser.fuse(*given)), f"{what}: h with c is h without")
    with findings.property("is frame-local: a position depends on itself alone"):
        for labels in (None, c):
            _check_local(fuser, x, e, labels)
    with findings.property("every parameter gets a gradient, with or without x, e and c"):
        fuser.zero_grad()
        weights = torch.randn(BATCH, POSITIONS, WIDTH, generator=rng)
        cases = ((x, e, c), (x, e, None), (None, e, None), (x, None, None))
        torch.cat([fuser.fuse(*case) * weights for case in cases]).sum().backward()
        expect_gradients(fuser)


def _check_local(fuser: Any, x: Tensor, e: Tensor, c: Tensor | None) -> None:
    middle = POSITIONS // 2
    others = [s for s in range(POSITIONS) if s != middle]
    x2, e2 = _changed(x, middle), _changed(e, middle)
    for what, before, after in (
        ("x", (x, e, c), (x2, e, c)),
        ("e", (x, e, c), (x, e2, c)),
        ("x without e", (x, None, c), (x2, None, c)),
        ("e without x", (None, e, c), (None, e2, c)),
    ):
        h, changed = fuser.fuse(*before), fuser.fuse(*after)
        expect_close(changed[:, others], h[:, others], f"h at other positions after {what} changed at {middle}", 1e-5)
        expect(not torch.equal(changed[:, middle], h[:, middle]), f"h ignores {what}")
    whole = fuser.fuse(x, e, c)
    for s in range(POSITIONS):
        single = fuser.fuse(x[:1, s : s + 1], e[:1, s : s + 1], None if c is None else c[:1])
        expect_close(single, whole[:1, s : s + 1], f"position {s} of the first item alone", 1e-5)


def _changed(value: Tensor, position: int) -> Tensor:
    """Return a copy with other values at one position."""
    value = value.clone()
    value[:, position] = -2.0 * value[:, position] + torch.linspace(-1, 1, value.shape[-1])
    return value


def stir(module: nn.Module) -> None:
    """Perturb every parameter, so that gates initialised at zero have an effect."""
    rng = generator(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))


def expect_gradients(module: nn.Module) -> None:
    """Raise Mismatch, naming them, unless every parameter has a gradient that is not zero."""
    dead = [name for name, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    expect(not dead, f"none for {', '.join(dead)}")
