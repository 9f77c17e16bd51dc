"""Parsing of a page's messages: JSON texts are checked field by field; unknown fields are ignored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from accomp.core.serving.protocol.frames import SAMPLE_BYTES
from accomp.core.serving.protocol.messages import (
    FOLLOW,
    OFF,
    Calibrate,
    CountIn,
    Counts,
    FollowClock,
    Hello,
    Machine,
    Message,
    Metronome,
    Panic,
    Ping,
    SetChart,
    SetInstrument,
    SetMetronome,
    SetTemperature,
    Start,
    Stop,
    Switch,
    Tempo,
)

MOST_TEXT = 16 * 1024
"""Size limit of a message in bytes."""
RATES = (8_000, 192_000)
FRAME_MS = (5, 40)
BPM = (20.0, 400.0)
LONGEST_CHART = 4000
MOST_PLACE = 1 << 62


class BadMessage(ValueError):
    """An invalid message; the text is for its sender."""


def message_of(text: str) -> Message | None:
    """Parse a message; None for an unknown type. Raises BadMessage, naming the field."""
    if len(text) > MOST_TEXT:
        raise BadMessage(f"a message of {len(text)} characters; {MOST_TEXT} at most")
    try:
        fields = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not JSON: {error}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise BadMessage('expected a JSON object with a "type"')
    kind = fields["type"]
    read = _READERS.get(kind)
    return None if read is None else read(_Fields(fields, kind))


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


@frozen
class _Fields:
    """Reads the fields of an object with checks. Raises BadMessage."""

    fields: Mapping[str, Any]
    of: str

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        value = self.fields.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(name, f"a number from {low:g} to {high:g}")
        if not low <= value <= high:
            raise self.wrong(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        value = self.fields.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(name, f"a whole number from {low} to {high}")
        return value

    def has(self, name: str) -> bool:
        return self.fields.get(name) is not None

    def place(self, name: str) -> int | None:
        return self.whole(name, 0, MOST_PLACE) if self.has(name) else None

    def text(self, name: str, most: int, default: str | None = None) -> str:
        value = self.fields.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or len(value) > most:
            raise self.wrong(name, f"a text of at most {most} characters")
        return value

    def switch(self, name: str, default: bool | None = None) -> bool:
        value = self.fields.get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def inner(self, name: str) -> _Fields:
        value = self.fields.get(name)
        if not isinstance(value, Mapping):
            raise self.wrong(name, "an object")
        return _Fields(value, f"{self.of}.{name}")

    def wrong(self, name: str, expected: str) -> BadMessage:
        value = "a secret" if name in ("token", "resume") else repr(self.fields.get(name))[:80]
        return BadMessage(f"{self.of}.{name} is {value}; expected {expected}")


def _hello(given: _Fields) -> Hello:
    given.whole("protocol", 1, 1)
    rate = given.whole("rate", *RATES)
    least, most = (round(ms * rate / 1000) for ms in FRAME_MS)
    format = given.text("format", 8, "f32")
    if format not in SAMPLE_BYTES:
        raise given.wrong("format", "f32 or i16")
    return Hello(
        token=given.text("token", 512, ""),
        rate=rate,
        frame=given.whole("frame", least, most),
        format="f32" if format == "f32" else "i16",
        resume=given.text("resume", 128) if given.has("resume") else None,
        client=given.text("client", 200, ""),
    )


def _calibrate(given: _Fields) -> Calibrate:
    rtt = given.inner("rtt_ms").number("p99", 0, 60_000, 0.0) if given.has("rtt_ms") else 0.0
    frame, block = given.number("frame_ms", 1, 100, 10.0), given.number("block_ms", 0, 1000, 0.0)
    if given.switch("device", False):
        return Calibrate(None, None, frame, rtt, block, device=True)
    if given.has("assumed_ms"):
        return Calibrate(None, given.number("assumed_ms", -1000, 2000), frame, rtt, block)
    return Calibrate(given.whole("place", 0, MOST_PLACE), None, frame, rtt, block)


def _machine(given: _Fields) -> Machine:
    return Machine(
        first_ms=given.number("first_ms", -1000, 2000) if given.has("first_ms") else None,
        volume=given.number("volume", 0, 4) if given.has("volume") else None,
        silent=given.switch("silent") if given.has("silent") else None,
        click=given.place("click"),
        strong=given.switch("strong", False),
        hush=given.switch("hush", False),
    )


def _start(given: _Fields) -> Start:
    return Start(
        model=given.text("model", 200) if given.has("model") else None,
        instrument=given.text("instrument", 100) if given.has("instrument") else None,
        temperature=given.number("temperature", 0, 10) if given.has("temperature") else None,
        seed=given.whole("seed", -(2**63), 2**63 - 1) if given.has("seed") else None,
        record=given.switch("record", False),
        first_ms=given.number("first_ms", -1000, 2000, 0.0),
        count_in=_count_in(given.inner("count_in")) if given.has("count_in") else None,
        metronome=_metronome(given, "metronome"),
        chart=given.text("chart", LONGEST_CHART, OFF),
        force=given.switch("force", False),
    )  # fmt: skip


def _count_in(given: _Fields) -> CountIn:
    return CountIn(given.number("bpm", *BPM), given.whole("beats", 1, 64, 8), given.whole("beats_per_bar", 1, 16, 4))


def _metronome(given: _Fields, name: str) -> Metronome:
    value = given.fields.get(name, OFF)
    if value in (OFF, FOLLOW):
        return OFF if value == OFF else FOLLOW
    if not isinstance(value, Mapping):
        raise given.wrong(name, '"off", "follow", {"bpm", "beats_per_bar"} or {"clock": true, "beats_per_bar"}')
    inner = given.inner(name)
    beats = inner.whole("beats_per_bar", 1, 16, 4)
    if inner.switch("clock", False):
        return FollowClock(beats)
    place = inner.whole("place", -MOST_PLACE, MOST_PLACE) if inner.has("place") else None  # before the session, too
    return Tempo(inner.number("bpm", *BPM), beats, place)


def _counts(given: _Fields) -> Counts:
    ranges = given.fields.get("ranges", [])
    fits = isinstance(ranges, list) and len(ranges) <= 500 and all(
        isinstance(pair, list) and len(pair) == 2 and all(type(n) is int and 0 <= n < 1 << 62 for n in pair)
        for pair in ranges
    )  # fmt: skip
    if not fits:
        raise given.wrong("ranges", "at most 500 pairs of a place and a number of samples")
    rtt = given.fields.get("rtt_ms")
    if isinstance(rtt, Mapping):
        rtt = rtt.get("p50")
    usable = isinstance(rtt, int | float) and not isinstance(rtt, bool) and math.isfinite(rtt)
    return Counts(
        late=given.number("late", 0, 1e12, 0.0),
        missing=given.number("missing", 0, 1e15, 0.0),
        gaps=given.number("gaps", 0, 1e12, 0.0),
        margin_min_ms=given.number("margin_min_ms", -1e9, 1e9) if given.has("margin_min_ms") else None,
        rtt_ms=float(rtt) if usable and rtt is not None else None,
        ranges=tuple((first, samples) for first, samples in ranges),
    )


def _ping(given: _Fields) -> Ping:
    t = given.fields.get("t")
    if t is not None and not (isinstance(t, int | float) or (isinstance(t, str) and len(t) <= 100)):
        raise given.wrong("t", "a number or a short text, which is echoed")
    return Ping(t, given.whole("seen", 0, MOST_PLACE) if given.has("seen") else None)


_READERS: Mapping[str, Callable[[_Fields], Message]] = {
    "hello": _hello,
    "calibrate": _calibrate,
    "start": _start,
    "metronome": lambda given: SetMetronome(_metronome(given, "value")),
    "chart": lambda given: SetChart(given.text("value", LONGEST_CHART), given.place("place")),
    "dial": lambda given: SetTemperature(given.number("temperature", 0, 10)),
    "mute": lambda given: Switch("mute", given.switch("on")),
    "freeze": lambda given: Switch("freeze", given.switch("on")),
    "instrument": lambda given: SetInstrument(given.text("name", 100)),
    "panic": lambda given: Panic(),
    "device": _machine,
    "stop": lambda given: Stop(),
    "ping": _ping,
    "counts": _counts,
}
