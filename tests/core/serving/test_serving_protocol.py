"""Frames, messages, limits and the door: what a client may send, and what is said of the rest."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accomp.core.errors import UserError
from accomp.core.serving.address import Address
from accomp.core.serving.limits import Flood, HelloLimiter, Limits, Meter
from accomp.core.serving.protocol.frames import HEADER, MOST_BYTES, BrokenFrame, Frame, decode, encode
from accomp.core.serving.protocol.message_parsing import BadMessage, message_of
from accomp.core.serving.protocol.messages import (
    Calibrate,
    Counts,
    Hello,
    Ping,
    SetChart,
    SetMetronome,
    SetTemperature,
    Start,
    Switch,
    Tempo,
)
from accomp.core.serving.security import AccessControl, bearer, check_origins, token_from

HELLO = {"type": "hello", "protocol": 1, "token": "t" * 20, "rate": 48000, "frame": 480, "format": "f32"}


@given(
    st.sampled_from([1, 2]),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**63 - 1),
    st.lists(st.floats(-1, 1, width=32), max_size=50),
)
def test_a_frame_comes_back_as_it_was(kind, flags, number, place, samples):
    frame = Frame(kind, place, np.array(samples, np.float32), number, flags)
    for format, off in (("f32", 0), ("i16", 0.5 / 32767)):
        back = decode(encode(frame, format), format, len(samples))
        assert (back.kind, back.flags, back.number, back.place) == (kind, flags, number, place)
        assert np.abs(back.samples - frame.samples).max(initial=0) <= off + 1e-7


def test_the_bytes_of_a_frame_are_those_of_the_protocol():
    message = encode(Frame(1, 0x0102, np.array([1.0], np.float32), 7, 2), "f32")
    assert message == bytes([1, 2, 0, 0, 7, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3F])


@given(st.binary(max_size=200), st.sampled_from(["f32", "i16"]), st.integers(0, 60))
def test_whatever_bytes_come_are_a_frame_or_are_refused_in_words(message, format, samples):
    try:
        found = len(decode(message, format, samples).samples)
    except BrokenFrame as error:
        found = str(error)
    assert found == samples or (isinstance(found, str) and found)


def test_broken_frames_say_what_is_broken():
    good = encode(Frame(1, 0, np.zeros(4, np.float32)), "f32")
    for message, why in (
        (good[:10], "10 bytes; a frame has a header of 16"),
        (good[:-1], "expected 4 samples"),
        (b"\x03" + good[1:], "kind 3"),
        (good[:2] + b"\x01" + good[3:], "reserved bytes 1"),
        (b"\x01" + bytes(MOST_BYTES), f"{MOST_BYTES} at most"),
        (HEADER.pack(1, 0, 0, 0, 1 << 63) + bytes(16), "less than 2"),
    ):
        with pytest.raises(BrokenFrame, match=why):
            decode(message, "f32", 4)


def test_messages_are_read_as_the_contract_says():
    assert message_of(json.dumps(HELLO)) == Hello("t" * 20, 48000, 480)
    assert message_of('{"type": "new thing", "x": 1}') is None
    start = message_of(
        json.dumps(
            {
                "type": "start", "model": "m", "instrument": None, "temperature": 0.9, "seed": None, "record": True,
                "first_ms": 61.2, "count_in": {"bpm": 100, "beats": 8, "beats_per_bar": 4},
                "metronome": {"bpm": 100, "beats_per_bar": 4}, "chart": "C | Am", "force": False, "later": 1,
            }
        )
    )  # fmt: skip
    assert isinstance(start, Start)
    assert (start.metronome, start.chart, start.count_in.bpm) == (Tempo(100.0, 4), "C | Am", 100)
    assert message_of('{"type": "metronome", "value": {"bpm": 90, "beats_per_bar": 3, "place": 7}}') == SetMetronome(
        Tempo(90.0, 3, 7)
    )
    assert message_of('{"type": "metronome", "value": "follow"}') == SetMetronome("follow")
    assert message_of('{"type": "chart", "value": "off"}') == SetChart("off")
    assert message_of('{"type": "dial", "temperature": 1.1}') == SetTemperature(1.1)
    assert message_of('{"type": "mute", "on": true}') == Switch("mute", True)
    assert message_of('{"type": "ping", "t": 1.5}') == Ping(1.5)
    assert message_of('{"type": "calibrate", "assumed_ms": 0}') == Calibrate(None, 0.0, 10.0, 0.0)
    assert message_of('{"type": "calibrate", "device": true, "block_ms": 9.5}').block_ms == 9.5
    assert message_of('{"type": "calibrate", "place": 9, "frame_ms": 20, "rtt_ms": {"p50": 1, "p99": 7}}') == Calibrate(
        9, None, 20.0, 7.0
    )
    counts = message_of('{"type": "counts", "late": 2, "missing": 9, "gaps": 1, "ranges": [[5, 9]], "rtt_ms": 3}')
    assert counts == Counts(2, 9, 1, None, 3.0, ((5, 9),))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("{", "not JSON"),
        ("[" * 9000, "not JSON"),
        ('{"type": 3}', 'with a "type"'),
        ("3", "a JSON object"),
        ('{"type": "dial", "temperature": NaN}', "NaN is not a number"),
        ('{"type": "dial", "temperature": true}', "dial.temperature is True; expected a number from 0 to 10"),
        ('{"type": "mute"}', "mute.on is None; expected true or false"),
        ('{"type": "start", "count_in": {"bpm": 1}}', "start.count_in.bpm is 1; expected a number from 20 to 400"),
        ('{"type": "start", "metronome": "fast"}', "start.metronome is 'fast'"),
        ('{"type": "counts", "ranges": [[1]]}', "pairs of a place"),
        (json.dumps({**HELLO, "frame": 4801}), "hello.frame is 4801; expected a whole number from 240 to 1920"),
        (json.dumps({**HELLO, "protocol": 2}), "hello.protocol is 2"),
        (json.dumps({**HELLO, "format": "opus"}), "expected f32 or i16"),
        (json.dumps({**HELLO, "token": 5}), "hello.token is a secret; expected a text"),
        (json.dumps({"type": "chart", "value": "x" * 20000}), "16384 at most"),
    ],
)
def test_wrong_messages_say_what_is_wrong(message, why):
    with pytest.raises(BadMessage) as caught:
        message_of(message)
    assert why in str(caught.value)


ATOM = st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5)
JSON = ATOM | st.lists(ATOM, max_size=2) | st.fixed_dictionaries({"bpm": ATOM, "p99": ATOM}) | st.just([[1, 2], [3]])
FIELDS = (
    "protocol", "token", "rate", "frame", "format", "resume", "place", "assumed_ms", "frame_ms", "rtt_ms", "count_in",
    "block_ms", "metronome", "chart", "value", "on", "name", "temperature", "seed", "ranges", "late", "t", "first_ms",
)  # fmt: skip
KINDS = ("hello", "calibrate", "start", "metronome", "chart", "dial", "mute", "instrument", "counts", "ping", "stop")


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_whatever_json_comes_is_a_message_or_is_refused_in_words(kind, fields):
    try:
        read = message_of(json.dumps({**fields, "type": kind}))
    except BadMessage as error:
        read = str(error)
    assert read


def test_sound_may_come_in_bursts_but_not_faster_than_agreed():
    clock = [0.0]
    meter = Meter(Limits(), 1000, lambda: clock[0])
    for _ in range(100):
        meter.sound(100)
        clock[0] += 0.1
    meter.sound(1500)  # after a hole

    def flood():
        for _ in range(100):
            meter.sound(100)
            clock[0] += 0.04

    with pytest.raises(Flood, match=r"faster than 1\.5 times real time"):
        flood()


def test_words_may_not_come_too_often():
    clock = [0.0]
    meter = Meter(Limits(), 1000, lambda: clock[0])
    for _ in range(100):
        meter.text()
        clock[0] += 0.06
    for _ in range(3):
        meter.text()
    with pytest.raises(Flood, match="more than 20 messages"):
        [meter.text() for _ in range(30)]


def test_an_address_may_not_ring_too_often():
    clock = [0.0]
    bell = HelloLimiter(Limits(), lambda: clock[0])
    assert [bell.allow("a") for _ in range(12)] == [True] * 10 + [False] * 2
    assert bell.allow("b")
    clock[0] = 61
    assert bell.allow("a")


def test_the_door_knows_tokens_hosts_and_origins():
    door = AccessControl("s" * 20, ("https://jam.example.org",))
    assert door.accepts_token("s" * 20)
    assert not any(map(door.accepts_token, ("s" * 19, "", None, "é" * 20)))
    served = {
        "127.0.0.1:8765": True, "localhost": True, "[::1]:80": True, "192.168.1.5:80": True, "jam.example.org": True,
        "evil.example": False, "": False, None: False, "[": False,
    }  # fmt: skip
    assert {host: door.accepts_host(host) for host in served} == served
    admitted = {
        (None, "a:1"): True, ("http://a:1", "a:1"): True, ("https://a:1", "a:1"): True, ("http://a:2", "a:1"): False,
        ("https://jam.example.org", "b"): True, ("http://jam.example.org", "b"): False, ("null", "null"): False,
    }  # fmt: skip
    assert {asked: door.accepts_origin(*asked) for asked in admitted} == admitted
    assert "s" * 20 not in repr(door)
    assert bearer("Bearer abc") == "abc"
    assert bearer("Basic abc") is None


def test_tokens_come_from_files_the_environment_or_chance(tmp_path, monkeypatch):
    monkeypatch.delenv("ACCOMP_TOKEN", raising=False)
    assert token_from(None) != token_from(None)
    assert len(token_from(None)) > 40
    file = tmp_path / "token"
    file.write_text("from-a-file-0123456789\n")
    assert token_from(file) == "from-a-file-0123456789"
    monkeypatch.setenv("ACCOMP_TOKEN", "short")
    with pytest.raises(UserError, match="16 or more"):
        token_from(None)
    with pytest.raises(UserError, match="cannot read the token"):
        token_from(tmp_path / "none")


def test_addresses_where_a_page_would_have_no_microphone_are_refused_with_the_cures(tmp_path):
    with pytest.raises(UserError, match=r"ssh -L 8765.*--behind-proxy"):
        Address("0.0.0.0").check()
    with pytest.raises(UserError, match="go together"):
        Address(cert=tmp_path).check()
    with pytest.raises(UserError, match="no such file"):
        Address(cert=tmp_path / "c", key=tmp_path / "k").check()
    Address("0.0.0.0", behind_proxy=True).check()
    Address("127.0.0.1").check()
    with Address(port=0).bind() as bound, pytest.raises(UserError, match="--port takes another"):
        Address(port=bound.getsockname()[1]).bind()
    with pytest.raises(UserError, match="expected an origin"):
        check_origins(["jam.example.org"])
