"""Slots with sound: each plays what it plays alone, from the place on that is told, whatever others do or send."""

from __future__ import annotations

import latents
import numpy as np
import pytest
import torch
from fakes import Pulse
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Constant, session_of, small_model, space_with

from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.music.charts import read_chart, source_of
from accomp.core.music.timelines import KINDS, source, steady
from accomp.core.streaming.audio_batch import AudioSessionBatch, clean
from accomp.core.streaming.audio_session import AudioSession
from accomp.core.streaming.followed_timeline import FollowedTimeline
from accomp.core.streaming.session import TokenSession
from accomp.plugins.samplers.greedy import Greedy
from accomp.plugins.samplers.top_k import TopK
from accomp.plugins.tokenizers.dac import Dac

WINDOW = 12


def alone(tokenizer, model, sound: np.ndarray, *, session=0, seed=0, instrument=-1, temperature=1.0, told=None):
    """What an AudioSession plays that has a batch for itself, all that can be had, from its first sample on."""
    tokens = TokenSession(
        model,
        TopK(TopK.Config(k=6, temperature=temperature), model.space),
        sessions=torch.tensor([session]),
        labels={"instrument": torch.tensor([instrument])},
        window=WINDOW,
        seed=seed,
        timelines=[told or {}],
    )
    one = AudioSession(tokenizer, tokens)
    one.push(torch.from_numpy(sound)[None])
    return one.pull(ahead=True)[0].numpy()


def slots_of(tokenizer, model, batch: int) -> AudioSessionBatch:
    return AudioSessionBatch(tokenizer, model, TopK(TopK.Config(k=6), model.space), batch, window=WINDOW)


def noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    return rng.uniform(-1, 1, samples).astype(np.float32)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(-5, 4), st.integers(1, 3), st.sampled_from([0, 3, 8, 11]), st.sampled_from([0, 5, 20]),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_a_row_among_others_plays_what_it_plays_alone(t_f, k, lookahead, delay, random):
    tokenizer = Constant(Constant.Config(lookahead=lookahead, delay=delay))
    model = small_model(t_f, k, space=tokenizer.space)
    slots, rng = slots_of(tokenizer, model, 3), np.random.default_rng(random.randrange(100))
    playing, done = {}, []
    for _ in range(10):
        for slot in list(playing):
            if random.random() < 0.1:
                slots.leave(slot)
                done.append(playing.pop(slot))
        while slots.free and random.random() < 0.5:
            who = {
                "session": random.randrange(5),
                "seed": random.randrange(3),
                "temperature": random.choice([0.0, 1.3]),
            }
            instrument = random.randrange(-1, 5)
            slot = slots.join(**who, labels={"instrument": instrument})
            playing[slot] = ({**who, "instrument": instrument}, [], [])
        heard = {slot: noise(rng, slots.hop) for slot in playing}
        for slot, (place, sound) in slots.step(heard).items():
            playing[slot][2].append((place, sound))
        for slot, sound in heard.items():
            playing[slot][1].append(sound)
    for who, heard, played in [*playing.values(), *done]:
        if not played:
            assert len(heard) <= 4 + max(0, t_f)
            continue
        expected = alone(tokenizer, model, np.concatenate([np.zeros(slots.late, np.float32), *heard]), **who)
        for number, (place, sound) in enumerate(played):
            assert place == played[0][0] + number * slots.hop
            at = place + slots.late
            early = min(
                len(sound), max(0, -at, delay - number * slots.hop)
            )  # no decoder has a past at its first frames
            assert np.allclose(sound[early:], expected[max(0, at + early) : max(0, at + len(sound))], atol=1e-4)
        assert max(0, place + len(sound) + slots.late) == len(expected)


def test_a_row_whose_decoder_has_a_past_settles_to_what_it_plays_alone(tmp_path):
    tokenizer = Dac(Dac.example_config(tmp_path))
    model = small_model(-10, 1, space=tokenizer.space)
    slots, rng = slots_of(tokenizer, model, 3), np.random.default_rng(1)
    slots.join(seed=1, labels={"instrument": 1})
    for _ in range(5):
        slots.step({0: noise(rng, slots.hop)})
    slot = slots.join(seed=7, labels={"instrument": 3}, session=2)
    heard, played = [], []
    for number in range(60):
        if number == 12:
            slots.join(seed=3)
        heard.append(0.3 * noise(rng, slots.hop))
        made = slots.step({0: noise(rng, slots.hop), slot: heard[-1]})
        played.append(made[slot])
    expected = alone(tokenizer, model, np.concatenate(heard), session=2, seed=7, instrument=3)
    first = played[0][0]
    ahead = model.clock.frames_complete(0, slots.space.codebooks)
    assert first == ahead * slots.space.hop - slots.space.delay
    sound = np.concatenate([sound for _, sound in played])
    past = 35 * slots.space.hop  # more than the decoder looks back for
    assert np.allclose(sound[past:], expected[first + past :], atol=1e-4)
    assert expected[first + past :].std() > 1e-3


def test_a_neighbour_that_sends_rubbish_is_not_noticed():
    tokenizer = Constant()
    model = small_model(-3, space=tokenizer.space)

    def played(rubbish: float) -> list[np.ndarray]:
        slots, rng = slots_of(tokenizer, model, 2), np.random.default_rng(0)
        slots.join(seed=1)
        slots.join(seed=2)
        made = [slots.step({0: noise(rng, slots.hop), 1: np.full(slots.hop, rubbish, np.float32)}) for _ in range(9)]
        return [tick[0][1] for tick in made]

    for rubbish in (np.nan, np.inf, -np.inf, 1e30):
        assert np.array_equal(played(0.0), played(rubbish))


def test_what_is_not_sound_becomes_what_a_codec_may_hear():
    given = np.array([np.nan, np.inf, -np.inf, 3, -7, 0.25], np.float32)
    assert clean(given).tolist() == [0, 0, 0, 1, -1, 0.25]


def test_input_that_is_not_there_is_silence():
    tokenizer, model = Constant(), small_model(-3)
    one, other = slots_of(tokenizer, model, 2), slots_of(tokenizer, model, 2)
    for slots in (one, other):
        slots.join(seed=4)
    for _ in range(6):
        silent = other.step({0: np.zeros(other.hop, np.float32)})
        assert np.array_equal(one.step({})[0][1], silent[0][1])


def test_a_dial_is_turned_for_one_session_and_from_the_place_on_that_is_told():
    tokenizer, model = Constant(), small_model(-3)

    def played(at: int | None) -> tuple[list[np.ndarray], list[int]]:
        slots, rng = slots_of(tokenizer, model, 2), np.random.default_rng(0)
        for seed in (1, 2):
            slots.join(seed=seed, temperature=0.0)
        sounds, places = [], []
        for tick in range(30):
            if tick == at:
                places.append(slots.set_temperature(1, 8.0))
            made = slots.step({slot: noise(rng, slots.hop) for slot in (0, 1)})
            sounds.append(np.stack([made[slot][1] for slot in (0, 1)]))
            if tick == at:
                places.append(made[1][0])
        return sounds, places

    (before, _), (after, places) = played(None), played(10)
    assert places[0] == places[1]
    same = [np.array_equal(x[1], y[1]) for x, y in zip(before, after, strict=True)]
    assert all(same[:10])
    assert not all(same[10:])
    assert all(np.array_equal(x[0], y[0]) for x, y in zip(before, after, strict=True))


@pytest.mark.parametrize("lookahead", [0, 11])
def test_metronome_and_chart_are_changed_while_playing(lookahead):
    tokenizer = Constant(Constant.Config(lookahead=lookahead))
    space = tokenizer.space
    model = small_model(-3, space=space, timelines=("metronome", "chart"))
    grids = [steady(120, 4), steady(90, 3, offset=0.1)]
    chart = source_of(read_chart("C | Am | F G"), grids[1], space.frame_rate)
    asked: list[int] = []

    def switched(first: int, frames: int) -> np.ndarray:
        """The one metronome, then the other, for a session alone: by the number of the frame."""
        asked.extend(range(first, first + frames))
        one, other = (source("metronome", grid, space.frame_rate)(first, frames) for grid in grids)
        return np.where((first + np.arange(frames) < turn)[:, None], one, other)

    def withheld(first: int, frames: int) -> np.ndarray:
        return np.where((first + np.arange(frames) < turn)[:, None], 0, chart(first, frames)).astype(np.float32)

    slots, rng = slots_of(tokenizer, model, 2), np.random.default_rng(0)
    slots.join(seed=5, timelines={"metronome": source("metronome", grids[1], space.frame_rate)})
    slot = slots.join(seed=6, timelines={"metronome": source("metronome", grids[0], space.frame_rate)})
    heard, played = [], []
    for tick in range(30):
        if tick == 12:
            turn = slots.slots.complete(slot) + space.codebooks - 1  # the step that comes next
            slots.set_timeline(slot, "chart", chart)
            place = slots.set_timeline(slot, "metronome", source("metronome", grids[1], space.frame_rate))
            assert slots.place_of(slots.slots.complete(slot)) - space.delay == place
        heard.append(noise(rng, slots.hop))
        played.append(slots.step({0: noise(rng, slots.hop), slot: heard[-1]})[slot])
    sound = np.concatenate([np.zeros(slots.late, np.float32), *heard])
    expected = alone(tokenizer, model, sound, seed=6, told={"metronome": switched, "chart": withheld})
    for at, made in played:
        assert np.array_equal(made, expected[at + slots.late : at + slots.late + len(made)])
    assert max(asked) > turn
    assert KINDS["chart"].width == chart(0, 1).shape[1]


def test_who_leaves_is_followed_no_more():
    tokenizer = Constant()
    model = small_model(-3, space=tokenizer.space, timelines=("metronome",))
    slots = slots_of(tokenizer, model, 2)
    slots.join()
    pulse = FollowedTimeline("metronome", Pulse(Pulse.Config(), 400), model.clock, tokenizer.space)
    slot = slots.join(timelines={"metronome": pulse})
    for _ in range(4):
        slots.step({slot: np.full(slots.hop, 0.5, np.float32)})
    slots.leave(slot)
    for _ in range(4):
        assert list(slots.step({})) == [0]
    assert pulse.summary().since is not None


def test_wrong_calls_say_what_is_wrong():
    tokenizer, model = Constant(), small_model(-2)
    with pytest.raises(ValueError, match="the model TokenSpace"):
        slots_of(tokenizer, small_model(-2, space=space_with(2)), 1)
    slots = slots_of(tokenizer, model, 2)
    with pytest.raises(ValueError, match=r"input came for slot 1, which is free"):
        slots.step({1: np.zeros(slots.hop, np.float32)})
    slot = slots.join()
    with pytest.raises(ValueError, match=r"input of shape \(3,\) @ slot 0; expected \(8,\)"):
        slots.step({slot: np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="takes no timeline metronome"):
        slots.set_timeline(slot, "metronome", None)
    with pytest.raises(ValueError, match="takes no timeline chart"):
        slots.join(timelines={"chart": lambda first, frames: np.zeros((frames, 25))})
    with pytest.raises(ValueError, match="slot 1 is free"):
        slots.set_temperature(1, 0.5)
    greedy = AudioSessionBatch(tokenizer, model, Greedy(Greedy.Config(), model.space), 1, window=WINDOW)
    greedy.join()
    with pytest.raises(ValueError, match="the sampler has no temperature"):
        greedy.set_temperature(0, 0.5)
    with pytest.raises(ValueError, match="no control 'temperature'"):
        session_of(model).set_control(0, "temperature", 0.5)


@settings(max_examples=6, deadline=None)
@given(
    st.integers(-7, 4), st.integers(1, 4), st.sampled_from(["block_causal", "enc_dec"]), st.sampled_from([0.0, 2.0]),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_a_row_of_latents_plays_what_it_plays_alone(t_f, k, regime, scale, random):
    model = latents.model(t_f, k, regime, latents.TOLD)
    guidance = Guidance({"context": scale}) if scale else UNGUIDED
    tokenizer, sampler, window = latents.Means(), latents.euler(2), 3 * k
    slots = AudioSessionBatch(tokenizer, model, sampler, 3, window=window, guidance=guidance)
    rng = np.random.default_rng(random.randrange(100))
    playing, done = {}, []
    for _ in range(8):
        for slot in list(playing):
            if random.random() < 0.15:
                slots.leave(slot)
                done.append(playing.pop(slot))
        while slots.free and random.random() < 0.6:
            who = {"session": random.randrange(5), "seed": random.randrange(3)}
            instrument = random.randrange(-1, 3)
            playing[slots.join(**who, labels={"instrument": instrument})] = ({**who, "instrument": instrument}, [], [])
        heard = {slot: noise(rng, slots.hop) for slot in playing}
        for slot, one in slots.step(heard).items():
            playing[slot][2].append(one)
        for slot, sound in heard.items():
            playing[slot][1].append(sound)
    for who, heard, played in [*playing.values(), *done]:
        if not played:
            assert len(heard) <= 2 + max(0, t_f)
            continue
        tokens = latents.session(
            model, window, 1, sampler=sampler, guidance=guidance, sessions=torch.tensor([who["session"]]),
            labels={"instrument": torch.tensor([who["instrument"]])}, seed=who["seed"],
        )  # fmt: skip
        one = AudioSession(tokenizer, tokens)
        one.push(torch.from_numpy(np.concatenate(heard))[None])
        expected = one.pull(ahead=True)[0].numpy()
        first = played[0][0]
        assert [place for place, _ in played] == [first + number * slots.hop for number in range(len(played))]
        sound = np.concatenate([sound for _, sound in played])
        assert np.allclose(sound, expected[first:], atol=1e-5)
        assert np.isfinite(sound).all()
        assert sound.std() > 1e-2
