"""The layout: a whole clip and one row after the other are the same, and both are what the table in its text says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference_fixtures import fixture

from accomp.core.clock import Clock
from accomp.core.model.sequence import DelayPattern
from accomp.core.model.tokens import CONDITION, PADDING

layouts = st.builds(DelayPattern, st.builds(Clock, st.integers(-8, 8)), st.integers(1, 6))
lengths = st.integers(1, 20)


def codes(layout: DelayPattern, frames: int) -> torch.Tensor:
    """y[b, q, t] = 1000 b + 100 q + t: every code tells where it comes from."""
    b, q, t = torch.arange(2)[:, None, None], torch.arange(layout.codebooks)[:, None], torch.arange(frames)
    return 1000 * b + 100 * q + t


@given(layouts, lengths)
def test_each_row_holds_level_q_of_frame_s_minus_1_minus_q(layout, frames):
    y = codes(layout, frames)
    held = layout.inputs_of(y)
    for row in range(layout.rows(frames)):
        step = row - layout.start
        for q in range(layout.codebooks):
            frame = step - 1 - q
            before = PADDING if step < 0 else CONDITION
            assert held[:, q, row].tolist() == ([before] * 2 if frame < 0 else y[:, q, frame].tolist())


@given(layouts, lengths)
def test_each_row_predicts_level_q_of_frame_s_minus_q(layout, frames):
    y = codes(layout, frames)
    targets = layout.targets_of(y)
    for row in range(layout.rows(frames)):
        for q in range(layout.codebooks):
            frame = row - layout.start - q
            nothing = [CONDITION if frame < 0 else PADDING] * 2
            assert targets[:, q, row].tolist() == (y[:, q, frame].tolist() if 0 <= frame < frames else nothing)


@given(layouts, lengths)
def test_row_after_row_holds_what_the_whole_clip_does(layout, frames):
    y = codes(layout, frames)
    out = torch.full((2, layout.codebooks), CONDITION)
    rows = []
    for row in range(layout.rows(frames)):
        step = torch.tensor([row, row]) - layout.start
        rows.append(layout.tokens_in(step[:, None], out))
        frame = layout.frame(step)
        teacher = y.gather(2, frame.clamp(0, frames - 1)[..., None])[..., 0]
        out = torch.where((frame >= 0) & (frame < frames), teacher, CONDITION)
    assert torch.equal(torch.stack(rows, dim=2), layout.inputs_of(y))


@given(layouts, lengths)
def test_every_row_of_a_clip_has_its_input_and_one_more_would_not(layout, frames):
    clock, rows = layout.clock, layout.rows(frames)
    x = torch.arange(frames).float()[None, :, None]
    padding = -torch.arange(clock.input_padding, 0, -1).float()[:, None]
    newest = [row - layout.start + clock.t_f - 1 for row in range(rows)]
    assert layout.inputs(x, padding)[0, :, 0].tolist() == newest
    last_step = rows - 1 - layout.start
    assert newest[-1] == frames - 1 or last_step == frames, "the next row would need input or output beyond the clip"


@given(layouts, st.integers(0, 12))
def test_align_undoes_the_delay(layout, more):
    steps = layout.codebooks + more
    y = codes(layout, steps)
    put_out = torch.stack(
        [torch.stack([y[:, q, max(s - q, 0)] for q in range(layout.codebooks)], dim=1) for s in range(steps)], dim=2
    )
    assert torch.equal(layout.undelay(put_out), y[:, :, : more + 1])


def test_the_delay_pattern_is_the_reference_codes():
    arrays = fixture("delay_pattern.npz")
    y = torch.from_numpy(arrays["codes"])
    held = DelayPattern(Clock(0), y.shape[1]).inputs_of(y)
    assert np.array_equal(torch.where(held < 0, 999, held).numpy(), arrays["seq_valid"])


def test_codes_that_are_not_there_stay_out():
    layout = DelayPattern(Clock(0), 2)
    y = torch.tensor([[[3, PADDING], [4, PADDING]]])
    assert layout.inputs_of(y).tolist() == [[[CONDITION, 3, PADDING], [CONDITION, CONDITION, 4]]]
    assert layout.targets_of(y).tolist() == [[[3, PADDING, PADDING], [CONDITION, 4, PADDING]]]


def test_the_table_in_the_text():
    y = torch.arange(10)[None, None].expand(1, 3, 10)
    held = DelayPattern(Clock(3), 3).inputs_of(y)[0, :, :6].tolist()
    B, A = PADDING, CONDITION
    assert held == [[B, B, A, 0, 1, 2], [B, B, A, A, 0, 1], [B, B, A, A, A, 0]]
    assert DelayPattern(Clock(0), 3).inputs_of(y)[0, :, :4].tolist() == [[A, 0, 1, 2], [A, A, 0, 1], [A, A, A, 0]]


@pytest.mark.parametrize("t_f", [-3, 0, 4])
def test_no_input_but_the_visible_is_fused(t_f):
    layout = DelayPattern(Clock(t_f), 1)
    inputs = layout.inputs(torch.arange(12.0)[None, :, None], torch.full((layout.clock.input_padding, 1), -1.0))
    for step in range(layout.rows(12) - layout.start):
        seen = inputs[0, : step + layout.start + 1, 0]
        assert seen.max() < max(0, step + t_f), "step s sees input frames [0, s + t_f)"
