"""The page of a recording: what was sent and played, sample on sample, and how far ahead the output was."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from serving_small import Client, serving

from accomp.core.generation.stream import player_of
from accomp.core.registry import Registry
from accomp.core.runs.models import find_model
from accomp.core.serving.playing.input_stream import Inbox, InputStream
from accomp.core.serving.playing.live import LiveSession
from accomp.core.serving.playing.output_stream import Outbox, OutputStream
from accomp.core.serving.playing.recording import AHEAD_EVERY, Recorder
from accomp.core.serving.playing.recording_report import CURVES, LONGEST_PICTURE, RecordedFile, recording_page
from accomp.core.serving.protocol.frames import HEARD, Frame
from accomp.core.serving.protocol.messages import Start

RATE, BPM, SECONDS = 32000, 120, 4
CHORDS = ((60, 64, 67), (57, 60, 64))


class Page(HTMLParser):
    """Attributes: players: (caption, source); curves: numbers of points."""

    def __init__(self, path: Path):
        super().__init__()
        self.players: list[tuple[str, str]] = []
        self.curves: list[int] = []
        self._caption = ""
        self._in_caption = False
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self._in_caption = tag == "figcaption"
        if tag == "audio":
            self.players.append((self._caption, given["src"]))
        if tag == "polyline":
            self.curves.append(len(given["points"].split()))

    def handle_data(self, data):
        if self._in_caption:
            self._caption, self._in_caption = data, False


def song() -> np.ndarray:
    """Chords that decay, one a bar of two seconds, and a drum on each beat."""
    t = np.arange(RATE * SECONDS) / RATE
    sound = np.zeros(len(t))
    for bar, notes in enumerate(CHORDS):
        since = np.maximum(0, t - 2 * bar)
        tones = sum(np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * since) for note in notes)
        sound += 0.1 * tones * np.exp(-since) * ((t >= 2 * bar) & (t < 2 * bar + 2))
    beat = t % (60 / BPM)
    sound += 0.2 * np.random.default_rng(0).normal(size=len(t)) * np.exp(-60 * beat)
    return np.clip(sound, -0.9, 0.9).astype(np.float32)


@pytest.fixture(scope="module")
def jam(tmp_path_factory):
    """A jam of the shipped model with a song, in which each frame waits for its answer -> folder of the recording, what
    was sent, place and samples of what was received, by how much (s) the first of it was ahead.
    """
    folder, registry, sound = tmp_path_factory.mktemp("jams"), Registry(third_party=False), song()
    with ExitStack() as stack:
        player = stack.enter_context(player_of(find_model("pretrained", registry), registry, None))
        chunk = player.model.clock.k * player.tokenizer.space.hop
        running = stack.enter_context(serving(players=[("pretrained", player)], record=folder, registry=registry))
        client = stack.enter_context(Client(running, frame=chunk))
        client.hello()
        client.say(type="start", record=True, seed=1, instrument="Bass", metronome={"bpm": BPM, "beats_per_bar": 4})
        for number, begin in enumerate(range(0, len(sound) - chunk + 1, chunk)):
            client.send(sound[begin : begin + chunk])
            client.next_frame(seconds=60)
            if number == 100:  # a page's report, in the middle
                client.say(type="counts", margin_min_ms=61.5)
                client.say(type="ping", t=1)
                client.next("pong")
        client.say(type="stop")
        client.next("ended", seconds=60)
        (made,) = folder.glob("*/report.html")
        yield made.parent, sound[: client.place], client.played(), (client.frames[0].place - chunk) / RATE


def read(folder: Path, name: str) -> np.ndarray:
    return soundfile.read(folder / name, dtype="float32")[0]


def test_context_and_stem_are_what_was_sent_and_received_sample_for_sample(jam):
    folder, sent, (place, received), _ = jam
    context, stem = read(folder, "input.wav"), read(folder, "stem.wav")
    assert len(sent) - 640 <= len(context) <= len(sent)
    assert np.array_equal(context, sent[: len(context)])
    assert not stem[:place].any()
    assert np.array_equal(stem[place:], received[: len(stem) - place])
    assert np.abs(received).max() > 0.01  # it plays
    played, mix = read(folder, "heard.wav"), read(folder, "mix.wav")
    assert np.array_equal(played, stem[: len(played)])
    both, *_ = np.linalg.lstsq(np.stack([context[: len(mix)], played], axis=1), mix, rcond=None)
    assert (both > 0).all()
    assert (
        np.abs(np.stack([context[: len(mix)], played], axis=1) @ both - mix).max() < 1e-3
    )  # a sum of the two, in place


def test_the_page_holds_three_players_and_the_curve_of_how_far_ahead_it_was(jam):
    folder, sent, _, lead = jam
    page, manifest = Page(folder / "report.html"), json.loads((folder / "manifest.json").read_text())
    labels = ("Context (input of the model)", "Stem, as it was played", "Mix of both")
    assert page.players == list(zip(labels, ("input.wav", "heard.wav", "mix.wav"), strict=True))
    assert all((folder / source).is_file() for _, source in page.players)
    assert not re.search(r"(src|href)=\"(https?:|/)", page.text)
    sent_ahead, arrived = manifest["ahead_ms"]["sent"], manifest["ahead_ms"]["arrived"]
    assert page.curves == [len(sent_ahead), 1]
    times = [time for time, _ in sent_ahead]
    assert times == [AHEAD_EVERY * number for number in range(len(times))]
    assert times[-1] >= len(sent) / RATE - AHEAD_EVERY
    assert 0.05 < lead < 0.2
    assert [ms for _, ms in sent_ahead] == pytest.approx([1000 * lead] * len(times))  # each frame waited for its answer
    assert [ms for _, ms in arrived] == [61.5]
    for name, _ in CURVES.values():
        assert name in page.text
    assert "instrument Bass" in page.text


class Noted:
    """A recording that keeps leads only."""

    def __init__(self):
        self.ahead = []

    def add_input(self, at, sound): ...
    def add_output(self, at, sound): ...

    def add_ahead(self, where, sample, seconds):
        self.ahead.append((where, sample, seconds))


def test_output_is_ahead_of_the_newest_input_whether_the_model_has_taken_it_or_not():
    inbox, outbox, recording = Inbox(RATE), Outbox(RATE, lambda: None), Noted()
    streams = InputStream(RATE, RATE), OutputStream(RATE, RATE)
    live = LiveSession("one", Start(), inbox, outbox, *streams, lambda how, why: None, recording=recording)
    frames = [Frame(HEARD, 12_800 + 640 * number, np.zeros(640, np.float32), number) for number in range(4)]
    inbox.put(frames[0])
    live.absorb(0.0)
    live.take(640)
    live.play(3360, np.zeros(640, np.float32))
    for frame in frames[1:]:  # while the model computes
        inbox.put(frame)
    live.play(4000, np.zeros(640, np.float32))
    assert recording.ahead == [("sent", 3360, (3360 - 640) / RATE), ("sent", 4000, (4000 - 4 * 640) / RATE)]


def test_a_recording_without_sound_has_a_page_that_says_so(tmp_path):
    recorder = Recorder(tmp_path)
    recorder.begin("one", RATE, {"run": "a <run>"}).end(lambda files: None)
    recorder.flush()
    page = Page(tmp_path / "one/report.html")
    assert not page.players
    assert "Nothing was played." in page.text
    assert "a &lt;run&gt;" in page.text


def test_late_output_is_counted_and_the_line_below_which_it_is_late_is_drawn():
    page = recording_page({"ahead_ms": {"sent": [[0, 20], [0.5, -7]]}, "counts": {"late": 2, "gaps": 1}}, [], RATE)
    assert "late below" in page
    assert "late chunks 2 · gaps 1" in page


def test_a_long_recording_has_no_pictures():
    short, long = (
        RecordedFile("Mix", "mix.wav", np.zeros(size, np.float32)) for size in (RATE, int(LONGEST_PICTURE * RATE) + 1)
    )
    assert "<img" in recording_page({}, [short], RATE)
    assert "<img" not in recording_page({}, [long], RATE)
