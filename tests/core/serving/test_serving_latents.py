"""A model of latents is served as one of codes: alone, and beside others that come and go."""

from __future__ import annotations

import latents
import numpy as np
import pytest
import torch
from serving_small import Client, latent_player, serving, small_player

from accomp.core.compute.devices import number_of
from accomp.core.streaming.audio_session import AudioSession

HOP = 640
SOUND = np.random.default_rng(0).uniform(-0.4, 0.4, 150 * HOP).astype(np.float32)


@pytest.fixture(scope="module")
def player():
    return latent_player()


def alone(player, sound, seed, *, instrument=-1) -> np.ndarray:
    tokens = latents.session(
        player.model, player.window, 1, sampler=player.sampler, sessions=torch.tensor([number_of("stream", 0)]),
        labels={"instrument": torch.tensor([instrument])}, seed=seed,
    )  # fmt: skip
    session = AudioSession(player.tokenizer, tokens)
    session.push(torch.from_numpy(sound)[None])
    return session.pull(ahead=True)[0].numpy()


def test_a_jam_plays_what_a_session_alone_plays(player):
    with serving(players=[("flow", player)]) as jam, Client(jam) as client:
        (model,) = client.hello()["models"]
        assert (model["k_ms"], model["t_f_ms"], model["dials"]) == (100, -200, {})
        assert (model["metronome"], model["chart"]) == (True, False)
        client.say(type="start", seed=3, instrument="Bass", count_in={"bpm": 240, "beats": 4})
        client.send(SOUND[: 10 * HOP])
        end = client.next("playing")["count_in_end"]
        client.feed(SOUND[10 * HOP :])
        while client.frames[-1].place + len(client.frames[-1].samples) < len(SOUND):
            client.next_frame()
        client.say(type="dial", temperature=1.0)
        assert "no temperature" in client.next("problem")["why"]
        client.say(type="stop")
        client.next("ended")
        place, sound = client.played()
    bass = model["instruments"].index("Bass")
    expected = alone(player, SOUND, 3, instrument=bass)
    assert not sound[: end - place].any()
    begin = end - place + 1600
    assert np.allclose(sound[begin:], expected[place:][begin : len(sound)], atol=1e-4)
    assert not np.allclose(expected, alone(player, SOUND, 3), atol=1e-2)


def test_models_of_latents_and_of_codes_are_served_side_by_side(player):
    runs = [("flow", player), ("codes", small_player())]
    with serving(mode="serve", slots=2, players=runs) as many, Client(many) as one, Client(many) as other:
        one.hello()
        other.hello()
        one.say(type="start", model="flow", seed=1)
        for number in range(20):
            one.send(SOUND[number * HOP :][:HOP])
        assert one.next("playing")["budget"]
        other.say(type="start", model="codes", seed=1)
        other.send(SOUND[: 10 * HOP])
        assert other.next("playing")["budget"]
        third = Client(many)
        with third:
            third.hello()
            third.say(type="start", model="flow", seed=2)
            third.send(SOUND[: 12 * HOP])
            third.next("playing")
            third.next_frame()
            third.say(type="stop")
            third.next("ended")
        for client in (one, other):
            client.next_frame()
            client.say(type="stop")
            client.next("ended")
        assert np.concatenate([frame.samples for frame in one.frames]).std() > 1e-3
