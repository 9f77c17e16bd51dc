"""Who comes in, who is refused, and that one bad client harms no other; over real sockets."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from serving_small import TOKEN, Client, serving
from websockets.exceptions import ConnectionClosed

from accomp.core.serving.limits import Limits
from accomp.core.serving.protocol.frames import Frame, encode
from accomp.core.serving.security import HEADERS

SOUND = np.random.default_rng(0).uniform(-0.3, 0.3, 640 * 10).astype(np.float32)


@pytest.fixture(scope="module")
def jam():
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def many():
    with serving(mode="serve", slots=3) as running:
        yield running


def closed(client: Client, seconds: float = 20.0) -> tuple[int, dict]:
    """Once the server has closed: the code, and what it said last."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            client.receive(seconds)
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd else 0, client.told[-1]
    raise TimeoutError(f"not closed; told: {client.told[-3:]}")


def fetch(running, path: str, token: str | None = None, method: str = "GET", host: str | None = None):
    """Code, headers and body of an answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{running.port}{path}", method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    if host:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.mark.parametrize(
    ("how", "hello", "why"),
    [
        ({}, {"token": "wrong"}, "the token is not this server's"),
        ({"origin": "https://evil.example"}, {}, "a page from elsewhere"),
        ({"host": "evil.example"}, {}, "does not answer to that host name"),
        ({}, {"rate": 7}, "hello.rate is 7; expected"),
        ({}, {"type": "ping"}, 'expected {"type": "hello"'),
    ],
)
def test_who_may_not_come_in_is_told_why(jam, how, hello, why):
    with Client(jam, **how) as client:
        client.hello(**hello)
        code, told = closed(client)
    assert code == 1008
    assert told["type"] == "refused"
    assert why in told["why"]
    assert TOKEN not in str(client.told)


def test_a_page_of_the_server_itself_comes_in(jam):
    with Client(jam, origin=f"http://127.0.0.1:{jam.port}") as client:
        welcome = client.hello()
    assert welcome["mode"] == "jam"
    assert welcome["slots"] == {"free": 1, "all": 1}
    model = welcome["models"][0]
    assert (model["t_f_ms"], model["k_ms"], model["rate"]) == (-200.0, 20.0, 32000)
    assert "Bass" in model["instruments"]
    assert "Vocal" not in model["instruments"]
    assert model["members"]["Percussive"] == "drums"
    assert model["dials"]["temperature"]["default"] == 0.9
    assert (model["metronome"], model["chart"]) == (True, True)


def test_without_a_hello_nobody_stays():
    with serving(limits=Limits(hello=0.3)) as running, Client(running) as client:
        code, told = closed(client)
        assert (code, told["why"]) == (1008, "no hello within 0.3 s")


def test_who_comes_when_all_is_full_is_told_when_to_try_again(jam):
    with Client(jam) as one, Client(jam) as other:
        one.hello()
        one.say(type="start")
        one.send(SOUND)
        one.next("playing")
        other.hello()
        code, told = closed(other)
        assert code == 1013
        assert told["reason"] == "full"
        assert told["retry_after"] > 0
        assert "a session plays here already" in told["why"]
        one.say(type="stop")
        one.next("ended")
    with Client(jam) as third:
        assert third.hello()["type"] == "welcome"


@pytest.mark.parametrize(
    ("messages", "code", "why"),
    [
        ([b"short"], 1003, "a frame has a header of 16"),
        ([encode(Frame(1, 0, np.zeros(641, np.float32)), "f32")], 1003, "expected 640 samples"),
        ([encode(Frame(1, 640 * i, np.zeros(640, np.float32)), "f32") for i in range(400)], 1008, "faster than 1.5"),
        (['{"type": "ping"}'] * 40, 1008, "more than 20 messages"),
    ],
)
def test_who_sends_what_was_not_agreed_is_told_and_closed(jam, messages, code, why):
    with Client(jam) as client:
        client.hello()

        def send():
            try:
                for message in messages:
                    client.socket.send(message)
            except ConnectionClosed:
                return

        sender = threading.Thread(target=send)
        sender.start()
        got, told = closed(client)
        sender.join()
    assert got == code
    assert why in told["why"]


def test_messages_that_are_too_long_are_refused_by_the_socket(jam):
    with Client(jam) as client:
        client.hello()
        client.socket.send(bytes(200_000))
        assert closed(client)[0] == 1009


def test_wrong_words_are_a_problem_and_the_session_goes_on(jam):
    with Client(jam) as client:
        client.hello()
        client.socket.send("{")
        assert "not JSON" in client.next("problem")["why"]
        client.say(type="dial", temperature=99)
        assert "expected a number from 0 to 10" in client.next("problem")["why"]
        client.say(type="dial", temperature=1)
        assert "start first" in client.next("problem")["why"]
        client.say(type="unheard of")
        client.say(type="ping", t=7)
        assert client.next("pong")["t"] == 7


def test_rubbish_in_the_sound_harms_nobody(many):
    with Client(many) as good, Client(many) as bad:
        for client in (good, bad):
            client.hello()
            client.say(type="start", seed=1)
        for rubbish in (np.nan, np.inf, 1e30):
            for _ in range(8):
                bad.send(np.full(640, rubbish, np.float32))
                good.send(SOUND[:640])
                time.sleep(0.02)
        for client in (bad, good):
            frame = client.next_frame()
            assert np.isfinite(frame.samples).all()
        good.say(type="stop")
        good.next("ended")
    assert many.server.engine.failure is None


def test_a_connection_that_comes_back_goes_on_in_its_place(many):
    with Client(many) as first:
        welcome = first.hello()
        first.say(type="start", seed=3)
        for _ in range(12):
            first.send(SOUND[:640])
            time.sleep(0.02)
        first.next("playing")
        first.next_frame()
        first.socket.socket.close()  # no farewell
    place, last = first.place, first.frames[-1].place
    time.sleep(0.3)
    with Client(many) as second:
        again = second.hello(resume=welcome["resume"])
        assert (again["session"], again["resumed"]) == (welcome["session"], True)
        second.place = place + 640 * 15  # the page's clock went on
        for _ in range(10):
            second.send(SOUND[:640])
            time.sleep(0.02)
        frame = second.next_frame()
        assert frame.place > last
        second.say(type="stop")
        second.next("ended")
    with Client(many) as stranger:
        assert stranger.hello(resume="not a secret of anybody")["resumed"] is False


def test_a_lost_connection_frees_its_slot_after_a_while():
    with serving(limits=Limits(resume=0.2)) as running:
        with Client(running) as client:
            client.hello()
            client.say(type="start")
            client.send(SOUND)
            client.next("playing")
        end = time.monotonic() + 20
        while running.server.sessions and time.monotonic() < end:
            time.sleep(0.05)
        assert not running.server.sessions
        assert running.server.slots["free"] == 1


def test_who_never_reads_is_cut_off_and_the_others_play_on():
    limits = Limits(stalled=1.0, sessions_per_address=9)
    with serving(mode="serve", slots=2, limits=limits) as running, Client(running) as good:
        with Client(running, rate=192000, frame=1920, max_queue=1) as bad:
            bad.hello()
            bad.say(type="start", seed=1)
            good.hello()
            good.say(type="start", seed=1)
            end = time.monotonic() + 40
            while len(running.server.sessions) > 1 and time.monotonic() < end:
                good.send(SOUND[:640])
                try:
                    bad.send(np.zeros(1920 * 2, np.float32))
                except ConnectionClosed:
                    break
                time.sleep(0.01)
            while len(running.server.sessions) > 1 and time.monotonic() < end:
                time.sleep(0.1)
            assert len(running.server.sessions) == 1
        good.send(SOUND[: 640 * 3])
        assert len(good.next_frame().samples) > 0
        assert running.server.engine.failure is None


def test_a_silent_client_is_told_and_loses_its_slot():
    limits = Limits(silent_warning=0.2, silent_lost=0.8)
    with serving(mode="serve", limits=limits) as running, Client(running) as client:
        client.hello()
        client.say(type="start")
        client.send(SOUND)
        client.next("playing")
        assert "nothing has come from the page" in client.next("problem")["why"]
        assert "nothing was heard from the page" in client.next("ended")["why"]


def test_while_the_model_warms_up_the_page_is_there_and_who_waits_is_told():
    release = threading.Event()
    with serving(before=lambda: release.wait(30)) as running, Client(running) as client:
        code, _, body = fetch(running, "/health/ready")
        assert code == 503
        assert b"preparing" in body
        assert fetch(running, "/health/live")[0] == 200
        told = json.loads(fetch(running, "/v1/models", TOKEN)[2])
        assert told["mode"] == "jam"
        assert (told["models"], told["preparing"]) == ([], "the server is starting")
        client.say(type="hello", protocol=1, token=TOKEN, rate=32000, frame=640)
        assert "preparing" in client.next("state")["said"]
        release.set()
        assert client.next("welcome")["models"]
        assert fetch(running, "/health/ready")[0] == 200
        assert "preparing" not in json.loads(fetch(running, "/v1/models", TOKEN)[2])


def test_what_is_fetched(jam):
    for path in ("/v1/models", "/metrics", "/v1/recordings/20260101-000000-abcdef/mix.wav"):
        assert fetch(jam, path)[0] == 401
    for token, answer in (("wrong", "refused"), (TOKEN, "welcome")):  # the latter when the models are there
        with Client(jam) as client:
            assert client.hello(token=token)["type"] == answer
    assert b'"small"' in fetch(jam, "/v1/models", TOKEN)[2]
    text = fetch(jam, "/metrics", TOKEN)[2].decode()
    for name in (
        "accomp_slots 1.0",
        "accomp_tick_seconds_bucket",
        "accomp_refused_total{",
        "process_cpu_seconds_total",
    ):
        assert name in text
    assert TOKEN not in text
    code, headers, body = fetch(jam, "/v1/probe?rate=8000")
    assert code == 200
    assert len(body) == 4 * 3 * (32767 + 4000)
    assert all(headers[name] == value for name, value in HEADERS.items())
    assert fetch(jam, "/v1/probe?rate=x")[0] == 400
    assert fetch(jam, "/", host="evil.example")[0] == 421
    for path in ("/page/../server.py", "/page/..%2fserver.py", "/page/%2e%2e/server.py", "/page/", "/nothing"):
        assert fetch(jam, path)[0] == 404
    assert fetch(jam, "/v1/recordings/..%2f..%2fx/mix.wav", TOKEN)[0] == 404


def test_a_drained_server_admits_nobody_and_cuts_nobody_off():
    with serving(mode="serve", slots=2) as running, Client(running) as client, Client(running) as other:
        client.hello()
        client.say(type="start")
        client.send(SOUND)
        client.next("playing")
        assert fetch(running, "/v1/drain", method="POST")[0] == 401
        assert fetch(running, "/v1/drain", TOKEN, "POST")[0] == 200
        assert fetch(running, "/health/ready")[0] == 503
        assert other.hello()["type"] == "refused"
        client.send(SOUND)
        client.next_frame()


def test_who_asks_for_what_there_is_not_is_refused_with_what_there_is(jam):
    with Client(jam) as client:
        client.hello()
        for asked, why in (
            ({"model": "none"}, "no model 'none'; there are small"),
            ({"instrument": "Kazoo"}, "no instrument 'Kazoo'; there are Piano"),
            ({"chart": "C"}, "a chart that is typed needs a metronome"),
            ({"first_ms": 300}, "cannot be played live"),
        ):
            client.say(type="start", **asked)
            refused = client.next("refused")
            assert why in refused["why"]
        assert refused["nearest"]["t_f"] < -10
        client.say(type="start", first_ms=300, force=True)
        client.send(SOUND)
        assert client.next("playing")["spare_ms"] < 0
        client.say(type="start")
        assert "plays already" in client.next("refused")["why"]
        client.say(type="stop")
        client.next("ended")


def test_a_model_that_fails_ends_all_sessions_and_the_server_says_why():
    with serving() as running:
        with Client(running) as client:
            client.hello()
            client.say(type="start")
            client.send(SOUND)
            client.next("playing")

            def broken(heard):
                raise RuntimeError("the model broke")

            running.server.runs["small"].slots.step = broken
            client.send(SOUND)
            code, told = closed(client)
            assert code in (1011, 1012)
            assert "model" in told["why"] or told["type"] == "ended"
        end = time.monotonic() + 20
        while running.failure is None and time.monotonic() < end:
            time.sleep(0.05)
    assert "the model broke" in str(running.failure)
