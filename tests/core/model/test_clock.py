"""The clock's sentence, counted out frame by frame, and the latency budget by hand."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accomp.core.clock import Clock, LatencyBudget, block_waits
from accomp.core.types import TokenSpace

clocks = st.builds(Clock, st.integers(-12, 12), st.integers(1, 7))
levels = st.integers(1, 6)


def steps_allowed(clock: Clock, n_in: int) -> int:
    """Steps s whose chunk, starting at k * (s // k), needs no input frame that is not among the first n_in."""
    steps = 0
    while clock.k * (steps // clock.k) + clock.t_f <= n_in:
        steps += 1
    return steps


@given(clocks, st.integers(0, 40))
def test_steps_ready_are_those_whose_chunk_sees_only_what_is_there(clock, n_in):
    assert clock.frames_ready(n_in) == steps_allowed(clock, n_in)


@given(clocks, st.integers(0, 40), levels)
def test_a_frame_is_complete_once_its_last_level_is_out(clock, n_in, codebooks):
    steps = steps_allowed(clock, n_in)
    complete = [frame for frame in range(steps) if all(frame + q < steps for q in range(codebooks))]
    assert clock.frames_complete(n_in, codebooks) == len(complete)


@given(clocks, st.integers(0, 40), levels)
def test_inputs_needed_is_the_least_that_completes_as_many_frames(clock, n_out, codebooks):
    needed = clock.inputs_needed(n_out, codebooks)
    assert clock.frames_complete(needed, codebooks) >= n_out
    assert needed == 0 or clock.frames_complete(needed - 1, codebooks) < n_out


@given(clocks)
def test_padding_puts_the_newest_visible_frame_beside_each_step(clock):
    for step in range(5):
        row = step + clock.output_padding
        assert row - clock.input_padding == step + clock.t_f - 1


SPACE = TokenSpace(32000, 640, codebooks=4, codebook_size=1024, latent_dim=8, lookahead=320, delay=960)


def budget(t_f: int = -10, k: int = 1, **times: float) -> LatencyBudget:
    times = {"encode": 0.002, "first": 0.005, "chunk": 0.005, "decode": 0.003, **times}
    return LatencyBudget(Clock(t_f, k), SPACE, **times)


def test_the_budget_adds_up():
    b = budget(input=0.010, output=0.011, jitter=0.009)
    assert b.structural == pytest.approx(0.060 + 0.010 + 0.030)  # 3 frames, 320 samples, 960 samples
    assert b.required == pytest.approx(0.100 + 0.002 + 0.005 + 0.003 + 0.010 + 0.011 + 0.009)
    assert b.available == pytest.approx(0.200)
    assert b.algorithmic == pytest.approx(0.100 - 0.200)
    assert b.load == pytest.approx(0.010 / 0.020)
    assert b.deployable
    assert b.nearest_t_f == -10
    assert b.verdict().startswith(
        "can be played live: t_f = -10 frames leaves 200 ms of the 140 ms needed (7.0 frames)"
    )


def test_a_chunk_has_its_frames_time():
    assert budget(k=50, first=0.1, chunk=0.4).load == pytest.approx(0.4 / 1.0 + 0.005 / 0.020)


@given(st.integers(-60, 20), st.floats(0.0, 0.5))
def test_the_nearest_t_f_is_the_last_that_can_be_played(t_f, jitter):
    nearest = budget(t_f, jitter=jitter).nearest_t_f
    assert nearest is not None
    assert budget(nearest, jitter=jitter).deployable
    assert nearest == t_f or not budget(nearest + 1, jitter=jitter).deployable
    assert budget(t_f, jitter=jitter).deployable == (nearest == t_f)


def test_a_boundary_that_is_met_exactly_counts_as_met():
    assert budget(-6, encode=0.005, first=0.010, decode=0.005).deployable  # 100 ms + 20 ms = 6 frames


def test_the_verdict_says_what_would_do():
    assert budget(0).verdict().endswith("t_f = -6 frames could be")
    overloaded = budget(-100, chunk=0.021)
    assert not overloaded.deployable
    assert overloaded.nearest_t_f is None
    assert "cannot be played live at any t_f" in overloaded.verdict()
    assert "busy 130% of the time" in overloaded.verdict()


@given(st.integers(1, 8), st.floats(0.001, 0.06), st.floats(0.3, 1.0))
@example(6, 0.001, 1 / 3)  # a load that is the limit, but for rounding
def test_where_no_t_f_will_do_the_nearest_k_whose_rows_fit_is_named(k, row, rho):
    def at(size: int) -> LatencyBudget:
        return budget(0, size, first=size * row, chunk=(2 * size - 1) * row, rho=rho)

    possible = [size for size in range(1, k + 1) if (2 * size - 1) * row / (size * 0.020) + 0.005 / 0.020 <= rho - 1e-9]
    nearest = at(k).nearest
    if abs(at(k).load - rho) > 1e-6 and not any(abs(at(size).load - rho) < 1e-6 for size in range(1, k)):
        assert (nearest.k if nearest else None) == max(possible, default=None)
    if nearest:
        assert at(nearest.k).nearest_t_f == nearest.t_f
        if nearest.k < k:
            assert at(k).nearest_t_f is None
            assert at(k).verdict().endswith(f"t_f = {nearest.t_f}, k = {nearest.k} frames could be")


def test_a_limit_below_real_time_is_kept_and_told():
    assert not budget(chunk=0.010, rho=0.7).deployable  # busy 75 % of the time
    assert "busy 75% of the time, of 70% at most" in budget(chunk=0.010, rho=0.7).verdict()
    assert budget(chunk=0.009, rho=0.7).deployable


@given(st.integers(1, 40), st.integers(0, 20), st.integers(0, 20), st.integers(1, 12))
def test_blocks_cost_the_longest_that_a_frame_s_end_and_a_frame_s_beginning_wait_for_theirs(
    block, lookahead, delay, hop
):
    space = TokenSpace(1000, hop, codebooks=1, codebook_size=2, latent_dim=1, lookahead=lookahead, delay=delay)
    ends = [frame * hop + lookahead for frame in range(1, block + 1)]
    begins = [frame * hop - delay + 100 * block for frame in range(block)]
    heard = max(-(-end // block) * block - end for end in ends)
    taken = max(begin - begin // block * block for begin in begins)
    assert block_waits(space, block) == pytest.approx((heard / 1000, taken / 1000))


def test_a_chunk_below_one_frame_is_refused():
    with pytest.raises(ValueError, match="'k' must be >= 1"):
        Clock(0, 0)
