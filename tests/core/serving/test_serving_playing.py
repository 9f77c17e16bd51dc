"""What may be asked of a session, before it plays and while it does: all of it over a real socket."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from fakes import Drone, Pulse
from serving_small import Client, serving, small_player

from accomp.core.component import Component
from accomp.core.compute.devices import number_of
from accomp.core.music.charts import read_chart
from accomp.core.music.timelines import source, steady
from accomp.core.registry import Registry
from accomp.core.serving.playing.session_timelines import SessionTimelines, Unplayable, bar_length
from accomp.core.serving.protocol.messages import Tempo
from accomp.core.streaming.audio_session import AudioSession
from accomp.core.streaming.session import TokenSession

SOUND = np.random.default_rng(0).uniform(-0.4, 0.4, 640 * 150).astype(np.float32)
HOP = 640


class Breaking(Pulse):
    def push(self, audio):
        raise RuntimeError("out of tune")


@pytest.fixture(scope="module")
def player():
    return small_player(timelines=("metronome", "chart"))


@pytest.fixture(scope="module")
def registry():
    found = Registry(third_party=False)
    for name, cls in (("pulse", Pulse), ("drone", Drone)):
        found._rows["follower", name] = Component("follower", name, f"{cls.__module__}:{cls.__name__}")
    for name in [name for kind, name in list(found._rows) if kind == "follower" and name not in ("pulse", "drone")]:
        del found._rows["follower", name]
    return found


@pytest.fixture(scope="module")
def jam(player, registry):
    with serving(players=[("small", player)], registry=registry) as running:
        yield running


def alone(player, sound, seed, told=None, temperature=0.9, instrument=-1) -> np.ndarray:
    tokens = TokenSession(
        player.model, player.sampler, sessions=torch.tensor([number_of("stream", 0)]),
        labels={"instrument": torch.tensor([instrument])}, window=player.window, seed=seed, timelines=[told or {}],
        controls={"temperature": torch.tensor([temperature])},
    )  # fmt: skip
    session = AudioSession(player.tokenizer, tokens)
    session.push(torch.from_numpy(sound)[None])
    return session.pull(ahead=True)[0].numpy()


def played(client: Client, until: int) -> np.ndarray:
    """All samples up to a place, those that did not come as zeros."""
    while not client.frames or client.frames[-1].place + len(client.frames[-1].samples) < until:
        client.next_frame()
    place, sound = client.played()
    return np.concatenate([np.zeros(place, np.float32), sound])[:until]


def test_a_count_in_is_silent_and_its_downbeat_is_the_metronomes(jam, player):
    with Client(jam) as client:
        client.hello()
        count = {"bpm": 240, "beats": 4, "beats_per_bar": 4}
        client.say(type="start", seed=3, count_in=count, metronome={"bpm": 240, "beats_per_bar": 4}, chart="C | F G",
                   first_ms=20)  # fmt: skip
        client.send(SOUND[: 10 * HOP])
        playing = client.next("playing")
        end = playing["count_in_end"]
        assert end >= 4 * 8000 + 0.3 * 32000
        client.feed(SOUND[10 * HOP :])
        sound = played(client, 150 * HOP)
        state = client.next("state")
        client.say(type="stop")
        client.next("ended")
    assert not sound[:end].any()
    grid = steady(240, 4, end / 32000)
    from accomp.core.music.charts import source_of

    told = {"metronome": source("metronome", grid, 50.0), "chart": source_of(read_chart("C | F G"), grid, 50.0)}
    expected = alone(player, SOUND, 3, told)[: 150 * HOP]
    assert np.allclose(sound[end + 1600 :], expected[end + 1600 :], atol=1e-5)
    assert not np.allclose(expected, alone(player, SOUND, 3)[: 150 * HOP], atol=1e-3)
    assert state["bpm"] == 240
    assert state["chord"] in ("C", "F", "G")


def test_what_changes_while_playing_holds_from_the_place_that_is_told(jam, player):
    with Client(jam) as client:
        client.hello()
        client.say(type="start", seed=4)
        client.feed(SOUND[: 60 * HOP])
        before = played(client, 69 * HOP)  # all that can be had: the model plays nine frames ahead
        client.say(type="metronome", value={"bpm": 100, "beats_per_bar": 3, "place": 5000})
        metronome = client.next("applied")
        client.say(type="chart", value="Am")
        chart = client.next("applied")
        client.say(type="dial", temperature=1.7)
        dial = client.next("applied")
        assert [one["what"] for one in (metronome, chart, dial)] == ["metronome", "chart", "temperature"]
        client.feed(SOUND[60 * HOP :])
        sound = played(client, 140 * HOP)
        client.say(type="stop")
        client.next("ended")
    expected = alone(player, SOUND, 4)[: 140 * HOP]
    at = dial["place"]
    assert 60 * HOP <= at < 80 * HOP
    assert metronome["place"] == chart["place"] == at
    assert np.allclose(sound[6400:at], expected[6400:at], atol=1e-5)
    assert not np.allclose(sound[at:], expected[at : 140 * HOP], atol=1e-3)
    assert np.allclose(before[6400:], expected[6400 : 69 * HOP], atol=1e-5)


def test_what_cannot_be_had_is_a_problem_and_the_session_plays_on(jam):
    with Client(jam) as client:
        client.hello()
        client.say(type="start", seed=4)
        client.send(SOUND[: 20 * HOP])
        client.next("playing")
        for message, why in (
            ({"type": "chart", "value": "H7"}, "of the chart"),
            ({"type": "chart", "value": "C"}, "needs a metronome with a tempo"),
            ({"type": "instrument", "name": "Kazoo"}, "no instrument 'Kazoo'"),
        ):
            client.say(**message)
            problem = client.next("problem")
            assert problem["what"] == message["type"]
            assert why in problem["why"]
        client.send(SOUND[20 * HOP : 30 * HOP])
        played(client, 30 * HOP)
        client.say(type="stop")
        client.next("ended")


def test_a_frozen_model_hears_silence_and_a_muted_one_goes_on(jam, player):
    with Client(jam) as client:
        client.hello()
        client.say(type="start", seed=4)
        client.send(SOUND[: 40 * HOP])
        played(client, 49 * HOP)  # all that can be had: the model plays nine frames ahead
        for what in ("freeze", "mute"):
            client.say(type=what, on=True)
            assert client.next("applied")["what"] == what
        client.feed(SOUND[40 * HOP : 90 * HOP])
        sound = played(client, 90 * HOP)
        client.say(type="panic")
        assert client.next("applied")["what"] == "panic"
        client.say(type="stop")
        client.next("ended")
    deaf = np.concatenate([SOUND[: 40 * HOP], np.zeros(60 * HOP, np.float32)])
    assert np.allclose(sound[6400:], alone(player, deaf, 4)[6400 : 90 * HOP], atol=1e-5)


@pytest.mark.parametrize("slots", [1, 2])
def test_another_instrument_plays_on_without_a_hole(player, slots):
    with serving(mode="serve", slots=slots, players=[("small", player)]) as running, Client(running) as client:
        client.hello()
        client.say(type="start", seed=4, instrument="bass guitar")
        for begin in range(0, 30 * HOP, HOP):
            client.send(SOUND[begin : begin + HOP])
            time.sleep(0.02)
        client.next("playing")
        client.say(type="instrument", name="keys")
        at = client.next("applied")["place"]
        end = time.monotonic() + 30
        while (not client.frames or client.frames[-1].place < at + 3200) and time.monotonic() < end:
            client.send(SOUND[:HOP])
            time.sleep(0.02)
            client.next_frame()
        assert len(running.server.runs["small"].slots.taken) == 1
        client.played()  # frames follow each other
        assert client.frames[-1].place >= at


def test_beats_and_chords_are_followed(jam):
    with Client(jam) as client:
        welcome = client.hello()
        assert welcome["models"][0]["followers"] == {"metronome": True, "chart": True}
        client.say(type="start", seed=4, metronome="follow", chart="follow")
        client.say(type="ping", t=0)
        client.next("pong")  # what follows is made by now: what is heard earlier is not heard
        client.send(SOUND[: 10 * HOP])
        client.next("playing")
        client.feed(SOUND[10 * HOP : 60 * HOP])
        played(client, 60 * HOP)
        while (state := client.next("state"))["bpm"] is None:
            pass
        assert state["bpm"] == 120
        client.say(type="chart", value="C")
        assert "needs a metronome with a tempo" in client.next("problem")["why"]
        client.say(type="metronome", value={"bpm": 90, "beats_per_bar": 4})
        client.next("applied")
        client.say(type="chart", value="C | Am")
        assert client.next("applied")["what"] == "chart"
        client.say(type="metronome", value="off")
        assert "take the chart off first" in client.next("problem")["why"]
        client.say(type="stop")
        client.next("ended")


def test_chords_are_followed_without_beats(jam):
    with Client(jam) as client:
        client.hello()
        client.say(type="start", chart="follow")
        client.say(type="ping", t=0)
        client.next("pong")
        client.send(SOUND[: 10 * HOP])
        client.next("playing")
        while client.next("state")["chord"] is None:
            client.send(SOUND[:HOP])
        assert client.told[-1]["chord"] == "E:min"
        client.say(type="stop")
        client.next("ended")


def test_a_follower_that_breaks_ends_its_session_alone(player, registry):
    broken = Registry(third_party=False)
    broken._rows = {key: row for key, row in registry._rows.items() if key != ("follower", "pulse")}
    broken._rows["follower", "broken"] = Component("follower", "broken", f"{__name__}:Breaking")
    with serving(mode="serve", slots=2, players=[("small", player)], registry=broken) as running:
        with Client(running) as good, Client(running) as bad:
            good.hello()
            good.say(type="start", seed=4)
            good.send(SOUND[: 20 * HOP])
            good.next("playing")
            bad.hello()
            bad.say(type="start", seed=4, metronome="follow")
            bad.send(SOUND[: 20 * HOP])
            assert "out of tune" in bad.next("ended")["why"]
            good.send(SOUND[: 20 * HOP])
            good.next_frame()
        assert running.server.engine.failure is None


def test_the_block_of_a_page_is_counted_when_it_asks_and_when_it_starts(jam):
    with Client(jam) as client:
        client.hello()
        spare = {}
        for block in (0, 4, 90, 300):
            client.say(type="calibrate", assumed_ms=0, block_ms=block)
            spare[block] = client.next("measured")["spare_ms"]
        client.say(type="start")
        assert "cannot be played live" in client.next("refused")["why"]
    assert spare[0] == spare[4]  # 128 samples at 32 kHz at least
    assert abs(spare[4] - spare[90] - 86) < 0.2


def test_a_measured_loop_says_what_fits(jam):
    from accomp.core.serving.playing.calibration import probe
    from accomp.core.serving.protocol.frames import PROBED

    rate = 32000
    with Client(jam) as client:
        client.hello()
        client.say(type="calibrate", assumed_ms=0, rtt_ms={"p50": 1, "p99": 4})
        assumed = client.next("measured")
        assert (assumed["ok"], assumed["assumed"], assumed["model"]) == (True, True, "small")
        heard = np.concatenate([np.zeros(2000, np.float32), 0.5 * probe(rate), np.zeros(rate, np.float32)])
        client.place = 64_000
        for begin in range(0, len(heard) // HOP * HOP, HOP):
            client.send(heard[begin : begin + HOP], kind=PROBED)
            time.sleep(0.012)
        client.say(type="calibrate", place=64_000, frame_ms=20, rtt_ms={"p50": 1, "p99": 4})
        measured = client.next("measured", seconds=30)
        assert measured["ok"], measured
        assert abs(measured["first_ms"] - 62.5) < 0.01
        assert abs(assumed["spare_ms"] - measured["spare_ms"] - 62.5 - 10) < 0.2  # and frames of 20 instead of 10 ms
        client.say(type="calibrate", place=500_000)
        failed = client.next("measured")
        assert failed["try_again"]
        assert "only 0.0 s were received" in failed["why"]


def test_a_page_at_another_rate_and_in_int16(jam):
    with Client(jam, rate=48000, frame=480) as client:
        client.hello(format="i16")
        client.say(type="start", seed=1)
        sound = np.sin(np.arange(48000) * 0.05).astype(np.float32) * 0.4
        client.send(sound, "i16")
        playing = client.next("playing")
        while True:
            message = client.socket.recv(timeout=10)
            if isinstance(message, bytes):
                break
        client.say(type="stop")
        assert playing["place"] == 14400 - 5760  # 200 ms ahead, less what two of three levels take and the codec frame


@pytest.mark.parametrize("rate", [32000, 44100, 48000])
def test_sound_comes_from_the_place_on_that_a_page_was_given(rate):
    """A page counts what is not there from that place on as missing; at 44.1 kHz it lies between two samples here."""
    players = [("late", small_player(delay=480))]
    with serving(players=players) as running, Client(running, rate=rate, frame=rate // 100) as client:
        client.hello()
        client.say(type="start", seed=1)
        client.send(np.zeros(rate // 100 * 60))
        playing = client.next("playing")
        first = client.frames[0] if client.frames else client.next_frame()
        client.say(type="stop")
        client.next("ended")
    assert first.place == playing["place"]


def test_a_chart_keeps_its_bar_when_the_tempo_changes(player, registry):
    beats = SessionTimelines(player, registry, 48000)
    beats.set_metronome(Tempo(120, 4, 0), 0)
    assert bar_length(Tempo(120, 4), 48000) == 96000
    beats.set_chart("C | Am | F | G", None, 1000)
    assert beats.chart[1] == 96000  # the next downbeat
    at = 96000 + 2 * 96000 + 90000
    assert beats.now(at, {})[1] == "F"
    beats.set_metronome(Tempo(60, 4, at + 1000), at)
    assert beats.now(at + 2000, {})[1] == "G"  # the bar that was about to begin
    assert (beats.chart[1] - at - 1000) % 192000 == 0
    assert beats.now(at + 2000 + 192000, {})[1] == "C"
    with pytest.raises(Unplayable, match="takes no chart"):
        SessionTimelines(small_player(), registry, 48000).set_chart("C", None, 0)
