"""What a fuser promises: shapes, frame-locality, working without context, and no dead parameter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from accomp.core.testing.common import SPACE, WIDTH, Subject, generator
from accomp.core.testing.findings import Findings, expect, expect_close, expect_tensor

BATCH, POSITIONS = 2, 6


def check(subject: Subject, findings: Findings) -> None:
    """All properties of a fuser."""
    fuser = None
    with findings.property("is built by cls(config, space, width) and states embed_width"):
        built = subject.build(space=SPACE, width=WIDTH)
        expect(isinstance(built, nn.Module), f"a {type(built).__name__} is not a torch.nn.Module")
        expect(isinstance(built.embed_width, int) and built.embed_width > 0, f"embed_width is {built.embed_width!r}")
        fuser = built
    if fuser is None:
        return
    rng = generator()
    x = torch.randn(BATCH, POSITIONS, SPACE.latent_dim, generator=rng)
    e = torch.randn(BATCH, POSITIONS, fuser.embed_width, generator=rng)
    stir(fuser)

    with findings.property("fuse: x [B, S, E], e [B, S, De] -> h [B, S, D]"):
        expect_tensor(fuser.fuse(x, e), (BATCH, POSITIONS, WIDTH), "h")
    with findings.property("works without context: x = None"):
        expect_tensor(fuser.fuse(None, e), (BATCH, POSITIONS, WIDTH), "h")
    with findings.property("is frame-local: a position depends on itself alone"):
        middle = POSITIONS // 2
        h = fuser.fuse(x, e)
        for what, changed in (("x", fuser.fuse(_changed(x, middle), e)), ("e", fuser.fuse(x, _changed(e, middle)))):
            others = [s for s in range(POSITIONS) if s != middle]
            expect_close(
                changed[:, others], h[:, others], f"h at other positions after {what} changed at {middle}", 1e-5
            )
            expect(not torch.equal(changed[:, middle], h[:, middle]), f"h ignores {what}")
        for s in range(POSITIONS):
            expect_close(fuser.fuse(x[:, s : s + 1], e[:, s : s + 1]), h[:, s : s + 1], f"position {s} alone", 1e-5)
    with findings.property("every parameter gets a gradient"):
        fuser.zero_grad()
        weights = torch.randn(BATCH, POSITIONS, WIDTH, generator=rng)
        ((fuser.fuse(x, e) + fuser.fuse(None, e)) * weights).sum().backward()
        expect_gradients(fuser)


def _changed(value: Tensor, position: int) -> Tensor:
    """A copy whose values at one position are others."""
    value = value.clone()
    value[:, position] = -2.0 * value[:, position] + torch.linspace(-1, 1, value.shape[-1])
    return value


def stir(module: nn.Module) -> None:
    """Move every parameter off its start, so that gates that begin at zero hide nothing."""
    rng = generator(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))


def expect_gradients(module: nn.Module) -> None:
    """Raises Mismatch, naming them, unless every parameter has a gradient that is not zero."""
    dead = [name for name, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    expect(not dead, f"none for {', '.join(dead)}")
