"""`accomp jam --device`: sound through a device of the server's machine, here one that a test turns by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from serving_small import TOKEN, Client, serving, small_player
from test_serving_doors import closed, fetch
from turned_device import BLOCK, RATE, Turned, audio_at, noise, turning

from accomp.core.compute.devices import number_of
from accomp.core.serving.machine.audio import click_sound
from accomp.core.serving.machine.placed_output import PlacedOutput, PlacedSamples
from accomp.core.serving.playing.calibration import probe
from accomp.core.serving.protocol.frames import DISCONTINUITY, Frame
from accomp.core.streaming.audio_session import AudioSession
from accomp.core.streaming.session import TokenSession


def test_the_ring_gives_a_sample_at_its_place_or_not_at_all():
    ring, out = PlacedSamples(16), np.zeros(8, np.float32)
    ring.write(4, np.arange(4, 10, dtype=np.float32))
    assert ring.read(0, out) == 0
    assert ring.read(4, out) == 6
    assert out[:6].tolist() == [4, 5, 6, 7, 8, 9]
    ring.write(12, np.arange(12, 40, dtype=np.float32))  # more than it holds: the last ones
    assert ring.read(24, out) == 8
    assert out.tolist() == list(range(24, 32))
    assert ring.read(4, out) == 0
    ring.clear()
    assert ring.read(24, out) == 0


def test_output_is_played_first_samples_before_its_input_and_what_is_missing_is_counted():
    device = Turned()
    audio = audio_at(device)
    heard: list[Frame] = []
    device.turn(noise(3 * BLOCK))
    audio.begin(heard.append, chunk=640, first=640 / RATE)
    x = noise(4 * BLOCK, 1)
    assert not device.turn(x).any()
    assert np.array_equal(np.concatenate([frame.samples for frame in heard]), x)
    assert [frame.place for frame in heard] == [3 * BLOCK + n * BLOCK for n in range(4)]
    assert [frame.flags for frame in heard] == [DISCONTINUITY, 0, 0, 0]
    audio.expect(11 * BLOCK)  # at device time 9 * BLOCK, `first` before its input
    sound = noise(8 * BLOCK, 2)
    audio.take(Frame(1, 11 * BLOCK, sound[: 5 * BLOCK]))
    played = device.turn(noise(10 * BLOCK))
    assert not played[: 2 * BLOCK].any()
    rise = round(0.005 * RATE)
    assert np.allclose(played[2 * BLOCK + rise : 7 * BLOCK], sound[rise : 5 * BLOCK])
    counts = audio.state(playing=True)["counts"]
    assert (counts["delivered"], counts["missing"], counts["gaps"], counts["late"]) == (5 * BLOCK, 3 * BLOCK, 1, 2)
    assert counts["ranges"] == [[16 * BLOCK, 19 * BLOCK]]
    assert counts["leastMargin"] == 2 * BLOCK
    audio.take(Frame(1, 16 * BLOCK, sound[5 * BLOCK :]))  # too late, by all of it
    device.turn(noise(BLOCK))
    assert audio.state(playing=True)["counts"]["dropped"] == 3 * BLOCK
    assert audio.state(playing=False)["counts"] is None
    device.xruns = 2
    device.turn(noise(BLOCK))
    assert heard[-1].flags == DISCONTINUITY
    audio.end()
    device.turn(noise(BLOCK))
    assert len(heard) == 4 + 10 + 2


def test_a_schedule_moves_without_counting_what_it_passes_over():
    schedule, out = PlacedOutput(1000, 10, chunk=10, now=0, begin=0), np.zeros(10, np.float32)
    schedule.put(0, np.ones(40, np.float32))
    schedule.exchange(0, out)
    schedule.exchange(20, out)
    assert (schedule.place, schedule.delivered, schedule.missing) == (30, 20, 0)


def test_volume_silence_and_clicks():
    device = Turned()
    audio = audio_at(device)
    audio.begin(lambda frame: None, chunk=640, first=640 / RATE)
    audio.expect(640)
    audio.take(Frame(1, 640, np.full(60 * BLOCK, 0.25, np.float32)))
    device.turn(np.zeros(3 * BLOCK))
    audio.set_gain(volume=2.0)
    assert np.allclose(device.turn(np.zeros(3 * BLOCK))[-BLOCK:], 0.5)
    audio.set_gain(silent=True)
    audio.set_gain(volume=1.0)  # silent it stays
    assert not device.turn(np.zeros(3 * BLOCK))[-BLOCK:].any()
    audio.set_gain(silent=False)
    assert np.allclose(device.turn(np.zeros(3 * BLOCK))[-BLOCK:], 0.25)
    audio.set_gain(silent=True)
    device.turn(np.zeros(2 * BLOCK))
    at = audio.place + 5 * BLOCK + 17
    audio.click(at + 640, strong=True)
    audio.click(at + 640 + 16000, strong=False)
    audio.hush()
    audio.click(at + 640, strong=True)
    sound = click_sound(RATE, strong=True)
    played = device.turn(np.zeros(20 * BLOCK))
    assert np.allclose(played[5 * BLOCK + 17 :][: len(sound)], sound)
    assert not played[: 5 * BLOCK + 17].any()
    assert not device.turn(np.zeros(60 * BLOCK)).any()


@pytest.mark.parametrize("loop", [1234, 3000])
def test_the_device_measures_itself(loop):
    device = Turned(loop=loop)
    audio = audio_at(device)

    def pause(seconds: float) -> None:
        device.turn(np.zeros((round(seconds * RATE) // BLOCK + 1) * BLOCK))

    found = audio.measure(pause)
    assert found.ok, found.why
    assert abs(found.first * RATE - loop) < 0.5
    assert not device.turn(np.zeros(BLOCK)).any()
    audio.begin(lambda frame: None, chunk=640, first=0.0)
    assert "in use by another page" in audio.measure(pause).why


def test_a_microphone_that_hears_nothing_is_told(monkeypatch):
    device = Turned()
    audio = audio_at(device)
    found = audio.measure(lambda seconds: device.turn(np.zeros((round(seconds * RATE) // BLOCK + 1) * BLOCK)) is None)
    assert (found.ok, found.why[:17]) == (False, "nothing was heard")
    assert np.abs(device.played).max() == pytest.approx(np.abs(probe(RATE)).max())


@pytest.fixture
def jam(tmp_path):
    """A server that plays through a device, which a thread turns no faster than the model plays."""
    device = Turned(first=320)
    audio = audio_at(device)
    with serving(players=[("small", small_player())], record=tmp_path / "jams") as running:
        running.server.device = audio
        with turning(device, audio, noise(400 * BLOCK, 5)):
            yield running, device


def test_a_jam_through_the_device_plays_what_a_session_alone_plays(jam):
    running, device = jam
    page = fetch(running, "/")[2]
    assert b'<html data-device="32000" lang="en">' in page
    with Client(running, rate=48000, frame=480) as wrong:
        wrong.hello()
        assert closed(wrong)[1]["why"].startswith("the sound is that of the server's machine, at 32000 Hz")
    with Client(running, frame=320) as client:
        client.hello()
        client.say(type="calibrate", assumed_ms=20, frame_ms=10, rtt_ms={"p50": 400, "p99": 900})
        assert client.next("measured")["fits"]  # the network is not in the way
        (session,) = running.server.sessions.values()
        assert session.path.block == running.server.device.block / RATE > 0
        client.say(type="start", seed=3, first_ms=20, record=True)
        place = client.next("playing")["place"]
        for _ in range(40):
            state = client.next("state")
            if (state["device"]["counts"] or {"delivered": 0})["delivered"] > 1.3 * RATE:
                break
        client.say(type="stop")
        files = {file["name"] for file in client.next("ended")["files"]}
        assert not client.frames
    assert {"input.wav", "stem.wav", "heard.wav", "mix.wav"} <= files
    counts = state["device"]["counts"]
    assert not counts["missing"]
    assert not state["lost_input_ms"]
    player = running.server.runs["small"].player
    tokens = TokenSession(
        player.model, player.sampler, sessions=torch.tensor([number_of("stream", 0)]), window=player.window, seed=3,
        labels={"instrument": torch.tensor([-1])}, controls={"temperature": torch.tensor([0.9])},
    )  # fmt: skip
    session = AudioSession(player.tokenizer, tokens)
    zero = place - session_place(running, place, player)
    session.push(torch.from_numpy(device.heard[zero:])[None])
    expected = session.pull(ahead=True)[0].numpy()
    begin, count = place + 3200, RATE  # played `first` = 640 samples before its input
    was, had_to_be = device.played[begin - 640 :][:count], expected[begin - zero :][:count]
    wrong = np.flatnonzero(np.abs(was - had_to_be) > 1e-5)
    assert not len(wrong), (wrong[0], wrong[-1], len(wrong), place, zero, state)


def session_place(running, place: int, player) -> int:
    """The session's sample at the place where its output begins."""
    return running.server.runs["small"].slots.first_place()


def test_the_models_answer_names_the_device(jam):
    import json

    told = json.loads(fetch(jam[0], "/v1/models", TOKEN)[2])
    assert told["device"] == {"name": "Loft", "rate": 32000, "first_ms": 10.0, "clock": None}
