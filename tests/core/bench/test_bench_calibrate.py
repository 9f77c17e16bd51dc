"""The region of `accomp bench --calibrate` is that of the latency budget, cell by cell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from accomp.core.bench import calibrate as calibrating
from accomp.core.bench.calibrate import Measured, border, calibrate, page, points, rows
from accomp.core.realtime.audio_bridge import IDLE
from accomp.core.spec.toml_files import toml_text
from accomp.core.types import TokenSpace

SPACE = TokenSpace(32000, 640, 4, 1024, 64, delay=320)
PARTS = ("encode", "decode", "first", "chunk", "jitter")


def measured(k: int, **times: float) -> Measured:
    return Measured(k, 100, {**dict.fromkeys(PARTS, 0.001), **times})


@given(st.integers(1, 50), st.lists(st.floats(0, 0.3), min_size=5, max_size=5))
def test_every_point_and_the_border_are_the_budgets(k: int, seconds: list[float]) -> None:
    one = Measured(k, 100, dict(zip(PARTS, seconds, strict=True)))
    found = list(points(SPACE, [one]))
    for t_f, there, live in found:
        assert there == k
        wait = one.times["encode"] + one.times["first"] + one.times["decode"] + one.times["jitter"]
        needed = (
            0.06 + 0.01 + 0.01 + IDLE + wait
        )  # levels, the decoder's delay, a block that begins before it, the look
        load = one.times["chunk"] / (k * 0.02) + (one.times["encode"] + one.times["decode"]) / 0.02
        assert live == (-t_f >= round(needed / 0.02, 6) and load <= 0.7)
    edges = border(SPACE, [one])
    if edges:
        ((t_f, _),) = edges
        assert one.budget(SPACE, t_f).deployable
        assert t_f == 0 or not one.budget(SPACE, t_f + 1).deployable
        assert {live for _, _, live in found} == {True, False}
    else:
        assert one.budget(SPACE).load > 0.7
        assert {live for _, _, live in found} == {False}


def test_the_border_by_hand() -> None:
    """3 frames of levels, a whole one for the decoder and its block, 40 ms to the first codes, 1 + 1 + 10 + 1 ms."""
    one = measured(5, first=0.040, jitter=0.010, chunk=0.055)
    assert border(SPACE, [one]) == [(-7, 5)]
    busy = measured(5, chunk=0.065)
    assert border(SPACE, [busy]) == []
    head, *body = rows(SPACE, [one, busy])
    found = dict(zip(head, body[0], strict=True))
    assert (found["needed ms"], found["busy"]) == ("133", "65%")
    assert found["greatest t_f"] == "-7 (-0.14 s)"
    assert body[1][-1] == "none"


def test_the_page_needs_nothing_else_and_holds_every_k() -> None:
    text = page("a spec", SPACE, [measured(1), measured(10, chunk=9.0)], "an abacus", "the machine")
    assert text.startswith("<!doctype html>")
    assert not re.search(r"(src|href)=\"(?!#)", text)
    assert text.count("<circle") > 20
    for word in ("a spec", "an abacus", "the machine", "10 (0.2 s)", "can be played live", "cannot"):
        assert word in text


def test_calibrate_times_each_k_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(calibrating, "KS", (1, 3))
    monkeypatch.setattr(calibrating, "LEAST_CHUNKS", 4)
    spec = tmp_path / "small.toml"
    spec.write_text(toml_text(tiny.plain(tmp_path / "none", tmp_path / "run", tmp_path / "none.zarr")))
    calibrate(str(spec), (), tiny.registry(), tmp_path / "page.html", steps=6)
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert [line[:4] for line in lines if line[1:2] in (["(0.02"], ["(0.06"])] == [
        ["1", "(0.02", "s)", "6"],
        ["3", "(0.06", "s)", "4"],
    ]
    assert "3 (0.06 s)" in (tmp_path / "page.html").read_text()
