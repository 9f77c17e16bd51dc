"""Sessions that are told of the frames they play: as in training, frame by frame, whoever else plays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Recorder, latents, session_of, small_model, space_with
from test_session import FRAMES, generate

from accomp.core.model.guidance import Guidance
from accomp.core.music.timelines import KINDS

WIDTH = KINDS["metronome"].width


def table(seed: int, frames: int = 200) -> torch.Tensor:
    """What a session is told of frames 0, 1, ... [n, N]."""
    return torch.randn(frames, WIDTH, generator=torch.Generator().manual_seed(seed))


def told(seed: int, asked: list[int] | None = None):
    numbers = table(seed).numpy()

    def source(first: int, frames: int) -> np.ndarray:
        assert first >= 0
        if asked is not None:
            asked.extend(range(first, first + frames))
        return numbers[first : first + frames]

    return {"metronome": source}


def model_of(t_f: int = 0, k: int = 1, levels: int = 3):
    return small_model(t_f, k, space=space_with(levels), timelines=("metronome",))


@settings(max_examples=10, deadline=None)
@given(st.integers(-6, 6), st.integers(1, 4))
def test_a_row_is_told_of_its_frame_as_in_training(t_f, levels):
    model = model_of(t_f, levels=levels)
    recorder = Recorder(model)
    codes = generate(session_of(model, sampler=recorder, timelines=[told(5), told(6)]), latents(FRAMES), [])
    padded = torch.nn.functional.pad(codes, (0, FRAMES))[:, :, :FRAMES]
    values = torch.stack([table(5), table(6)])[:, :FRAMES]
    labels = {"instrument": torch.tensor([0, 1])}
    logits = model(latents(FRAMES), model.layout.inputs_of(padded), labels, {"metronome": values})
    logits = logits[:, :, model.layout.start :, model.vocabulary.first_code :]
    compared = min(codes.shape[2], logits.shape[2], len(recorder.logits), FRAMES)
    assert compared >= FRAMES - abs(t_f) - levels
    for step in range(compared):
        assert torch.allclose(recorder.logits[step], logits[:, :, step], atol=1e-5)


@settings(max_examples=12, deadline=None)
@given(st.integers(-5, 5), st.integers(1, 4), st.lists(st.integers(0, FRAMES), max_size=5))
def test_the_same_tokens_however_the_input_was_cut(t_f, k, cuts):
    model = model_of(t_f, k)
    whole, cut = (
        generate(session_of(model, timelines=[told(1), told(2)]), latents(FRAMES), where) for where in ([], cuts)
    )
    assert torch.equal(whole, cut)


@pytest.mark.parametrize(("t_f", "k"), [(-3, 1), (2, 1), (-4, 2), (0, 4)])
def test_what_is_told_of_a_frame_changes_nothing_before_it_and_something_from_it_on(t_f, k):
    model = model_of(t_f, k)
    changed = 8
    other = table(1).clone()
    other[changed:] += 3.0
    before = generate(session_of(model, 1, timelines=[told(1)]), latents(FRAMES, 1), [])
    later = {"metronome": lambda first, n: other.numpy()[first : first + n]}
    after = generate(session_of(model, 1, timelines=[later]), latents(FRAMES, 1), [])
    assert torch.equal(before[:, 0, :changed], after[:, 0, :changed])
    assert not torch.equal(before[:, 0, changed:], after[:, 0, changed:])


@pytest.mark.parametrize(("t_f", "k"), [(-3, 1), (-4, 2), (1, 1)])
def test_a_session_that_joins_later_is_told_from_its_own_beginning(t_f, k):
    model = model_of(t_f, k)
    x = latents(3 * FRAMES, 2)
    alone = generate(session_of(model, [7], timelines=[told(9)]), x[1:, FRAMES:], [])
    session = session_of(model, [0, 1], timelines=[told(1), told(2)])
    steady = generate(session_of(model, [0, 1], timelines=[told(1), told(2)]), x, [])
    codes = [session.pull()]
    session.push(x[:, :FRAMES])
    codes.append(session.pull())
    ahead = session.reset(
        torch.tensor([False, True]),
        sessions=torch.tensor([0, 7]),
        labels={"instrument": torch.tensor([0, 7 % 5])},
        timelines=[told(1), told(9)],
    )
    session.push(x[:, FRAMES:])
    joined = session.pull()
    assert torch.equal(torch.cat([*codes, joined], dim=2)[0], steady[0])
    heard = torch.cat([ahead[1], joined[1]], dim=1)
    heard = heard[:, (heard >= 0).all(0)]
    n = min(heard.shape[1], alone.shape[2])
    assert n > FRAMES
    assert torch.equal(heard[:, :n], alone[0, :, :n])


def test_a_new_session_is_not_told_what_the_one_before_was_and_the_same_again_is():
    model = model_of(-2)
    x, rows, labels = latents(FRAMES, 1), torch.tensor([True]), {"instrument": torch.tensor([0])}
    for again, timelines in ((None, told(1)), (torch.tensor([0]), {})):
        session = session_of(model, 1, timelines=[told(1)])
        session.push(x)
        session.pull()
        ahead = session.reset(rows, sessions=again, labels=labels)
        session.push(x)
        heard = torch.cat([ahead, session.pull()], dim=2)
        assert torch.equal(heard, generate(session_of(model, 1, timelines=[timelines]), x, []))


def test_what_is_told_may_change_while_playing_and_lands_on_the_frame():
    model = model_of(-2, 1)
    x = latents(FRAMES, 1)
    session = session_of(model, 1, timelines=[told(1)])
    first = session.pull()
    session.push(x[:, :5])
    codes = [first, session.pull()]
    at = sum(part.shape[2] for part in codes) + model.space.codebooks - 1  # the steps that were drawn
    session.set_timeline(0, "metronome", told(2)["metronome"])
    session.push(x[:, 5:])
    codes.append(session.pull())
    spliced = torch.cat([table(1)[:at], table(2)[at:]]).numpy()
    want = session_of(model, 1, timelines=[{"metronome": lambda first, n: spliced[first : first + n]}])
    assert torch.equal(torch.cat(codes, dim=2), generate(want, x, []))
    session.set_timeline(0, "metronome", None)


def test_each_frame_is_asked_for_and_no_row_before_the_beginning():
    asked: list[int] = []
    generate(session_of(model_of(3, 2), 1, timelines=[told(1, asked)]), latents(FRAMES, 1), [])
    assert sorted(set(asked)) == list(range(max(asked) + 1))


def test_guidance_compares_with_a_session_that_is_told_nothing():
    model = model_of(-1)
    x = latents(FRAMES, 1)
    plain, guided, silent = (
        generate(session_of(model, 1, guidance=guidance, timelines=[timelines]), x, [])
        for guidance, timelines in (
            (Guidance(), told(1)),
            (Guidance({"metronome": 3.0}), told(1)),
            (Guidance({"metronome": 0.0}), told(1)),
        )
    )
    assert not torch.equal(plain, guided)
    assert torch.equal(silent, generate(session_of(model, 1), x, []))


def test_what_does_not_fit_is_named():
    model = model_of()
    with pytest.raises(ValueError, match="the model takes no timeline chart; it takes metronome"):
        session_of(model, 1, timelines=[{"chart": lambda first, n: np.zeros((n, 25))}])
    with pytest.raises(ValueError, match="timelines of 1 sessions; these are 2"):
        session_of(model, 2, timelines=[told(1)])
    session = session_of(small_model(), 1)
    with pytest.raises(ValueError, match="the model takes no timeline metronome; it takes none"):
        session.set_timeline(0, "metronome", None)
