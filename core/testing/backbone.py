"""Checks of backbones: causality, attention masks, and equality of cached and full computation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from accomp.core.errors import UserError
from accomp.core.testing.common import SPACE, WIDTH, PluginUnderTest, generator
from accomp.core.testing.fuser import expect_gradients, stir
from accomp.core.testing.results import Findings, expect, expect_close, expect_tensor
from accomp.core.types import AttentionPattern

BATCH, POSITIONS = 3, 12
WINDOW, CHUNK = 2, 3


def check(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of a backbone."""
    backbone = None
    with findings.property("is built by cls(config, space, width)"):
        built = subject.build(space=SPACE, width=WIDTH)
        expect(isinstance(built, nn.Module), f"a {type(built).__name__} is not a torch.nn.Module")
        backbone = built.eval()
    if backbone is None:
        return
    stir(backbone)
    h = torch.randn(BATCH, POSITIONS, WIDTH, generator=generator())
    _check_whole(backbone, h, findings)
    _check_sight(backbone, h, findings)
    with torch.no_grad():
        _check_state(backbone, h, findings)
        _check_ring(backbone, findings)


def _check_whole(backbone: nn.Module, h: Tensor, findings: Findings) -> None:
    with findings.property("forward: h [B, S, D] -> [B, S, D]"):
        expect_tensor(backbone(h), tuple(h.shape), "the output")
    with findings.property("is causal by gradient, and hears the past"):
        middle = POSITIONS // 2
        seen = _gradient(backbone, h, middle, causal=True).sum(0)
        later = [s for s in range(middle + 1, POSITIONS) if seen[s] > 0]
        expect(not later, f"output {middle} has a gradient from inputs {later}")
        deaf = [s for s in range(middle + 1) if seen[s] == 0]
        expect(not deaf, f"output {middle} has no gradient from inputs {deaf}")
    with findings.property("causal=False: every position sees every other (or is refused with a UserError)"):
        try:
            seen = _gradient(backbone, h, 0, causal=False).sum(0)
        except UserError:
            seen = torch.ones(POSITIONS)
        expect(
            (seen > 0).all(), f"output 0 has no gradient from inputs {[s for s in range(POSITIONS) if seen[s] == 0]}"
        )
    with findings.property("every parameter gets a gradient"):
        backbone.zero_grad()
        (backbone(h) * torch.randn(h.shape, generator=generator(2))).sum().backward()
        expect_gradients(backbone)
        backbone.zero_grad()


def _check_sight(backbone: nn.Module, h: Tensor, findings: Findings) -> None:
    line = torch.arange(POSITIONS)
    refused = False
    with findings.property("a sight that spells causal, or whole, is causal=True, or False (or refused: a UserError)"):
        for causal, visible in ((True, line[:, None] >= line), (False, torch.ones(POSITIONS, POSITIONS).bool())):
            for items in (1, BATCH):
                sight = AttentionPattern(line.expand(items, -1), visible.expand(items, -1, -1))
                try:
                    seen, wanted = backbone(h, sight=sight), backbone(h, causal=causal)
                except UserError:
                    refused |= causal
                    continue
                expect_close(seen, wanted, f"a sight that spells causal={causal}, for {items} items")
    if refused:
        return
    rng = generator(5)
    # Each item has positions and a mask of its own; a row attends to itself and about one more.
    position = torch.stack([torch.randperm(2 * POSITIONS, generator=rng)[:POSITIONS] for _ in range(BATCH)])
    visible = torch.rand(BATCH, POSITIONS, POSITIONS, generator=rng) < 1 / POSITIONS
    sight = AttentionPattern(position, visible | torch.eye(POSITIONS).bool())
    with findings.property("a row depends on the rows that it sees and on what those see, and on no other"):
        reach = sight.visible
        for _ in range(POSITIONS):
            reach = (reach.float() @ reach.float()) > 0
        for row in range(POSITIONS):
            seen = _gradient(backbone, h, row, sight=sight) > 0
            for item in range(BATCH):
                deaf = (sight.visible[item, row] & ~seen[item]).nonzero().flatten().tolist()
                expect(not deaf, f"output {row} of item {item} has no gradient from inputs {deaf}, which it sees")
                beyond = (seen[item] & ~reach[item, row]).nonzero().flatten().tolist()
                expect(not beyond, f"output {row} of item {item} has a gradient from inputs {beyond}, out of its sight")
    with findings.property("rows in another order, under a sight in that order, are the same rows: places are its own"):
        order = torch.randperm(POSITIONS, generator=rng)
        moved = AttentionPattern(sight.position[:, order], sight.visible[:, order][:, :, order])
        expect_close(backbone(h[:, order], sight=moved), backbone(h, sight=sight)[:, order], "the rows, moved")


def _check_state(backbone: Any, h: Tensor, findings: Findings) -> None:
    with findings.property("stepwise equals full, and the state counts positions"):
        state = backbone.new_state(BATCH, POSITIONS)
        expect_tensor(state.position, (BATCH,), "state.position", torch.int64)
        steps = _feed(backbone, state, h, [1] * POSITIONS)
        expect_close(steps, backbone(h), "one position a call against one call")
        expect((state.position == POSITIONS).all(), f"state.position is {state.position.tolist()} after {POSITIONS}")
    with findings.property("several positions a call equal one position a call"):
        state = backbone.new_state(BATCH, POSITIONS, chunk=CHUNK)
        expect_close(
            _feed(backbone, state, h, [CHUNK, 1, 2, CHUNK, CHUNK]), backbone(h), "calls of 3, 1, 2, 3, 3 positions"
        )
    with findings.property("rollback and replay equal never having gone ahead"):
        state = backbone.new_state(BATCH, POSITIONS, chunk=CHUNK)
        start = POSITIONS - CHUNK
        _feed(backbone, state, h[:, :start], [CHUNK] * (start // CHUNK))
        _feed(backbone, state, torch.flip(h, [0, 1])[:, :CHUNK], [CHUNK])
        state.rollback(torch.full((BATCH,), start))
        expect(
            (state.position == start).all(), f"state.position is {state.position.tolist()} after rollback to {start}"
        )
        expect_close(
            _feed(backbone, state, h[:, start:], [1] * CHUNK), backbone(h)[:, start:], "after rollback and replay"
        )
    with findings.property("each row may be rolled back to a position of its own"):
        state = backbone.new_state(BATCH, POSITIONS, chunk=CHUNK)
        start, rows = POSITIONS - CHUNK, torch.arange(BATCH)
        kept = start + rows % CHUNK
        astray = torch.where((torch.arange(POSITIONS) < kept[:, None])[..., None], h, torch.flip(h, [0, 1]))
        _feed(backbone, state, astray, [CHUNK] * (POSITIONS // CHUNK))
        state.rollback(kept)
        expect(state.position.tolist() == kept.tolist(), f"state.position is {state.position.tolist()}")
        step = backbone(h[rows, kept][:, None], state=state)[:, 0]
        expect_close(step, backbone(h)[rows, kept], f"one position after rollback to {kept.tolist()}")
    with findings.property("what lies before the beginning, below position 0, is seen by nothing"):
        state = backbone.new_state(BATCH, POSITIONS, chunk=CHUNK)
        state.rollback(torch.full((BATCH,), 1 - CHUNK))
        whole = _feed(
            backbone,
            state,
            torch.cat([torch.flip(h, [0, 1])[:, : CHUNK - 1], h], dim=1),
            [CHUNK] + [1] * (POSITIONS - 1),
        )
        expect(bool(whole.isfinite().all()), "the outputs of the positions before the beginning are not finite")
        expect_close(whole[:, CHUNK - 1 :], backbone(h), "a session with two positions before its beginning")
    promise = "with a state and causal=False the rows of a call see what its last row sees (or refused: a UserError)"
    with findings.property(promise):
        line = torch.arange(POSITIONS) // CHUNK
        two = AttentionPattern(
            torch.arange(POSITIONS)[None], ((line <= line[:, None]) & (line > line[:, None] - 2))[None]
        )
        state = backbone.new_state(BATCH, 2 * CHUNK, chunk=CHUNK)
        try:
            seen = []
            for part in h.split(CHUNK, dim=1):
                backbone(part.flip(0, 1), causal=False, state=state)
                state.rollback(state.position - CHUNK)
                seen.append(backbone(part, causal=False, state=state))
            expect_close(torch.cat(seen, dim=1), backbone(h, sight=two), "blocks that see themselves and one before")
        except UserError:
            pass
    with findings.property("reset of one row leaves the others, and starts that row anew"):
        state = backbone.new_state(BATCH, POSITIONS)
        half = POSITIONS // 2
        _feed(backbone, state, h[:, :half], [1] * half)
        state.reset(torch.tensor([False, True, False]))
        expect(state.position.tolist() == [half, 0, half], f"state.position is {state.position.tolist()}")
        rest = _feed(backbone, state, h[:, half:], [1] * half)
        expect_close(rest[[0, 2]], backbone(h)[[0, 2], half:], "the rows that were not reset")
        expect_close(rest[1], backbone(h[1:2, half:])[0], "the row that was reset")


def _check_ring(backbone: Any, findings: Findings) -> None:
    long = torch.randn(BATCH, 20 * WINDOW, WIDTH, generator=generator(3))
    length = long.shape[1]
    single = None
    with findings.property("memory is constant however long a session lasts"):
        state = backbone.new_state(BATCH, WINDOW)
        before = _numbers(state)
        single = _feed(backbone, state, long, [1] * length)
        expect(before > 0 and _numbers(state) == before, f"the state grew from {before} to {_numbers(state)} numbers")
        expect_tensor(single, tuple(long.shape), "the output of a long session")
    if single is None:
        return
    with findings.property("beyond the window the past is forgotten, but for pinned positions"):
        other = long.clone()
        other[:, 0] += 1.0
        forgotten = _feed(backbone, backbone.new_state(BATCH, WINDOW), other, [1] * length)
        expect_close(forgotten[:, -1], single[:, -1], "the last output after position 0 changed", 1e-5)
        for place in (0, CHUNK):
            other = long.clone()
            other[:, place] += 1.0
            kept, moved = (
                _feed(backbone, backbone.new_state(BATCH, WINDOW, pinned=range(place, place + 1)), h, [1] * length)
                for h in (long, other)
            )
            heard = not torch.allclose(kept[:, -1], moved[:, -1], atol=1e-6)
            expect(heard, f"the last output does not depend on the pinned position {place}")
    with findings.property("several positions a call equal one a call beyond the window, with rollback"):
        calls = [CHUNK] * (length // CHUNK)
        state = backbone.new_state(BATCH, WINDOW, chunk=CHUNK)
        covered = sum(calls)
        expect_close(_feed(backbone, state, long[:, :covered], calls), single[:, :covered], "calls of 3 positions")
        state.rollback(torch.full((BATCH,), covered - CHUNK))
        again = _feed(backbone, state, long[:, covered - CHUNK : covered], [CHUNK])
        expect_close(again, single[:, covered - CHUNK : covered], "the last call again, after rollback")


def _gradient(backbone: nn.Module, h: Tensor, position: int, **how: Any) -> Tensor:
    """Compute |d output[position] / d input[s]| summed over features, for each item and s: [B, S]."""
    h = h.clone().requires_grad_()
    out = backbone(h, **how)
    (out[:, position] * torch.randn(out[:, position].shape, generator=generator(4))).sum().backward()
    return h.grad.abs().sum(2) if h.grad is not None else torch.zeros(h.shape[:2])


def _feed(backbone: nn.Module, state: Any, h: Tensor, calls: list[int]) -> Tensor:
    """Concatenate the outputs of consecutive calls of those numbers of positions."""
    return torch.cat([backbone(part, state=state) for part in h.split(calls, dim=1)], dim=1)


def _numbers(state: Any) -> int:
    """Count the elements of the tensors in a state."""
    seen: set[int] = set()

    def count(value: Any) -> int:
        if id(value) in seen:
            return 0
        seen.add(id(value))
        if isinstance(value, Tensor):
            return value.numel()
        if isinstance(value, dict):
            return sum(map(count, value.values()))
        if isinstance(value, list | tuple):
            return sum(map(count, value))
        slots = (getattr(value, name, None) for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ()))
        return sum(map(count, slots)) + (
            count(vars(value)) if hasattr(value, "__dict__") and not callable(value) else 0
        )

    return count(state)
