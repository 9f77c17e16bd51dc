"""Slots: sessions come and go, and none of them notices the others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import latents, small_model
from torch import Tensor

from accomp.core.model.guidance import Guidance
from accomp.core.spec.runtime import Runtime
from accomp.core.streaming.batch import SessionBatch
from accomp.core.streaming.buckets import Buckets, powers
from accomp.core.streaming.session import TokenSession
from accomp.plugins.samplers.greedy import Greedy
from accomp.plugins.samplers.top_k import TopK

WINDOW = 12


def alone(model, x: Tensor, *, session: int, seed: int, instrument: int, temperature: float) -> Tensor:
    """What a session plays that has a batch for itself: [K, m]."""
    sampler = TopK(TopK.Config(k=6, temperature=temperature), model.space)
    tokens = TokenSession(
        model,
        sampler,
        sessions=torch.tensor([session]),
        labels={"instrument": torch.tensor([instrument])},
        window=WINDOW,
        seed=seed,
    )
    tokens.push(x[None])
    return tokens.pull()[0]


@settings(max_examples=12, deadline=None)
@given(
    st.integers(-4, 5),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([(), (1,), (1, 2, 3)]),
    st.randoms(use_true_random=False),
)
def test_whoever_comes_and_goes_each_plays_what_it_plays_alone(t_f, k, ear, buckets, random):
    model = small_model(t_f, k, timelines=("metronome", "chart"), heard=1.0) if ear else small_model(t_f, k)
    slots = SessionBatch(model, TopK(TopK.Config(k=6), model.space), 3, window=WINDOW, buckets=buckets)
    playing, done = {}, []
    for tick in range(9):
        for slot in list(playing):
            if random.random() < 0.2:
                slots.leave(slot)
                done.append(playing.pop(slot))
        while len(playing) < 3 and random.random() < 0.6:
            who = {
                "session": random.randrange(5),
                "seed": random.randrange(-3, 3),
                "instrument": random.randrange(-1, 5),
                "temperature": random.choice([0.0, 0.5, 1.3]),
            }
            labels = {"instrument": who["instrument"]}
            slot, ahead = slots.join(
                session=who["session"], seed=who["seed"], labels=labels, temperature=who["temperature"]
            )
            assert slot not in playing
            playing[slot] = (who, [], [ahead])
        x = {slot: latents(k, batch=1, seed=100 * tick + slot)[0] for slot in playing}
        for slot, codes in slots.step(x).items():
            _, heard, played = playing[slot]
            heard.append(x[slot])
            played.append(codes)
    for who, heard, played in [*playing.values(), *done]:
        if heard:
            codes = torch.cat(played, dim=1)
            assert codes.shape[1] == model.clock.frames_complete(k * len(heard), 3)
            assert torch.equal(codes, alone(model, torch.cat(heard), **who))


@pytest.mark.parametrize("cache", [None, "int8"])
def test_the_smallest_bucket_that_holds_all_sessions_is_computed(monkeypatch, cache):
    """And no other row: its cache stays as it was."""
    model = small_model(-1, 2)
    runtime = Runtime(compile="off", cache=cache)
    slots = SessionBatch(
        model, TopK(TopK.Config(k=6), model.space), 5, window=WINDOW, runtime=runtime, buckets=(2, 1, 4)
    )
    sizes: list[int] = []
    use = Buckets.use
    monkeypatch.setattr(Buckets, "use", lambda self, rows: sizes.append(use(self, rows)) or sizes[-1])
    state = slots._tokens.state

    def play(*playing):
        before = state.position.clone(), state.keys[0].data.clone()
        slots.step({slot: latents(2, batch=1)[0] for slot in playing})
        return [row for row in range(5) if not torch.equal(state.keys[0].data[row], before[1][row])]

    slots.join()
    assert (sizes[-1], play(0)) == (1, [0])
    slots.join()
    assert (sizes[-1], play(0, 1)) == (2, [0, 1])
    slots.join()
    assert (sizes[-1], play(0, 1, 2)[:3]) == (4, [0, 1, 2])
    assert 4 not in play(0, 1, 2)
    slots.leave(2)
    play(0, 1)
    assert sizes[-1] == 2
    slots.leave(0)
    play(1)
    assert sizes[-1] == 2, "slot 1 is the second"
    for _ in range(4):
        slots.join()
    play(0, 1, 2, 3, 4)
    assert sizes[-1] == 5


def test_buckets_that_cannot_be_are_refused():
    model = small_model(-1)
    sampler = TopK(TopK.Config(k=6), model.space)
    with pytest.raises(ValueError, match=r"buckets of \[0, 4\] slots in a batch of 3"):
        SessionBatch(model, sampler, 3, window=WINDOW, buckets=(0, 2, 4))
    with pytest.raises(ValueError, match="without guidance"):
        SessionBatch(model, sampler, 3, window=WINDOW, guidance=Guidance({"instrument": 2.0}), buckets=(1,))
    assert (powers(1), powers(6), powers(256)[-2:]) == ((1,), (1, 2, 4, 6), (128, 256))


def test_wrong_calls_say_what_is_wrong():
    model = small_model(-2)
    slots = SessionBatch(model, TopK(TopK.Config(k=6), model.space), 1, window=WINDOW)
    with pytest.raises(ValueError, match=r"unknown labels \['mood'\]; the model takes \['instrument'\]"):
        slots.join(labels={"mood": 1})
    with pytest.raises(ValueError, match=r"classes 0\.\.4"):
        slots.join(labels={"instrument": 5})
    slot, _ = slots.join(labels={"instrument": 4})
    with pytest.raises(ValueError, match="all 1 slots are taken"):
        slots.join()
    with pytest.raises(ValueError, match=r"input came for slots \[\], but taken are \[0\]"):
        slots.step({})
    with pytest.raises(ValueError, match=r"expected \(1, 6\), k frames of latents, for every slot; got {0: \(2, 6\)}"):
        slots.step({slot: torch.zeros(2, 6)})
    slots.leave(slot)
    with pytest.raises(ValueError, match="slot 0 is free"):
        slots.leave(slot)
    with pytest.raises(ValueError, match="the sampler has no temperature"):
        SessionBatch(model, Greedy(Greedy.Config(), model.space), 1, window=WINDOW).join(temperature=0.5)
    with pytest.raises(ValueError, match="0 slots"):
        SessionBatch(model, Greedy(Greedy.Config(), model.space), 0, window=WINDOW)


def test_a_refused_session_takes_no_slot():
    model = small_model(-2)
    slots = SessionBatch(model, TopK(TopK.Config(k=6), model.space), 1, window=WINDOW)
    with pytest.raises(ValueError, match="classes"):
        slots.join(labels={"instrument": 5})
    assert not slots.taken.any()
    slot, ahead = slots.join(labels={"instrument": 1}, seed=3)
    x = latents(6, batch=1)[0]
    played = [ahead, *(slots.step({slot: frame[None]})[slot] for frame in x)]
    expected = alone(model, x, session=0, seed=3, instrument=1, temperature=1.0)
    assert torch.equal(torch.cat(played, dim=1), expected)
