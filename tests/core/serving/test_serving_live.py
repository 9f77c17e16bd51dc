"""A server and a client over a real socket: what is played is what a session alone would play, in its place."""

from __future__ import annotations

import numpy as np
import torch
from serving_small import Client, serving, small_player

from accomp.core.compute.devices import number_of
from accomp.core.streaming.audio_session import AudioSession
from accomp.core.streaming.session import TokenSession


def alone(player, sound: np.ndarray, seed: int, temperature: float = 0.9) -> np.ndarray:
    tokens = TokenSession(
        player.model, player.sampler, sessions=torch.tensor([number_of("stream", 0)]),
        labels={"instrument": torch.tensor([4])}, window=player.window, seed=seed,
    )  # fmt: skip
    session = AudioSession(player.tokenizer, tokens)
    session.push(torch.from_numpy(sound)[None])
    return session.pull(ahead=True)[0].numpy()


def test_what_is_played_is_what_a_session_alone_plays_and_lies_in_its_place():
    player = small_player(timelines=("metronome", "chart"))
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 640 * 60).astype(np.float32)
    with serving(players=[("small", player)]) as running, Client(running) as client:
        welcome = client.hello()
        assert welcome["type"] == "welcome"
        assert welcome["models"][0]["name"] == "small"
        client.place = 12_800
        client.say(type="start", instrument="Bass", seed=5, temperature=0.9)
        client.send(sound[: 640 * 10])
        playing = client.next("playing")
        client.feed(sound[640 * 10 :])
        while not client.frames or client.frames[-1].place < client.place:
            client.next_frame()
        client.say(type="stop")
        ended = client.next("ended")
        assert ended["why"] == "stopped"
        place, played = client.played()
    assert place == playing["place"]
    expected = alone(player, sound, 5)[place - 12_800 :][: len(played)]
    assert np.abs(played[1600:] - expected[1600:]).max() < 1e-5
