"""The report: complete, self-contained, escaped, in order, with every missing part named; its charts and its PNGs."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from made_runs import NASTY, RATE, judged, make_run, music, read_page

from accomp.core import pages
from accomp.core.errors import DataError, WorkError
from accomp.core.pages import charts
from accomp.core.pages.html import Across, Html, table, tag
from accomp.core.pages.sound import RANGE, _differences, _levels, difference_data, player_data, spectrogram_data
from accomp.core.registry import Registry
from accomp.core.report import listening, write_report
from accomp.core.report.data import read_run
from accomp.core.report.page import toml
from accomp.core.report.questions import LISTENS, LIVE, Question, questions
from accomp.core.runs.history import append_losses, read_losses, rewind_losses


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(third_party=False)


def test_a_whole_run_is_on_the_page(tmp_path: Path, registry: Registry) -> None:
    run = make_run(tmp_path / "quickstart", takes=4)
    page = read_page(write_report(None, registry, run))
    assert len(page.all("audio")) == 4 * 4
    assert len(page.all("svg")) == 4
    for words in (
        "a_tokenizer", "t_f = -10", "untrained", "code frequencies alone", "random pairing", "0.63", "0.24",
        "one frame, 20 ms", "a lost clip", "a failed clip", "a lonely clip", "no partner", "CC BY-NC-SA 4.0", "CC0",
        "lr = 0.0003", "2.13.0", "4 of 4 takes", "level 3", "an empty clip", "the stem is silent",
        "played to another song: another song", "the first 0.5 s were given", "accuracy of the likeliest code", "12.3%",
        "at -18 LUFS each, except", "By instrument class",
        "0.74", "random pairing: does not apply, its clips have no losses",
    ):  # fmt: skip
        assert words in page.text, words


def test_nothing_is_fetched_and_everything_is_labelled(tmp_path: Path, registry: Registry) -> None:
    path = write_report(None, registry, make_run(tmp_path / "run"))
    page = read_page(path)
    sources = [attributes["src"] or "" for name, attributes in page.tags if "src" in attributes]
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"https?://|url\(|@import|<link|<script[^>]+src", path.read_text())
    assert all(attributes.get("href", "#").startswith("#") for attributes in page.all("a"))  # type: ignore[union-attr]
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("aria-label") for attributes in page.all("audio"))
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_text_is_escaped(tmp_path: Path, registry: Registry) -> None:
    run = make_run(tmp_path / "run")
    for path in (run / "spec.json", run / "takes.json", run / "metrics.json", *run.glob("takes/*/take.json")):
        data = json.loads(path.read_text())
        spoilt = _spoil(data, keep={"takes", "id"} if path.name != "spec.json" else {"clock", "plugin"})
        path.write_text(json.dumps(spoilt))
    page = read_page(write_report(None, registry, run))
    assert not page.all("b")
    assert NASTY in page.text


def _spoil(data: Any, keep: set[str]) -> Any:
    """Every text in it, but under the keys to keep, with markup behind it."""
    if isinstance(data, dict):
        return {key: value if key in keep else _spoil(value, keep) for key, value in data.items()}
    if isinstance(data, list):
        return [_spoil(item, keep) for item in data]
    return f"{data} {NASTY}" if isinstance(data, str) else data


def test_a_run_that_has_only_begun(tmp_path: Path, registry: Registry) -> None:
    run = make_run(tmp_path / "run")
    for name in ("takes.json", "metrics.json", "losses.jsonl"):
        (run / name).unlink()
    page = read_page(write_report(None, registry, run))
    for words in ("Nothing trained yet", "No takes yet", "Not evaluated yet"):
        assert words in page.text
    assert not page.all("audio")
    assert {attributes.get("class") for attributes in page.all("li")} == {"open"}


def test_checks_show_a_failed_run(tmp_path: Path, registry: Registry) -> None:
    run = make_run(tmp_path / "run")
    append_losses(run, "validation", 700, {"loss": 9.0, "parts": {}, "context_gain": 0.001})
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["cells"]["random_pairing"]["metrics"]["beat_f1"]["numbers"]["beat_f1"]["value"] = 0.9
    (run / "metrics.json").write_text(json.dumps(metrics))
    take = next(run.glob("takes/*/take.json"))
    record = json.loads(take.read_text())
    record["streamed_equals_offline"] = False
    record["timings"]["real_time_factor"] = 1.3
    take.write_text(json.dumps(record))
    signs = [attributes.get("class") for attributes in read_page(write_report(None, registry, run)).all("li")]
    assert [sign for sign in signs if sign in {"yes", "no"}] == ["no"] * 5
    assert answered(run, LIVE).holds is False


def answered(run: Path, question: str) -> Question:
    (found,) = (one for one in questions(read_run(run)) if one.question == question)
    return found


def scored(run: Path, cell: str, value: float, low: float | None, high: float | None) -> None:
    """Write beat_f1 of a cell into metrics.json."""
    metrics = json.loads((run / "metrics.json").read_text())
    numbers = metrics["cells"][cell]["metrics"]["beat_f1"]["numbers"]
    numbers["beat_f1"] = {"value": value, "low": low, "high": high}
    (run / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.parametrize(
    ("model", "holds", "words"),
    [
        ([0.5, 0.4, 0.6], True, "Yes: beat_f1 is 0.50 [0.40, 0.60]"),
        ([0.5, 0.4, 0.6], True, "67 % of the way from random to true [41, 92]"),
        ([0.1, 0.05, 0.14], False, "No: beat_f1 is 0.10 [0.05, 0.14]"),
        ([0.1, 0.05, 0.14], False, "-36 % of the way from random to true [-49, -26]"),
        ([0.3, 0.2, 0.4], None, "Cannot be told with 6 clips: beat_f1 is 0.30"),
        ([0.3, None, None], None, "15 % of the way from random to true."),
    ],
)
def test_a_tick_needs_an_interval_on_the_right_side(
    tmp_path: Path, model: list[float], holds: bool | None, words: str
) -> None:
    run = make_run(tmp_path / "run", takes=6, seconds=0.2)
    scored(run, "model", *model)
    found = answered(run, "Does it fit in time?")
    assert found.holds is holds
    assert words in found.answer


def test_where_less_is_better_the_share_turns_round(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", takes=6, seconds=0.2)
    for cell, value in {"true_stem": 0.0, "random_pairing": 8.0, "model": 6.0}.items():
        scored(run, cell, value, value - 0.5, value + 0.5)
    found = answered(run, "Does it fit in time?")
    assert found.holds is True
    assert "25 % of the way from random to true [19, 31]" in found.answer


def test_equal_anchors_have_no_share(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", takes=6, seconds=0.2)
    for cell in ("true_stem", "random_pairing"):
        scored(run, cell, 0.5, 0.4, 0.6)
    found = answered(run, "Does it fit in time?").answer
    assert "the anchors are equal" in found
    assert "of the way" not in found


def test_five_clips_claim_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", takes=5, seconds=0.2)
    scored(run, "model", 0.9, 0.8, 1.0)
    with_twins(run, lambda value, i: 0.0)
    for question in ("Does it fit in time?", LISTENS):
        found = answered(run, question)
        assert found.holds is None
        assert found.answer.startswith("Cannot be told with 5 clips")


def with_twins(run: Path, score: Callable[[float, int], float]) -> None:
    """Add the cell of twins that were given another song's context; `score`: of a take's score and its place."""
    metrics = json.loads((run / "metrics.json").read_text())
    takes = metrics["cells"]["model"]["metrics"]["beat_f1"]["takes"]
    twins = {id: {"beat_f1": score(one["beat_f1"], i)} for i, (id, one) in enumerate(takes.items())}
    metrics["cells"]["deaf"] = {"title": "deaf", "left_out": [], "metrics": judged([0.2, 0.1, 0.3], twins, [])}
    (run / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.parametrize(
    ("worse", "holds", "words"),
    [(0.2, True, "Yes: "), (-0.2, False, "No: "), (0.0, None, "Cannot be told with 6 clips: ")],
)
def test_listening_shows_beside_a_twin_with_another_context(
    tmp_path: Path, worse: float, holds: bool | None, words: str
) -> None:
    run = make_run(tmp_path / "run", takes=6, seconds=0.2)
    assert answered(run, LISTENS).answer.startswith("Not measured")
    with_twins(run, lambda value, i: value - worse + 0.01 * (-1) ** i)
    found = answered(run, LISTENS)
    assert found.holds is holds
    assert found.answer.startswith(words)
    (part,) = found.parts
    assert "over 6 clips" in part.evidence


def test_playing_live_needs_quick_steps_and_a_budget_that_t_f_covers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seconds=0.2)
    assert answered(run, LIVE).holds is True
    made = json.loads((run / "takes.json").read_text())
    for left, holds in ((200.0, True), (100.0, False)):
        made["budget"]["items"] = [{"name": "needed", "ms": 120.0}, {"name": "left by t_f = -10 frames", "ms": left}]
        (run / "takes.json").write_text(json.dumps(made))
        found = answered(run, LIVE)
        assert found.holds is holds
        assert f"t_f leaves {left:.0f} ms for the 120 ms" in found.answer


def test_what_people_came_for_comes_first_and_details_are_folded(tmp_path: Path, registry: Registry) -> None:
    path = write_report(None, registry, make_run(tmp_path / "run"))
    text, page = path.read_text(), read_page(path)
    headings = re.findall(r'<h2 id="([^"]+)"', text)
    assert headings[:3] == ["listen", "answers", "curves"]
    folded = re.findall(r'<section class="folded"[^>]*><details><summary><h2 id="([^"]+)"', text)
    assert folded == headings[3:]
    assert len(folded) >= 6
    assert not any("open" in attributes for attributes in page.all("details"))
    assert text.index("<audio") < text.index("Does it fit in time?") < text.index("<polyline")
    labels = re.findall(r"<figcaption>([^<]+)</figcaption><img", text)
    assert labels[:4] == ["Context (input of the model)", "Generated stem", "Mix of both", "True stem"]


def test_every_question_is_answered_in_one_sentence(tmp_path: Path, registry: Registry) -> None:
    whole = make_run(tmp_path / "run", takes=6, seconds=0.2)
    with_twins(whole, lambda value, i: 0.1 * i)
    begun = make_run(tmp_path / "begun", seconds=0.2)
    for name in ("takes.json", "metrics.json", "losses.jsonl"):
        (begun / name).unlink()
    for run in (whole, begun):
        found = questions(read_run(run))
        assert [one.question for one in found] == [
            "Does it fit in time?", "Does it fit in harmony?", "Does it sound like the instrument?", LISTENS, LIVE,
        ]  # fmt: skip
        text = write_report(None, registry, run).read_text()
        for one in found:
            assert re.fullmatch(r"(Yes|No|Cannot be told with \d+ clips|Not measured): \S.*[^.]\.", one.answer)
            assert not re.search(r"\. [A-Z]", one.answer)
            assert f"{one.question}</h3><p>{escape(one.answer)}</p>" in text
    assert [one.holds for one in questions(read_run(begun))] == [None] * 5


def test_tables_have_scroll_boxes_that_the_keyboard_reaches(tmp_path: Path, registry: Registry) -> None:
    text = write_report(None, registry, make_run(tmp_path / "run")).read_text()
    boxes = re.findall(r'<div class="scroll" tabindex="0" role="region" aria-label="[^"]+"><(table|svg)', text)
    assert boxes.count("table") == text.count("<table") > 5
    assert text.count("<svg") == boxes.count("svg") + text.count('class="narrow-chart"')


def test_missing_or_broken_records_are_named(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(DataError, match=r"spec\.json is missing"):
        write_report(None, registry, tmp_path)
    run = make_run(tmp_path / "run")
    (run / "takes" / "000-song" / "mix.wav").unlink()
    with pytest.raises(WorkError, match=r"take '000-song': mix.wav is gone"):
        write_report(None, registry, run)
    run = make_run(tmp_path / "other")
    (run / "metrics.json").write_text('{"cells"')
    with pytest.raises(DataError, match=r"cannot read.*metrics\.json"):
        write_report(None, registry, run)


def test_many_takes_are_counted_not_dropped(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listening.MOST >= 4
    monkeypatch.setattr(listening, "MOST", 2)
    page = read_page(write_report(None, registry, make_run(tmp_path / "run", takes=5, seconds=0.2)))
    assert len(page.all("audio")) == 2 * 4
    assert "takes/ alone: 3." in page.text


def test_losses_survive_a_torn_line_and_a_resume(tmp_path: Path) -> None:
    for step in range(5):
        append_losses(tmp_path, "train", step, {"loss": float(step)})
    with (tmp_path / "losses.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    assert [record["step"] for record in read_losses(tmp_path)] == [0, 1, 2, 3, 4]
    rewind_losses(tmp_path, 2)
    append_losses(tmp_path, "train", 3, {"loss": 30.0})
    assert [(record["step"], record["loss"]) for record in read_losses(tmp_path)] == [(0, 0), (1, 1), (2, 2), (3, 30)]
    with (tmp_path / "losses.jsonl").open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(DataError, match=r"nonsense.*losses\.jsonl:5"):
        read_losses(tmp_path)


def test_long_names_wrap_and_a_cell_may_cross_its_row() -> None:
    found = table(
        ["t_f (s)", "accuracy_level_0", "d"], [["loss_level_1", Across("no <numbers>")], ["z", 1, 2]], caption="t"
    )
    assert '<th scope="col">t_f (s)</th><th scope="col">accuracy_<wbr>level_<wbr>0</th>' in found
    assert 'loss_<wbr>level_<wbr>1</th><td colspan="2" class="across">no &lt;numbers&gt;</td></tr>' in found
    assert "<td>1</td><td>2</td>" in found


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(a: str, b: str) -> float:
    low, high = sorted(luminance(one) for one in (a, b))
    return (high + 0.05) / (low + 0.05)


def test_text_has_enough_contrast_in_light_and_dark() -> None:
    """WCAG 2.2: 4.5 for text, 3 for the marks of charts."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    style = resources.files(pages).joinpath("style.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
    )
    assert light.keys() == dark.keys() >= {"ink", "soft", "quiet"}
    for colours in (light, dark):
        for ground in (colours["page"], colours["card"]):
            for name in ("ink", "soft", "accent", "good", "bad"):
                assert contrast(colours[name], ground) >= 4.5, name
            for name in ("second", "third", "fourth", "fifth", "sixth", "quiet"):
                assert contrast(colours[name], ground) >= 3, name


def test_tags_escape_and_drop() -> None:
    made = tag("p", "a < b", None, [tag("b", 1), "&"], class_="x y", title='"', hidden=True, id=None, lang=False)
    assert made == '<p class="x y" title="&quot;" hidden>a &lt; b<b>1</b>&amp;</p>'
    assert isinstance(made, Html)
    assert "&lt;i&gt;" in table(["<i>"], [["<i>"]], caption="<i>")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (4.87, 7.03), (-3, 2e5), (0.001, 0.0013), (5, 5)])
def test_ticks_are_round_even_and_inside(low: float, high: float) -> None:
    marks = charts.ticks(low, high)
    assert 1 <= len(marks) <= 12
    assert all(low - 1e-9 <= mark <= high + 1e-9 for mark in marks)
    if len(marks) > 1:
        assert len(marks) >= 3
        steps = np.diff(marks)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
        assert any(np.isclose(steps[0] / 10.0 ** np.floor(np.log10(steps[0]) + 1e-9), m) for m in (1, 2, 5))


def test_charts_draw_where_they_should() -> None:
    drawn = charts.line_chart("t", [charts.Curve("a", [(0, 0.0), (10, 1.0)], "accent")], [], x="x", y="y")
    points = re.search(r'points="([^"]+)"', drawn)
    assert points
    (x0, y0), (x1, y1) = ([float(v) for v in pair.split(",")] for pair in points[1].split())
    assert x0 == charts.LEFT
    assert x1 == charts.WIDTH - charts.RIGHT
    assert charts.TOP < y1 < y0 < charts.HEIGHT - charts.BOTTOM
    counts = charts.histogram("t", [1.0] * 10 + [2.0] * 5 + [900.0], [charts.Rule("r", 20.0, "second")], x="ms")
    heights = sorted(float(h) for h in re.findall(r'class="bar"[^>]* height="([^"]+)"', counts))
    assert len(heights) == 3
    assert heights[2] / heights[1] == pytest.approx(2, rel=0.02)


def test_the_picture_is_a_png_that_shows_the_pitch() -> None:
    uri = spectrogram_data(music(0), RATE)
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, kinds, pixels, size = 8, [], b"", (0, 0)
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        kinds.append(kind)
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        if kind == b"IDAT":
            pixels = zlib.decompress(body)
        at += 12 + length
    assert kinds == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert len(pixels) == size[1] * (size[0] + 1)

    t = np.arange(RATE) / RATE
    rows = [int(_levels(0.1 * np.sin(2 * np.pi * f * t), RATE).mean(axis=1).argmax()) for f in (100, 1000, 8000)]
    edges = np.geomspace(40, 12000, 73)
    for row, frequency in zip(rows, (100, 1000, 8000), strict=True):
        band = 71 - row
        assert edges[band] / 1.2 < frequency < edges[band + 1] * 1.2
    assert _levels(np.zeros(RATE), RATE).max() == 0


def test_a_difference_is_told_in_decibels_and_nothing_of_what_is_too_soft_to_see() -> None:
    sound = np.random.default_rng(0).normal(size=RATE)
    np.testing.assert_allclose(_differences(2 * sound, sound, RATE), 20 * np.log10(2), atol=1e-6)
    soft = 1e-8 * sound
    assert not _differences(2 * soft, soft, RATE).any()
    assert _differences(0.0 * sound, 0.001 * sound, RATE).min() > -RANGE
    colours = [corner(difference_data(gain * sound, sound, RATE)) for gain in (0.01, 1.0, 100.0)]
    assert colours[0][2] > 2 * colours[0][0]  # softer is blue
    assert max(colours[1]) - min(colours[1]) <= 2  # equal is grey
    assert colours[2][0] > 2 * colours[2][2]  # louder is red


def corner(uri: str) -> tuple[int, ...]:
    """Red, green and blue of a picture's first point."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    palette = data[data.index(b"PLTE") + 4 :]
    place = zlib.decompress(data[data.index(b"IDAT") + 4 :])[1]
    return tuple(palette[3 * place : 3 * place + 3])


@pytest.mark.parametrize("seconds", [0.5, 10.0, 65.0])
def test_players_hold_the_sound(seconds: float) -> None:
    sound = music(3, seconds)
    data = base64.b64decode(player_data(sound, RATE).removeprefix("data:audio/ogg;base64,"))
    back, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == RATE
    assert len(back) == len(sound)
    assert np.sqrt(np.mean((back - sound) ** 2)) < 0.3 * np.sqrt(np.mean(sound**2))
    if seconds >= 10:
        assert len(data) < len(sound) * 2 / 6


def test_the_spec_is_shown_as_toml_that_reads_back() -> None:
    import tomllib

    data = {
        "seed": 1,
        "a": {"x": 1.5, "deep": {"y": ["q", "r"]}, "on": True},
        "m": [{"plugin": "one"}, {"plugin": "é\n"}],
    }
    assert tomllib.loads(toml(data)) == data
