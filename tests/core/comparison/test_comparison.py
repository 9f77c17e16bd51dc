"""Comparing runs: the numbers are those of the runs, tests are scipy's, the page is whole, answers are read back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from made_runs import Page, make_run
from scipy import stats

from accomp.core.comparison.blind import COLUMNS, Answer, read_answers, verdict
from accomp.core.comparison.curves import curves
from accomp.core.comparison.entries import Entry, Latency, anchor_entries, distinct, model_entry, numbers
from accomp.core.comparison.export import as_csv, as_json
from accomp.core.comparison.page import Comparison, page
from accomp.core.comparison.paper_claims import findings
from accomp.core.comparison.region import region
from accomp.core.comparison.scores import tests as told_tests
from accomp.core.errors import DataError
from accomp.core.evaluation.statistics import differences, kruskal_wallis
from accomp.core.report.data import read_run

CLIPS = [f"clip{i}" for i in range(12)]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def record(mean: float, *, spread: float = 0.05, clips: list[str] = CLIPS, name: str = "fit") -> dict[str, Any]:
    noise = np.random.default_rng(7).normal(0, spread, len(clips))
    values = {clip: {name: mean + float(value)} for clip, value in zip(clips, noise, strict=True)}
    whole = float(np.mean([value[name] for value in values.values()]))
    number = {"value": whole, "low": whole - spread, "high": whole + spread}
    return {
        "provenance": "judged by <nobody>", "best": {name: 1.0}, "scored": len(clips), "failed": [],
        "empty": [{"clip": "quiet", "reason": "silence & more"}], "numbers": {name: number}, "takes": values,
        "classes": {"Bass": {"scored": 3, "numbers": {name: number}}},
    }  # fmt: skip


def streaming(t_f: float, mean: float, k: float = 0.02, **more: Any) -> Entry:
    latency = Latency(0.086, -t_f, 0.3, -t_f >= 0.1, min(t_f, -0.1), 0.02, "cpu")
    return Entry(f"t_f {t_f:g} k {k:g}", "streaming", {"fit": record(mean)}, t_f, k, latency=latency, **more)


def grid(late: float = 0.6, early: float = 0.3) -> list[Entry]:
    models = [streaming(t_f, late if t_f > 0 else early, k) for t_f in (-1.0, -0.4, 0.4, 1.0) for k in (0.02, 0.2)]
    anchors = [
        Entry("true stem", "anchor", {"fit": record(0.8)}, anchor="true_stem"),
        Entry("random pairing", "anchor", {"fit": record(0.3, spread=0.06)}, anchor="random_pairing"),
    ]
    return [*models, Entry("masked", "offline", {"fit": record(0.65)}), *anchors]


def test_differences_are_scipys() -> None:
    a, b = (np.random.default_rng(seed).normal(size=20) for seed in (1, 2))
    scores = {"a": dict(enumerate_names(a)), "b": dict(enumerate_names(b + 0.5)), "c": {"clip0": 1.0}}
    found = differences(scores, rng())
    assert [(one.a, one.b, one.clips) for one in found] == [("a", "b", 20), ("a", "c", 1), ("b", "c", 1)]
    assert found[0].p == pytest.approx(min(1.0, 3 * stats.wilcoxon(a - b - 0.5).pvalue))
    assert found[0].mean == pytest.approx(float(np.mean(a - b - 0.5)))
    assert found[0].low is not None
    assert found[0].high is not None
    assert found[0].low < found[0].mean < found[0].high
    assert (found[1].low, found[1].p) == (None, None)
    assert differences(scores, rng(), pairs=[("a", "b")])[0].p == pytest.approx(stats.wilcoxon(a - b - 0.5).pvalue)


def enumerate_names(values: np.ndarray) -> list[tuple[str, float]]:
    return [(f"clip{i}", float(value)) for i, value in enumerate(values)]


def test_equal_scores_have_no_p() -> None:
    same = {"clip0": 0.5, "clip1": 0.25}
    assert differences({"a": same, "b": dict(same)}, rng())[0].p is None
    assert kruskal_wallis([[1.0, 1.0], [1.0]]) is None
    assert kruskal_wallis([[1.0, 2.0], []]) is None


def test_kruskal_wallis_is_scipys() -> None:
    groups = [list(np.random.default_rng(i).normal(i / 2, size=9)) for i in range(3)]
    found, wanted = kruskal_wallis(groups), stats.kruskal(*groups)
    assert found is not None
    assert (found.h, found.p, found.groups) == (pytest.approx(wanted.statistic), pytest.approx(wanted.pvalue), 3)


def test_the_papers_order_is_found_and_its_absence_too() -> None:
    def told(late: float, early: float) -> list[bool | None]:
        return [finding.holds for finding in findings(grid(late, early), rng())]

    assert told(0.6, 0.3) == [True, True]
    assert told(0.3, 0.6) == [False, False]  # behind: worse; far ahead: better than chance


def test_a_metric_where_less_is_better_turns_the_claim_round() -> None:
    entries = grid(late=-0.6, early=-0.3)
    entries[-2:] = [Entry("true stem", "anchor", {"fit": record(-0.8)}, anchor="true_stem"),
                    Entry("random pairing", "anchor", {"fit": record(-0.3)}, anchor="random_pairing")]  # fmt: skip
    assert findings(entries, rng())[0].holds is True


def test_findings_need_both_sides_and_anchors() -> None:
    assert findings([entry for entry in grid() if entry.name != "true stem"], rng()) == []
    early = [entry for entry in grid() if (entry.t_f or 0) <= 0]
    assert [finding.claim for finding in findings(early, rng())] == [
        "fit of t_f <= -1 s cannot be told from random pairing"
    ]


def test_variants_stay_off_the_curves() -> None:
    spoilt = [*grid(), evolve(streaming(1.0, 0.0), name="random input", variant="random input")]
    assert [finding.holds for finding in findings(spoilt, rng())] == [True, True]
    assert findings(spoilt, rng()) == findings(grid(), rng())


def test_curves_draw_a_line_for_each_k_and_a_rule_for_each_other() -> None:
    text = "".join(curves(grid()))
    assert text.count("<polyline") == 2
    for name in ("k = 0.02 s", "k = 0.2 s", "masked", "true stem", "random pairing"):
        assert name in text
    assert "<polyline" not in "".join(curves([entry for entry in grid() if entry.t_f in (None, 1.0)]))


def test_the_region_tells_live_from_not() -> None:
    text = "".join(region([streaming(-0.4, 0.5), streaming(0.4, 0.5)]))
    assert "can be played live" in text
    assert ">yes<" in text
    assert ">no<" in text
    assert text.count("86 ms") == 2
    assert "-0.1 s" in text
    assert "greatest t_f that can" in text
    busy = evolve(streaming(-0.4, 0.5), latency=Latency(0.086, 0.4, 1.2, False, None, 0.02))
    assert "greatest t_f that can" not in "".join(region([busy]))
    assert "No streaming model" in "".join(region([Entry("masked", "offline")]))


def test_a_page_holds_everything(tmp_path: Path) -> None:
    failed = Entry("dead", "streaming", t_f=0.0, k=0.02, why="out of memory <here>")
    text = page(Comparison("A grid", [*grid(), failed], notes=["small models"]))
    found = Page()
    found.feed(text)
    assert found.open == []
    for words in ("out of memory <here>", "silence & more", "judged by <nobody>", "small models", "Bass", "masked"):
        assert words in found.text
    assert "<nobody>" not in text.replace("&lt;nobody&gt;", "")
    ids = [attributes["id"] for _, attributes in found.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in found.tags if tag == "a" and attributes.get("href")]
    assert all(link and link.startswith(("#", "data:")) for link in links)
    assert {link[1:] for link in links if link and link.startswith("#")} <= set(ids)


def test_an_empty_page_says_so() -> None:
    text = page(Comparison("Nothing", [Entry("a", "offline")]))
    assert "Nothing evaluated yet" in text
    assert "No takes yet" in text


def test_csv_and_json_have_every_number() -> None:
    entries = grid()
    rows = list(csv.DictReader(io.StringIO(as_csv(entries))))
    assert len(rows) == len(entries) * (1 + 1 + len(CLIPS))
    whole = next(row for row in rows if row["entry"] == "masked" and row["group"] == "all")
    assert float(whole["value"]) == entries[-3].metrics["fit"]["numbers"]["fit"]["value"]
    assert (whole["scored"], whole["empty"], whole["failed"]) == ("12", "1", "0")
    data = json.loads(as_json(entries, findings(entries, rng())))
    assert [entry["name"] for entry in data["entries"]] == [entry.name for entry in entries]
    assert data["entries"][0]["latency"]["required"] == 0.086


def test_models_and_anchors_are_read_from_a_run(tmp_path: Path) -> None:
    data = read_run(make_run(tmp_path / "one"))
    anchors = list(anchor_entries(data.metrics or {}))
    assert [anchor.name for anchor in anchors] == ["true stem", "random pairing"]
    assert anchors[0].clips("beat_f1", "beat_f1") == pytest.approx({"000-song": 0.4, "001-song": 0.41})
    offline = model_entry(evolve(data, spec={key: value for key, value in data.spec.items() if key != "clock"}), None)  # type: ignore[arg-type]
    assert (offline.kind, offline.t_f, len(offline.takes)) == ("offline", None, 2)
    assert offline.left_out[0]["clip"] == "a lost clip"
    assert numbers([offline]) == {"beat_f1": ["beat_f1"]}


def test_equal_names_are_told_apart() -> None:
    named = [Entry(name, "offline") for name in ("a", "b", "a")]
    assert [entry.name for entry in distinct(named)] == ["a", "b", "a (2)"]


def saved(path: Path, answers: list[Answer]) -> Path:
    with path.open("w", newline="") as out:
        rows = csv.DictWriter(out, COLUMNS)
        rows.writeheader()
        rows.writerows({name: getattr(answer, name) for name in COLUMNS} for answer in answers)
    return path


def test_answers_come_back_and_are_tested(tmp_path: Path) -> None:
    given = [Answer("s", "good", "bad", "a", "x") for _ in range(9)] + [Answer("s", "bad", "good", "b", "y")]
    given.append(Answer("s", "good", "bad", "tie", "y"))
    answers = read_answers([saved(tmp_path / "a.csv", given[:5]), saved(tmp_path / "b.csv", given[5:])])
    assert answers == given
    found = verdict(answers, rng())
    assert found.trials == {"good": 11, "bad": 11}
    assert found.share == {"good": pytest.approx(10.5 / 11), "bad": pytest.approx(0.5 / 11)}
    good, bad = [1.0] * 10 + [0.5], [0.0] * 10 + [0.5]
    assert found.test is not None
    assert found.test.p == pytest.approx(stats.kruskal(good, bad).pvalue)
    (pair,) = found.pairs
    assert (pair.a, pair.b) == ("good", "bad")
    assert pair.p == pytest.approx(stats.wilcoxon(np.subtract(good, bad)).pvalue)


def test_bad_answers_are_told_line_by_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("song,a,b,preferred\ns,x,y,a\ns,x,y,both\n")
    headless = tmp_path / "headless.csv"
    headless.write_text("1,2\n")
    with pytest.raises(DataError) as error:
        read_answers([bad, headless, tmp_path / "none.csv"])
    assert len(error.value.problems) == 3
    assert "'both'" in error.value.problems[0]
    assert "line 3" in error.value.problems[0]
    assert "no column song, a, b, preferred" in error.value.problems[1]


def test_each_model_is_tested_against_the_anchors() -> None:
    text = "".join(told_tests(grid(), rng()))
    assert "Kruskal-Wallis over 9 models" in text
    assert "Each model against random pairing" in text
    assert "Each model against true stem" in text
