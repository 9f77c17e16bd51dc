"""The objective of latents: what is seen, what counts, the line to get under, and a toy on which it must show."""

import attrs
import pytest
import torch
from latents import SPACE, TOLD, E, batch, model, normal, plainly

from accomp.core.clock import Clock
from accomp.core.diffusion.block_layout import BlockLayout, Blocks
from accomp.core.diffusion.flow import ContextDrop
from accomp.core.diffusion.process import clean_of, marginal_loss, noise_of, noised, velocity
from accomp.core.errors import CombinationError
from accomp.core.model.conditions import Conditions
from accomp.core.types import Batch, TokenSpace
from accomp.plugins.objectives.rectified_flow import RectifiedFlow

REGIMES = ("block_causal", "enc_dec")
KEEP = ContextDrop(whole=0.0, oldest=0.0)


def flow(**config) -> RectifiedFlow:
    return RectifiedFlow(RectifiedFlow.Config(**config), SPACE)


def given(made, clips: Batch, block: int, t: float, objective=None, forgotten: int = 0):
    """The loss of one block of each clip, and its noise."""
    items, k = len(clips.y), made.clock.k
    noise = normal(items, k, E, seed=9)
    chosen = torch.full((items, 1), block)
    loss = (objective or flow()).loss_of(
        made, clips, chosen, torch.full((items, 1), t, dtype=torch.float64), noise, torch.full((items,), forgotten)
    )
    return loss, noise


def test_the_process_by_hand():
    x, eps = torch.tensor([2.0]), torch.tensor([-1.0])
    assert float(noised(x, eps, 0.25)) == 1.25
    assert float(velocity(x, eps)) == -3.0
    assert float(clean_of(noised(x, eps, 0.25), velocity(x, eps), 0.25)) == 2.0
    assert float(noise_of(noised(x, eps, 0.25), velocity(x, eps), 0.25)) == -1.0


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("t_f", [-8, -3, 0, 3, 4, 7])
def test_training_denoises_what_a_session_denoises(regime, t_f):
    """The loss is that of the definition's velocity, for the last block of a clip: what a session computes there."""
    made, k = model(t_f, 4, regime), 4
    clips = batch(20)
    count = made.layout.blocks(20)
    assert count == min(5, (20 - t_f) // 4 + 1)
    loss, noise = given(made, clips, count - 1, 0.4)
    s = (count - 1) * k
    y = clips.y.mT
    v = plainly(made, clips.x, y[:, :s], noised(y[:, s : s + k], noise, 0.4), 0.4, n=5)
    wanted = (v - (noise - y[:, s : s + k])).square().mean()
    torch.testing.assert_close(loss.total, wanted, atol=1e-9, rtol=0)
    assert float(loss.parts["t_1"]) == pytest.approx(float(wanted))
    assert loss.counts.tolist() == [0, 2 * k, 0, 0]


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("t_f", [-8, -3, 0, 3, 4, 7])
def test_a_block_sees_just_what_the_clock_lets_it(regime, t_f):
    """By gradient: input before s + t_f, output before s, and the newest of each."""
    made, k = model(t_f, 4, regime), 4
    clips = batch(24)
    block = made.layout.blocks(24) - 1
    s = block * k
    x, y = clips.x.requires_grad_(), clips.y.requires_grad_()
    loss, _ = given(made, attrs.evolve(clips, x=x, y=y), block, 0.5)
    loss.total.backward()
    heard = x.grad.abs().sum((0, 2)) > 0
    newest = made.clock.visible(s) - 1
    assert not heard[newest + 1 :].any()
    assert heard[newest]
    seen = y.grad.abs().sum((0, 1)) > 0
    assert seen[s - 1]
    assert not seen[s + k :].any()


@pytest.mark.parametrize("regime", REGIMES)
def test_all_blocks_at_once_are_each_alone(regime):
    made = model(1, 4, regime)
    clips = batch(24)
    count = made.layout.blocks(24)
    blocks = [count - 1] * 3 if regime == "enc_dec" else [0, 2, count - 1]
    noise = normal(2, 3 * 4, E, seed=3)
    t = torch.tensor([[0.1, 0.5, 0.9], [0.9, 0.3, 0.6]]).double()
    none = torch.zeros(2, dtype=torch.int64)
    whole = flow().loss_of(made, clips, torch.tensor([blocks] * 2), t, noise, none)
    alone = [
        flow().loss_of(made, clips, torch.tensor([[b]] * 2), t[:, n : n + 1], noise[:, n * 4 : n * 4 + 4], none).total
        for n, b in enumerate(blocks)
    ]
    torch.testing.assert_close(whole.total, torch.stack(alone).mean(), atol=1e-9, rtol=0)


def test_context_that_is_forgotten_is_a_session_that_begins_there():
    made, k = model(0, 4), 4
    clips = batch(24)
    loss, _ = given(made, clips, 4, 0.5, forgotten=2)
    later = Batch(clips.x, clips.y.clone(), clips.valid, {})
    later.y[:, :, : 2 * k] += 1
    other, _ = given(made, attrs.evolve(later), 4, 0.5, forgotten=2)
    assert torch.equal(loss.total, other.total)
    whole, _ = given(made, clips, 4, 0.5)
    assert not torch.equal(loss.total, whole.total)


@pytest.mark.parametrize("regime", REGIMES)
def test_frames_that_are_not_valid_neither_count_nor_are_seen(regime):
    made = model(0, 4, regime)
    clips = batch(24)
    clips.valid[:, 22:] = False
    clips.valid[1, :5] = False
    other = attrs.evolve(clips, y=torch.where(clips.valid[:, None], clips.y, clips.y + 1))
    for seed in range(3):
        first, second = (
            flow(blocks="all").loss(made, one, made.clock, torch.Generator().manual_seed(seed)).total
            for one in (clips, other)
        )
        torch.testing.assert_close(first, second)


def test_equal_seeds_give_equal_losses_and_noise_levels_are_stratified():
    made = model(0, 4, conditions=TOLD).train()
    labels = {"instrument": torch.tensor([0, 2])}
    clips = batch(24, labels=labels, timelines={"metronome": _beats(24)})
    first, second = (flow().loss(made, clips, made.clock, torch.Generator().manual_seed(4)).total for _ in range(2))
    assert torch.equal(first, second)
    other = flow().loss(made, clips, made.clock, torch.Generator().manual_seed(5)).total
    assert not torch.equal(first, other)
    from accomp.core.diffusion.timesteps import stratified

    u = stratified((4, 8), torch.Generator().manual_seed(0)).flatten()
    assert sorted((u * 32).long().tolist()) == list(range(32))


def _beats(frames: int):
    from accomp.core.music.timelines import KINDS

    return normal(2, frames, KINDS["metronome"].width, seed=8)


@pytest.mark.parametrize("timesteps", ["uniform", "logit_normal", "trunc_logit_normal", "log_snr", "log_snr_uniform"])
@pytest.mark.parametrize("shift", [True, False])
def test_the_line_is_the_loss_of_a_model_that_knows_mean_and_variance(timesteps, shift):
    """Normal latents: the best velocity given x_t is linear in it; its error over many draws is the line."""
    objective = flow(timesteps=timesteps, shift=shift)
    variance = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    from accomp.core.diffusion.timesteps import stratified

    t = objective._levels(stratified((200_000,), rng), 10)[:, None]
    x = variance.sqrt() * torch.randn(200_000, 3, generator=rng).double() + 3.0
    eps = torch.randn(200_000, 3, generator=rng).double()
    x_t = (1 - t) * x + t * eps
    gain = (t - (1 - t) * variance) / ((1 - t) ** 2 * variance + t**2)
    error = (-3.0 + gain * (x_t - (1 - t) * 3.0) - (eps - x)).square().mean(1)
    line = objective.line(variance)
    assert line["loss"] == pytest.approx(float(error.mean()), rel=0.01)
    for q in range(4):
        of = (t[:, 0] * 4).long().clamp(max=3) == q
        if of.sum() > 2000:
            assert line["parts"][f"t_{q}"] == pytest.approx(float(error[of].mean()), rel=0.03)


def test_the_line_of_unit_variance_is_half_of_pi():
    assert flow(shift=False).line(torch.ones(4))["loss"] == pytest.approx(torch.pi / 2, abs=1e-4)
    assert float(marginal_loss(torch.zeros(1), torch.zeros(1))) == 0.0


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize(("t_f", "k"), [(0, 2), (5, 2), (-3, 3), (4, 1), (7, 3)])
def test_who_sees_whom_in_training_is_the_definition(regime, t_f, k):
    layout = BlockLayout(Clock(t_f, k), regime)
    n = 6
    count = layout.blocks(n * k)
    lines = layout.front + count
    assert lines == n, "a clip is a window, whatever the clock"
    chosen = torch.tensor([[count - 1] if regime == "enc_dec" else [0, count - 1]])
    valid = torch.ones(1, lines * k, dtype=torch.bool)
    sight = Blocks(layout, chosen, lines, 3, torch.zeros(1, dtype=torch.int64), valid).sight()
    S = lines * k
    for row in range(S, sight.visible.shape[1]):
        block = int(sight.position[0, row]) // k
        clean = {int(c) // k for c in sight.visible[0, row, :S].nonzero()}
        assert clean == set(range(max(0, block - 2), block)), "as the ring of a session with a window of 3 blocks"
        own = sight.visible[0, row, S:].nonzero().flatten().tolist()
        mine = [r for r in range(len(sight.visible[0]) - S) if r // k == (row - S) // k]
        assert own == mine, "its own block, and no other"
    for row in range(S):
        assert not sight.visible[0, row, S:].any(), "context knows nothing of noise"
        if regime == "block_causal":
            block = row // k
            assert {int(c) // k for c in sight.visible[0, row, :S].nonzero()} == set(
                range(max(0, block - 2), block + 1)
            )


def test_what_it_cannot_train_is_refused():
    codes = TokenSpace(32000, 640, 4, 1024, 64)
    with pytest.raises(CombinationError, match="4 codebooks of codes"):
        RectifiedFlow(RectifiedFlow.Config(), codes)
    made = model(0, 4)
    with pytest.raises(ValueError, match="no block fits in a clip of 3 frames"):
        flow().loss(made, batch(3), made.clock, torch.Generator())
    with pytest.raises(ValueError, match="at least 1 block, or 'all'; got 0"):
        RectifiedFlow.Config(blocks=0)
    lacking = model(0, 4, conditions=TOLD)
    with pytest.raises(ValueError, match="lacks"):
        flow().loss(lacking, batch(8), lacking.clock, torch.Generator())


def toy(rng, items: int, frames: int, delay: int) -> Batch:
    """Targets are the input `delay` frames ago, and some noise of their own."""
    x = torch.randn(items, frames + delay, E, generator=rng)
    y = x[:, :frames] + 0.3 * torch.randn(items, frames, E, generator=rng)
    return Batch(x[:, delay:], y.mT, torch.ones(items, frames, dtype=torch.bool), {})


@pytest.mark.parametrize(("t_f", "hears"), [(-1, True), (-4, False)])
def test_the_toy_that_must_learn(t_f, hears):
    """With t_f > -delay the loss falls under the line, and rises with another clip's input; with less it cannot."""
    delay, k = 3, 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = model(t_f, k, conditions=Conditions()).float().train()
        for weight in made.parameters():
            if weight.ndim > 1:
                torch.nn.init.xavier_uniform_(weight, gain=0.5)
    objective = flow(blocks="all", context_drop=KEEP, shift=False)
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    rng = torch.Generator().manual_seed(1)
    for _ in range(60):
        loss = objective.loss(made, toy(rng, 16, 12, delay), made.clock, rng)
        optimizer.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
    made.eval()
    clips = toy(torch.Generator().manual_seed(2), 64, 12, delay)
    with torch.no_grad():
        own, swapped = (
            float(objective.loss(made, one, made.clock, torch.Generator().manual_seed(3)).total)
            for one in (clips, attrs.evolve(clips, x=clips.x.roll(1, 0)))
        )
    line = objective.line(clips.y.var((0, 2)))["loss"]
    if hears:
        assert own < 0.85 * line
        assert swapped > 1.1 * own
        assert swapped > line
    else:
        assert own > 0.97 * line
        assert swapped == pytest.approx(own, rel=0.05)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("t_f", [-3, 3, 9])
def test_every_weight_takes_part_in_every_loss(regime, t_f):
    """Also those without numbers, which a training on several devices waits for."""
    made = model(t_f, 4, regime, TOLD).train()
    clips = batch(24, labels={"instrument": torch.tensor([0, 2])}, timelines={"metronome": _beats(24)})
    flow().loss(made, clips, made.clock, torch.Generator().manual_seed(0)).total.backward()
    assert not [name for name, weight in made.named_parameters() if weight.grad is None]
