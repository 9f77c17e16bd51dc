"""How a server ends: gently, at once, by a kill; what was recorded is there."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from attrs import frozen
from serving_small import TOKEN, Client, serving
from test_serving_doors import closed, fetch
from websockets.exceptions import ConnectionClosed

from accomp.core.serving.limits import Limits

HERE = Path(__file__).parents[1]
SOUND = np.random.default_rng(0).uniform(-0.3, 0.3, 640 * 50).astype(np.float32)


@frozen
class Process:
    port: int


@pytest.fixture
def process(tmp_path):
    """A server of two slots that records, as a process of its own, and two clients that play."""
    environment = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    words = [sys.executable, str(HERE / "serve_process.py"), str(tmp_path / "jams")]
    started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        if not select.select([started.stdout], [], [], 120)[0]:
            pytest.skip("the server has not begun within two minutes: this machine has too much else to do")
        with Client(Process(int(started.stdout.readline()))) as client:
            client.hello()
            client.say(type="start", record=True, seed=1, instrument="Bass")
            for begin in range(0, len(SOUND), 640):
                client.send(SOUND[begin : begin + 640])
                time.sleep(0.02)
            client.next("playing")
            yield started, client
    finally:
        started.kill()
        started.communicate()


def recorded(folder: Path) -> dict[str, np.ndarray]:
    (session,) = (folder / "jams").iterdir()
    manifest = json.loads((session / "manifest.json").read_text())
    assert (manifest["run"], manifest["instrument"]) == ("small", "Bass")
    return {path.name: soundfile.read(path, dtype="float32")[0] for path in session.glob("*.wav")}


def test_a_killed_server_leaves_recordings_that_can_be_read(process, tmp_path):
    started, client = process
    while len(client.frames) < 10:
        client.next_frame()
    started.send_signal(signal.SIGKILL)
    started.wait(10)
    files = recorded(tmp_path)
    assert len(files["input.wav"]) >= 0.4 * 32000 - 640
    assert len(files["stem.wav"]) > 0
    heard = files["input.wav"]
    assert abs(heard[heard != 0].std() / SOUND.std() - 1) < 0.1


def test_a_server_that_is_asked_to_end_tells_everybody_and_closes_recordings(process, tmp_path):
    started, client = process
    started.send_signal(signal.SIGTERM)
    assert client.next("ending")["seconds"] == 1.0
    ended = client.next("ended")
    assert {file["name"] for file in ended["files"]} >= {"input.wav", "stem.wav", "heard.wav", "mix.wav"}
    assert closed(client)[0] == 1012
    assert started.wait(20) == 0
    output, log = started.communicate()
    assert output.strip().endswith("ended")
    assert TOKEN not in log
    assert len(recorded(tmp_path)["mix.wav"]) > 0


def test_who_asks_twice_waits_for_nobody():
    with serving(limits=Limits(ending=100.0)) as running, Client(running) as client:
        client.hello()
        client.say(type="start")
        client.send(SOUND[:6400])
        client.next("playing")
        running.wish()
        assert client.next("ending")["seconds"] == 100
        running.server.hurried = True
        assert client.next("ended")["why"] == "the server ends"
        assert closed(client)[0] == 1012


def test_what_was_recorded_is_fetched_with_the_token_and_lies_sample_on_sample(tmp_path):
    with serving(record=tmp_path) as running:
        with Client(running) as client:
            assert client.hello()["record"] is True
            client.say(type="start", record=True, seed=1, metronome={"bpm": 120, "beats_per_bar": 4})
            client.send(SOUND)
            playing = client.next("playing")
            client.say(type="dial", temperature=0.4)
            client.next("applied")
            client.say(type="counts", late=1, missing=640, gaps=1, ranges=[[playing["place"] + 6400, 640]])
            while not client.frames or client.frames[-1].place < client.place:
                client.next_frame()
            client.say(type="stop")
            ended = client.next("ended", seconds=30)
            with pytest.raises(ConnectionClosed):
                client.receive()
            place, played = client.played()
        urls = {file["name"]: file["url"] for file in ended["files"]}
        assert fetch(running, urls["mix.wav"])[0] == 401
        for name, url in urls.items():
            code, _, body = fetch(running, url, TOKEN)
            assert code == 200
            (tmp_path / name).write_bytes(body)
    sounds = {name: soundfile.read(tmp_path / name, dtype="float32")[0] for name in urls if name.endswith(".wav")}
    assert np.array_equal(sounds["input.wav"], SOUND[: len(sounds["input.wav"])])
    stem = sounds["stem.wav"]
    assert not stem[:place].any()
    assert np.allclose(stem[place:], played[: len(stem) - place])
    gap = slice(place + 6400, place + 7040)
    assert stem[gap].any()
    assert not sounds["heard.wav"][gap].any()
    assert len(sounds["mix.wav"]) == len(sounds["heard.wav"])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["changes"][0]["what"] == "temperature"
    assert manifest["missing"] == [[place + 6400, 640]]
    assert manifest["counts"]["late"] == 1
