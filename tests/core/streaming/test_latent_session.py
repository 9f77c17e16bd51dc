"""Playing with latents: what a session computes is the definition, whatever is cached, however it was cut."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from latents import TOLD, E, euler, model, noise_of, normal, plainly, played, session

from accomp.core.diffusion.denoising import levels
from accomp.core.model.guidance import Guidance
from accomp.core.streaming.batch import SessionBatch
from accomp.core.streaming.latent_session import LatentSession, session_of
from accomp.plugins.samplers.dpmpp import Dpmpp
from accomp.plugins.samplers.ping_pong import PingPong

REGIMES = ("block_causal", "enc_dec")
CLOCKS = [(t_f, 4) for t_f in (-8, -3, 0, 3, 4, 7)] + [(-2, 1), (0, 1), (2, 1), (9, 2)]


def uncached(made, x, blocks: int, n: int, steps: int = 3):
    """Block after block by `plainly`, Euler steps by hand."""
    k, past, t = made.clock.k, normal(len(x), 0, E), levels(steps)
    for number in range(blocks):
        y = noise_of(torch.arange(len(x)), number * k, k, 0).mT
        for a, b in pairwise(t):
            y = y + (b - a) * plainly(made, x, past, y, a, n)
        past = torch.cat([past, y], dim=1)
    return past.mT


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize(("t_f", "k"), CLOCKS)
def test_cached_is_uncached(regime, t_f, k):
    """Far beyond the window; and frames come out just when the clock says."""
    made, frames = model(t_f, k, regime), 9 * k
    x = normal(2, frames + max(0, t_f), E)
    live = session(made, window=3 * k)
    with torch.inference_mode():
        got = played(live, x)
        assert got.shape[2] == made.clock.frames_ready(x.shape[1])
        blocks = min(9, got.shape[2] // k)
        wanted = uncached(made, x, blocks, n=3)
        # Rotary angles are float32, and rows that are encoded anew lie elsewhere.
        torch.testing.assert_close(
            got[:, :, : blocks * k], wanted, atol=1e-9 if regime == "block_causal" else 2e-5, rtol=0
        )


@pytest.mark.parametrize("regime", REGIMES)
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, 9), max_size=9), t_f=st.integers(-6, 6))
def test_any_cut_gives_the_same_latents(regime, cuts, t_f):
    made = model(t_f, 3, regime)
    x = normal(2, sum(cuts) + 7, E)
    assert torch.equal(played(session(made, 9), x), played(session(made, 9), x, [*cuts, 7]))


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("sampler", [euler(), PingPong, Dpmpp])
def test_a_row_of_a_batch_plays_what_it_plays_alone(regime, sampler):
    if isinstance(sampler, type):
        from latents import SPACE

        sampler = sampler(sampler.Config(steps=3), SPACE)
    made = model(-2, 3, regime)
    x = normal(3, 20, E)
    together = played(session(made, 9, 3, sampler), x)
    for row in range(3):
        alone = played(session(made, 9, 1, sampler, sessions=torch.tensor([row])), x[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], atol=1e-6, rtol=0)
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("t_f", [-5, 0, 7])
def test_a_row_begins_anew_and_leaves_the_others(regime, t_f):
    made = model(t_f, 3, regime)
    x, rows = normal(2, 27, E), torch.tensor([False, True])
    live = session(made, 9)
    first = played(live, x[:, :12])
    ahead = live.reset(rows, sessions=torch.tensor([0, 7]), labels={}, seed=0)
    rest = played(live, x[:, 12:], [4, 11])
    undisturbed = played(session(made, 9), x)
    torch.testing.assert_close(torch.cat([first, rest], dim=2)[0], undisturbed[0], atol=1e-6, rtol=0)
    fresh = played(session(made, 9, 1, sessions=torch.tensor([7])), x[1:, 12:])[0]
    got = torch.cat([ahead[1], rest[1]], dim=1)
    got = got[:, ~got.isnan().any(0)]
    torch.testing.assert_close(got, fresh, atol=1e-6, rtol=0)
    assert got.shape[1] == made.clock.frames_ready(15)
    assert ahead[0].isnan().all()


@pytest.mark.parametrize("regime", REGIMES)
def test_memory_is_constant(regime):
    live = session(model(-2, 2, regime), 6, 1)
    size = sum(one.bytes for one in (*live.state.keys, *live.state.values))
    assert played(live, normal(1, 100, E)).isfinite().all()
    assert sum(one.bytes for one in (*live.state.keys, *live.state.values)) == size


def test_positions_may_be_far_out():
    """After a million frames the next block is the same as near the beginning, given the same past."""
    made, x, prompt = model(-2, 2), normal(1, 30, E), normal(1, E, 24).float()
    near, far = (session(made, 6, 1, prompt=prompt) for _ in range(2))
    with torch.inference_mode():
        far.state.position.add_(10**6)
    a, b = played(near, x), played(far, x)
    assert torch.equal(a[:, :, :24], prompt.to(a))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_a_model_hears_what_it_is_told_and_sessions_have_labels_of_their_own():
    made = model(0, 3, conditions=TOLD)
    x = normal(2, 12, E)

    def beat(first, frames):
        import numpy as np

        from accomp.core.music.timelines import KINDS

        return np.full((frames, KINDS["metronome"].width), 0.5, np.float32)

    one = {"labels": {"instrument": torch.tensor([0, 1])}}
    plain = played(session(made, 9, **one), x)
    told = played(session(made, 9, **one, timelines=[{"metronome": beat}, {}]), x)
    assert not torch.allclose(plain[0], told[0])
    assert torch.equal(plain[1], told[1])
    other = played(session(made, 9, labels={"instrument": torch.tensor([2, 1])}), x)
    assert not torch.allclose(plain[0], other[0])
    assert torch.equal(plain[1], other[1])


@pytest.mark.parametrize("regime", REGIMES)
def test_guidance_is_the_arithmetic_on_velocities(regime):
    """By hand: v_u + w (v_c - v_u), the input withheld as zeros, for one block without past."""
    made, k, w = model(0, 4, regime), 4, 2.5
    x = normal(1, 8, E)
    noise = noise_of(torch.arange(1), 0, k, 0).mT
    t = levels(2)
    for plus in (False, True):
        live = session(made, 12, 1, euler(2, plus=plus), Guidance({"context": w}))
        y = noise
        for a, b in pairwise(t):
            given = plainly(made, x, normal(1, 0, E), y, a, 3)
            without = plainly(made, torch.zeros_like(x), normal(1, 0, E), y, a, 3)
            v = without + w * (given - without)
            y = y - a * v + b * without if plus else y + (b - a) * v
        torch.testing.assert_close(played(live, x[:, :0])[:, :, :k], y.mT, atol=1e-6, rtol=0)


def test_guidance_by_one_is_none_and_cfg_plus_plus_by_one_is_not():
    made, x = model(-1, 3), normal(2, 12, E)
    plain = played(session(made, 9), x)
    torch.testing.assert_close(played(session(made, 9, guidance=Guidance({"context": 1.0})), x), plain)
    plus = euler(plus=True)
    assert (played(session(made, 9, sampler=plus, guidance=Guidance({"context": 1.0})), x) - plain).abs().max() > 1e-3
    deaf = played(session(made, 9), torch.zeros_like(x))
    torch.testing.assert_close(played(session(made, 9, sampler=plus, guidance=Guidance({"context": 0.0})), x), deaf)


@pytest.mark.parametrize("regime", REGIMES)
def test_a_prompt_is_what_was_played(regime):
    made, x = model(-1, 3, regime), normal(2, 18, E)
    free = played(session(made, 9), x)
    prompt = free[:, :, :6].float()
    again = played(session(made, 9, prompt=prompt), x)
    torch.testing.assert_close(again, free, atol=1e-5, rtol=0)
    other = played(session(made, 9, prompt=prompt + 1), x)
    torch.testing.assert_close(other[:, :, :6], (prompt + 1).to(other), atol=0, rtol=0)
    assert not torch.allclose(other[:, :, 6:], free[:, :, 6:])
    with pytest.raises(ValueError, match="whole blocks of k = 3 frames; it has 7, 6 or 9 would do"):
        session(made, 9, prompt=normal(2, E, 7))
    for bad, why in ((torch.zeros(2, E, 3).long(), "expected float"), (torch.full((2, E, 3), torch.nan), "NaN")):
        with pytest.raises(ValueError, match=why):
            session(made, 9, prompt=bad)


def test_what_does_not_fit_is_refused():
    made = model(0, 3)
    with pytest.raises(ValueError, match="window of 10 frames is not a whole number of blocks of k = 3"):
        session(made, 10)
    live = session(made, 9)
    with pytest.raises(ValueError, match="expected"):
        live.push(torch.zeros(2, 4, E + 1))
    live.push(torch.zeros(2, 1, E))
    with pytest.raises(ValueError, match="between chunks"):
        live.reset(torch.tensor([True, False]))
    assert isinstance(session_of(made, euler(), sessions=torch.arange(1), labels={}, window=9), LatentSession)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("t_f", [-4, 0, 5])
def test_sessions_come_and_go(regime, t_f):
    made, k = model(t_f, 3, regime), 3
    x = normal(2, 24, E)
    slots = SessionBatch(made, euler(), 2, window=9)
    got = {0: [], 1: []}
    first, ahead = slots.join(session=5)
    got[first].append(ahead)
    for tick in range(8):
        if tick == 3:
            second, ahead = slots.join(session=6)
            got[second].append(ahead)
        heard = {first: x[0, tick * k : tick * k + k]}
        if tick >= 3:
            heard[second] = x[1, (tick - 3) * k : (tick - 3) * k + k]
        for slot, latents in slots.step(heard).items():
            got[slot].append(latents)
    for slot, row, number, frames in ((first, 0, 5, 24), (second, 1, 6, 15)):
        alone = played(session(made, 9, 1, sessions=torch.tensor([number])), x[row : row + 1, :frames])[0]
        torch.testing.assert_close(torch.cat(got[slot], dim=1), alone, atol=1e-6, rtol=0)
    slots.leave(first)
    assert not slots.taken[first]
