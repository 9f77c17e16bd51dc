"""What the page computes besides sound: beats, taps, charts, the built-in song, how well it goes."""

from __future__ import annotations

import numpy as np
import pytest
from page_files import Node, unpacked


def call(node: Node, module: str, name: str, *args: object) -> object:
    return node.ask("call", module=module, name=name, args=list(args))["result"]


@pytest.mark.parametrize(
    ("now", "bar", "in_bar", "share"),
    [(48000, 1, 1, 0.0), (48000 + 24000, 1, 2, 0.0), (48000 + 3.5 * 24000, 1, 4, 0.5), (48000 + 4 * 24000, 2, 1, 0.0)],
)
def test_where_in_the_bar_a_place_is(node, now, bar, in_bar, share):
    grid = {"place": 48000, "bpm": 120, "perBar": 4}
    found = call(node, "beats.js", "beatAt", grid, 48000, now)
    assert (found["bar"], found["inBar"], found["share"]) == (bar, in_bar, share)


def test_before_the_downbeat_a_count_in_counts_up_to_it(node):
    grid = {"place": 4 * 24000, "bpm": 120, "perBar": 4}
    counted = [call(node, "beats.js", "beatAt", grid, 48000, place)["inBar"] for place in range(100, 96000, 24000)]
    assert counted == [1, 2, 3, 4]


def test_another_tempo_begins_at_the_next_downbeat(node):
    grid = {"place": 1000, "bpm": 120, "perBar": 4}  # bars of 96000 samples at 48 kHz
    assert call(node, "beats.js", "nextDownbeat", grid, 48000, 1000) == 1000
    assert call(node, "beats.js", "nextDownbeat", grid, 48000, 1001) == 97000
    assert call(node, "beats.js", "nextDownbeat", grid, 48000, 500) == 1000


def test_taps_give_the_median_and_begin_anew_after_a_pause(node):
    taps = [10.0, 10.5, 11.0, 11.52, 12.0, 20.0, 20.6, 21.2]
    told = node.ask("taps", times=taps)["told"]
    assert told[0] is None
    assert told[4] == 120
    assert told[5] is None
    assert told[7] == 100


@pytest.mark.parametrize(
    ("chart", "bars"),
    [
        ("C | Am | F G", ["C", "Am", "F G"]),
        ("| C | % | % | G |", ["C", "C", "C", "G"]),
        ("C Am F G", ["C", "Am", "F", "G"]),
        ("|: C | G :|", None),
        ("[Am]words", None),
    ],
)
def test_the_bars_of_a_chart_that_can_be_shown(node, chart, bars):
    assert call(node, "beats.js", "barsOf", chart) == bars


def test_the_built_in_song_is_in_the_tempo_and_the_chords_that_it_says(node):
    """Its loudest onsets lie on beats of 100 a minute, and each bar has the pitch classes of its chord."""
    rate = 16000
    song = unpacked(node.ask("song", rate=rate)["sound"])
    bar = round(4 * 60 / 100 * rate)
    assert len(song) == 16 * bar + rate
    assert 0.2 < np.abs(song).max() < 1
    np.testing.assert_allclose(song[4 * bar + rate : 8 * bar], song[8 * bar + rate : 12 * bar], atol=1e-6)
    chords = {"C": (0, 4, 7), "Am": (9, 0, 4), "F": (5, 9, 0), "G": (7, 11, 2)}
    for number, notes in enumerate(chords.values()):
        spectrum = np.abs(np.fft.rfft(song[number * bar : number * bar + 3 * bar // 4] * np.hanning(3 * bar // 4)))
        hertz = np.fft.rfftfreq(3 * bar // 4, 1 / rate)
        near = [spectrum[np.abs(hertz - 440 * 2 ** ((midi - 69) / 12)) < 3].max() for midi in range(55, 72)]
        loudest = {(55 + int(at)) % 12 for at in np.argsort(near)[-3:]}
        assert loudest == set(notes)


def told(**counts: object) -> dict:
    base = {"place": 0, "delivered": 0, "missing": 0, "gaps": 0, "late": 0, "dropped": 0, "buffered": 4800}
    return {"peakIn": 0.5, "breaks": 0, "counts": {**base, "ranges": [], "leastMargin": 4800, **counts}}


def health(node: Node, *reports: dict, load: float = 0.3, tick: float = 9.0, p99: float = 5.0) -> dict:
    server = {"load": load, "tick_ms": {"p50": tick, "p99": tick}}
    return node.ask("health", reports=list(reports), server=server, trips={"p50": 1.0, "p99": p99})


def test_in_time_just_in_time_and_too_late_with_the_cause(node):
    assert health(node, told(), told())["verdict"]["tone"] == "good"
    near = health(node, told(leastMargin=400), told(leastMargin=300))
    assert near["verdict"]["tone"] == "near"
    late = [told(), told(late=2, gaps=1, missing=900)]
    assert health(node, *late)["verdict"] == {"tone": "bad", "cause": ""}
    assert health(node, *late, load=0.95)["verdict"]["cause"] == "model"
    assert health(node, *late, tick=19.0, p99=80.0)["verdict"]["cause"] == "model"
    assert health(node, *late, p99=80.0)["verdict"]["cause"] == "network"
    assert health(node, told(), {**told(late=2), "breaks": 1})["verdict"]["cause"] == "device"


def test_missing_ranges_are_told_once_as_places_and_lengths_and_joined(node):
    found = health(node, told(ranges=[[100, 228]]), told(ranges=[[228, 300], [500, 600]]), told())
    assert [message["ranges"] for message in found["messages"]] == [[[100, 128]], [[228, 72], [500, 100]], []]
    many = [[1000 * n, 1000 * n + 10] for n in range(700)]
    found = health(node, told(ranges=many), told())
    assert [len(message["ranges"]) for message in found["messages"]] == [500, 200]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"place": 1000 + 100}, True),  # 2 ms
        ({"place": 1000 + 200}, False),
        ({"bpm": 120.02, "place": 1000 + 140}, True),  # the same beats at `now`
        ({"bpm": 120.1, "place": 1000 + 800}, False),
        ({"place": 1000 + 96000}, False),  # another bar
        ({"perBar": 3}, False),
    ],
)
def test_grids_that_are_one_within_jitter(node, other, same):
    grid = {"place": 1000, "bpm": 120, "perBar": 4}
    assert call(node, "beats.js", "sameGrid", grid, {**grid, **other}, 48000, 1000 + 960000) is same
    assert not call(node, "beats.js", "sameGrid", None, grid, 48000, 0)
