"""The arithmetic of benchmarks, their records, tables and comparisons; nothing here is timed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accomp.core.bench import memory
from accomp.core.bench.records import compare, host, record, table
from accomp.core.bench.records.figures import FIGURES
from accomp.core.bench.records.record import BenchRow, Record
from accomp.core.bench.timing import (
    PacedInput,
    Times,
    Work,
    compare_to_first,
    interleaved,
    percentile,
    percentiles,
    speeds,
)
from accomp.core.errors import DataError

CPU = torch.device("cpu")


# ------------------------------------------------------------------------------------------------ percentiles, ratios


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.99, 0.999, 1.0]))
def test_a_percentile_is_the_least_time_that_so_many_do_not_exceed(times: list[float], share: float) -> None:
    found = percentile(np.array(times), share)
    assert sum(time <= found for time in times) >= share * len(times) - 1e-6
    assert all(sum(other <= time for other in times) < share * len(times) for time in times if time < found)


def test_the_slowest_in_a_thousand_is_told_of_a_thousand_only() -> None:
    thousand = np.arange(1, 1001) / 1000
    assert percentiles(thousand) == pytest.approx({"p50_ms": 500, "p99_ms": 990, "p999_ms": 999})
    assert percentiles(thousand[:999], "first_") == pytest.approx({"first_p50_ms": 500, "first_p99_ms": 990})


def test_speeds_are_ratios_round_by_round() -> None:
    """What slows both down in one round leaves the ratio alone; medians of all rounds would not be told apart."""
    ours, theirs = np.array([1.0, 10.0, 2.0]), np.array([2.0, 30.0, 8.0])
    assert speeds(ours, theirs) == {"speed": 3.0, "speed_low": 2.5, "speed_high": 3.5}


def test_what_is_compared_is_compared_with_the_first() -> None:
    def of(*rounds: tuple[float, ...]) -> Times:
        return Times(np.array(rounds), np.array(rounds))

    found = compare_to_first({"a": of((1, 2, 9), (4, 4, 4)), "b": of((1, 1, 50), (1, 1, 1))})
    assert found == {"a": {}, "b": {"speed": 3.0, "speed_low": 2.5, "speed_high": 3.5}}


def test_the_figures_of_times() -> None:
    wall = np.array([[0.01, 0.03], [0.02, 0.06]])
    found = Times(wall, wall / 2, late=2).figures(0.04)
    assert found == pytest.approx(
        {"p50_ms": 20, "p99_ms": 60, "n": 4, "cpu_ms": 12.5, "rtf": 0.75, "late_per_hour": 3600 * 2 / (4 * 0.04)}
    )
    assert Times(wall, wall, device=wall / 5).figures(1.0)["device_ms"] == pytest.approx(5)
    assert set(found) | {"device_ms"} <= set(FIGURES)


# ------------------------------------------------------------------------------------------------ taking turns, pace


def test_works_take_turns_block_by_block_and_another_one_begins_each_round() -> None:
    done: list[str] = []
    works = {name: Work(lambda name=name: done.append(name), block) for name, block in (("a", 2), ("b", 1), ("c", 3))}
    times = interleaved(works, 2, CPU)
    assert "".join(done) == "aabccc" + "bcccaa"
    assert {name: one.wall.shape for name, one in times.items()} == {"a": (2, 2), "b": (2, 1), "c": (2, 3)}
    assert {one.late for one in times.values()} == {0}
    assert {one.device for one in times.values()} == {None}


def test_a_step_longer_than_its_period_is_late() -> None:
    assert interleaved({"a": Work(lambda: None, 3)}, 2, CPU, period=0.0)["a"].late == 6
    assert interleaved({"a": Work(lambda: None, 3)}, 2, CPU, period={"a": 3600.0})["a"].late == 0
    assert interleaved({"a": Work(lambda: None, 3)}, 1, CPU, period=1e-9, paced=True)["a"].late == 3


def test_live_input_keeps_its_beat_however_late_the_work_is() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 6))
        now[0] += seconds

    pace = PacedInput(2.0, lambda: now[0], sleep)
    assert pace.wait() == 102.0  # the first beat is now, its work due at the next
    now[0] += 0.5
    assert pace.wait() == 104.0
    now[0] += 5.0  # ends at 107: the beats at 104 and 106 have passed
    assert pace.wait() == 106.0
    assert pace.wait() == 108.0
    assert pace.wait() == 110.0
    assert slept == [1.5, 1.0]
    now[0] += 50.0
    pace.restart()
    assert pace.wait() == now[0] + 2.0
    assert slept == [1.5, 1.0]


# ------------------------------------------------------------------------------------------------ memory


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=30))
def test_the_slope_is_that_of_the_line_through_all_samples(held: list[int]) -> None:
    hours = np.linspace(0.5, 3.0, len(held))
    assert memory.slope(hours, np.array(held)) == pytest.approx(np.polyfit(hours, held, 1)[0], rel=1e-6, abs=1e-3)


def test_the_peak_counts_what_was_held_for_a_while() -> None:
    memory.begin_peak(CPU)
    before = memory.in_use(CPU)
    block = np.ones(30_000_000)
    size = block.nbytes
    del block
    assert memory.peak(CPU) >= before + 0.9 * size
    assert memory.in_use(CPU) < before + 0.5 * size
    memory.begin_peak(CPU)
    assert memory.peak(CPU) < before + 0.5 * size


# ------------------------------------------------------------------------------------------------ records


def line(case: str = "eager", *, settings: tuple[str, ...] = (), **figures: float) -> BenchRow:
    return BenchRow("stream", "quickstart", settings, "cpu, 1 thread", case, figures or {"p50_ms": 5.0, "n": 10.0})


MACHINE = {"cpu": "Abacus", "cores": 2, "torch": "2.13", "load": 0.1, "date": "2026-11-21 12:00 UTC"}


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    made = Record(MACHINE, (line(), line("compiled", settings=("train.frames=500",), p50_ms=1.5, speed=3.3)))
    record.save(made, tmp_path / "deep" / "a.json")
    assert record.load(tmp_path / "deep" / "a.json") == made


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "it is no JSON"),
        ("[]", "this is 'list'"),
        ('{"format": 7}', "this is 7"),
        ('{"format": 1, "lines": [{"bench": 3}]}', "lines.0.bench"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError) as error:
        record.load(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match="cannot read"):
        record.load(tmp_path / "none.json")


def test_lines_of_one_measurement_make_one_table() -> None:
    lines = [line("eager", p50_ms=5.0), line("other", settings=("a=1",)), line("fast", p50_ms=1.25, speed=4.0)]
    first, second = table.text(lines).split("\n\n")
    assert first.splitlines() == [
        "stream: quickstart (cpu, 1 thread)",
        "         p50 ms  x baseline",
        "  eager       5           -",
        "  fast     1.25           4",
    ]
    assert second.startswith("stream: quickstart --set a=1 (cpu, 1 thread)\n")
    assert "| fast | 1.25 | 4 |\n\n**stream: quickstart --set a=1" in table.markdown(lines)
    assert "| --- | ---: | ---: |".replace(" ", "") in table.markdown(lines).replace(" ", "")


def test_an_earlier_record_is_told_as_ratios_and_which_way_they_went() -> None:
    before = Record(MACHINE, (line(p50_ms=4.0, speed=2.0, n=10.0, late_per_hour=0.0), line("gone")))
    now = Record(MACHINE, (line(p50_ms=5.0, speed=3.0, n=99.0, late_per_hour=0.0), line("new")))
    found = [" ".join(text.split()) for text in compare.lines(now, before)]
    assert "eager p50 ms 5 4 x 1.25 worse" in found
    assert "eager x baseline 3 2 x 1.50 better" in found
    assert "eager late/h 0 0 same" in found
    assert "not in the earlier record: new" in found
    assert not any("99" in text or "another" in text for text in found)


def test_another_machine_or_torch_is_marked_on_every_table() -> None:
    before = Record({**MACHINE, "torch": "2.11", "gpu": "H200"}, (line(), line(settings=("a=1",))))
    found = compare.lines(Record(MACHINE, before.lines), before)
    assert "  another torch: 2.13, before 2.11" in found
    assert [text.partition("; before on another ")[2] for text in found if text.startswith("stream")] == [
        "gpu, torch"
    ] * 2
    assert compare.different(Record({**MACHINE, "load": 9, "date": "later"}), Record(MACHINE)) == {}


def test_every_figure_can_be_shown_and_has_a_unit_or_a_meaning() -> None:
    assert all(one.heading and one.meaning for one in map(FIGURES.get, FIGURES))
    assert len({one.heading for one in FIGURES.values()}) == len(FIGURES)


# ------------------------------------------------------------------------------------------------ the machine


def test_the_machine_is_told_with_versions_and_load() -> None:
    facts = host.host()
    assert json.loads(json.dumps(facts)) == facts
    assert {"date", "cpu", "cores", "load", "torch", "python", "memory_gb"} <= set(facts)
    assert set(host.WHAT_MAKES_TIMES) <= set(facts) | {"gpu", "cuda"}
    for word in (facts["cpu"], f"{facts['cores']} cores", facts["torch"], facts["date"]):
        assert word in host.describe(facts)


@pytest.mark.parametrize(
    ("load", "cores", "said"), [(0.9, 2, False), (1.1, 2, True), (1.1, 16, False), (None, 2, False)]
)
def test_a_busy_machine_is_warned_of(load: float | None, cores: int, said: bool) -> None:
    found = host.busy({"load": load, "cores": cores})
    assert found.startswith("the machine is busy: load 1.1 on 2 cores") if said else not found


def test_an_infinite_or_missing_number_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.save(attrs.evolve(Record(MACHINE), lines=(line(p50_ms=math.nan),)), tmp_path / "a.json")
