"""The clock's sentence, over all of (t_f, k, K): what trains is what plays, and no more is heard than may be.

Training is the objective's own forward; playing is a session that knows nothing of it.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Recorder, latents, session_of, small_model, space_with
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.model import Model
from accomp.core.types import Batch
from accomp.plugins.objectives.ar import AR
from accomp.plugins.objectives.prefix import Prefix
from accomp.plugins.samplers.greedy import Greedy

FRAMES = 16
times, chunks, levels = st.integers(-8, 8), st.integers(1, 6), st.integers(1, 8)
lengths = st.integers(9, 20)
bounded = settings(max_examples=15, deadline=None, derandomize=True)
CORNERS = [(-200, 1, 20), (-200, 100, 104), (200, 1, 210), (200, 100, 304)]


def batch_of(x: Tensor, y: Tensor) -> Batch:
    """Clips of the labels that `session_of` gives its sessions."""
    return Batch(x, y, torch.ones(len(x), x.shape[1]).bool(), {"instrument": torch.arange(len(x))})


def logits_of(objective: AR | Prefix, model: Model, batch: Batch) -> list[Tensor]:
    """The logits [B, K, C] of every row that an objective predicts from, out of its own forward."""
    shown = []
    handle = model.heads.register_forward_hook(lambda heads, given, out: shown.append(out))
    try:
        objective.loss(model, batch, model.clock, torch.Generator())
    finally:
        handle.remove()
    (rows,) = shown
    logits = rows.unflatten(-1, (model.space.codebooks, -1))[..., model.vocabulary.first_code :]
    return list(logits.unbind(1))


def trained_on(model: Model, batch: Batch) -> list[Tensor]:
    """Those of the steps 0, 1, ... that the chunked objective trains; none where no chunk fits."""
    if not last_step(model.clock, batch.y.shape[2], model.space.codebooks):
        return []
    return logits_of(Prefix(Prefix.Config("all"), model.space), model, batch)


def last_step(clock: Clock, frames: int, codebooks: int) -> int:
    """Steps that a clip trains: whole chunks, each with its input and with the output before every step."""
    known = frames + (codebooks > 1)
    return max(
        (s + clock.k for s in range(0, known, clock.k) if s + clock.k <= known and s + clock.t_f <= frames), default=0
    )


@bounded
@given(times, chunks, levels, lengths)
def test_no_prediction_depends_on_input_at_or_after_s_plus_t_f_and_each_on_all_before(t_f, k, codebooks, frames):
    model = small_model(t_f, k, space=space_with(codebooks))
    x = latents(frames, batch=1).requires_grad_()
    y = torch.randint(10, (1, codebooks, frames), generator=torch.Generator().manual_seed(2))
    steps = trained_on(model, batch_of(x, y))
    assert len(steps) == last_step(model.clock, frames, codebooks)
    for step, logits in enumerate(steps):
        (gradient,) = torch.autograd.grad(logits.square().sum(), x, retain_graph=True, allow_unused=True)
        heard = [] if gradient is None else gradient[0].abs().sum(-1).nonzero().flatten().tolist()
        assert heard == list(range(max(0, k * (step // k) + t_f))), f"step {step}"


@bounded
@given(times, chunks, levels, lengths, st.booleans(), st.sampled_from([2, 4]), st.lists(st.integers(0, 20), max_size=5))
def test_a_session_s_logits_are_those_that_training_sees_however_its_input_comes(
    t_f, k, codebooks, frames, greedy, kv_heads, cuts
):
    model = small_model(t_f, k, space=space_with(codebooks), kv_heads=kv_heads)
    sampler = Recorder(model, Greedy(Greedy.Config(), model.space) if greedy else None)
    session, x = session_of(model, sampler=sampler), latents(frames)
    codes = [session.pull()]
    for begin, end in pairwise([0, *sorted(min(cut, frames) for cut in cuts), frames]):
        session.push(x[:, begin:end])
        codes.append(session.pull())
        assert sum(part.shape[2] for part in codes) == model.clock.frames_complete(end, codebooks), "each frame once"
    agree(model, sampler, x, torch.cat(codes, dim=2))


def agree(model: Model, sampler: Recorder, x: Tensor, played: Tensor) -> None:
    """What a session was shown at every step is what training on its own codes makes of them."""
    frames, codebooks, k = x.shape[1], model.space.codebooks, model.clock.k
    assert ((played >= 0) & (played < model.space.codebook_size)).all()
    assert len(sampler.logits) == model.clock.frames_ready(frames)
    # the last frames, of which levels are missing, as the session had picked them
    picked = torch.stack([sampler.inner.pick(logits, key) for logits, key in keyed(sampler, codebooks)], dim=2)
    y = torch.zeros(2, codebooks, frames, dtype=torch.int64)
    for q in range(codebooks):
        level = picked[:, q, q:][:, :frames]
        y[:, q, : level.shape[1]] = level
    both = min(frames, played.shape[2])
    assert torch.equal(y[:, :, :both], played[:, :, :both])
    trained = trained_on(model, batch_of(x, y))
    assert len(trained) == last_step(model.clock, frames, codebooks)
    for step, logits in enumerate(trained):
        assert torch.allclose(sampler.logits[step], logits, atol=1e-4), f"step {step} of {len(trained)}, k = {k}"


def keyed(sampler: Recorder, codebooks: int):
    """Every step's logits with the noise of its frames."""
    noise = KeyedRandom.of_sessions(0, torch.arange(2), codebooks)
    for step, logits in enumerate(sampler.logits):
        yield logits, noise.fold(step - torch.arange(codebooks))


@bounded
@given(times, chunks, levels, lengths)
def test_a_session_absorbs_every_row_once_and_every_row_without_input_once(t_f, k, codebooks, frames):
    model, absorbed = small_model(t_f, k, space=space_with(codebooks)), []
    model.backbone.register_forward_pre_hook(lambda backbone, given: absorbed.append(given[0].shape[1]))
    session = session_of(model)
    session.push(latents(frames))
    session.pull()
    rows, steps = frames + model.clock.input_padding, model.clock.frames_ready(frames)
    blanks = -(model.layout.start + 1) % k  # rows before the first, so that all come in groups of k
    assert steps % k == 0
    assert sum(absorbed) == (blanks + rows) // k * k + steps // k * (k - 1)


@pytest.mark.parametrize("greedy", [True, False])
def test_frame_by_frame_a_session_is_what_the_streaming_objective_trains(greedy):
    """The same for `ar`, whose forward is another."""
    for t_f in (-3, 0, 4):
        model = small_model(t_f)
        sampler = Recorder(model, Greedy(Greedy.Config(), model.space) if greedy else None)
        session, x = session_of(model, sampler=sampler), latents(FRAMES)
        session.push(x)
        codes = F.pad(session.pull(), (0, FRAMES))[:, :, :FRAMES]
        logits = logits_of(AR(AR.Config(), model.space), model, batch_of(x, codes))[model.layout.start :]
        complete = min(model.clock.frames_complete(FRAMES, 3), len(logits))
        assert complete >= FRAMES - 3 - abs(t_f)
        for step in range(complete):
            assert torch.allclose(sampler.logits[step], logits[step], atol=1e-4)


@pytest.mark.parametrize(("t_f", "k", "frames"), CORNERS)
def test_the_corners_of_the_standard_grid_play_as_they_train(t_f, k, frames):
    model = small_model(t_f, k)
    sampler = Recorder(model)
    session, x = session_of(model, sampler=sampler, window=frames + 210), latents(frames)
    codes = [session.pull()]
    for piece in x.split(64, dim=1):
        session.push(piece)
        codes.append(session.pull())
    played = torch.cat(codes, dim=2)
    assert played.shape[2] == model.clock.frames_complete(frames, 3)
    agree(model, sampler, x, played)
