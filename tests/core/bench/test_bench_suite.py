"""`accomp bench suite`: a file of benchmarks with targets, run in parts; the shipped ones are in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny

from accomp.core.bench import record
from accomp.core.bench import suite as suites
from accomp.core.bench.record import BenchRow, Record, on_cpu
from accomp.core.bench.subject import subject
from accomp.core.bench.suite import Run, Suite, Target, load, merged, suite, verdicts
from accomp.core.cli.main import main
from accomp.core.errors import SpecError, UserError
from accomp.core.registry import Registry
from accomp.core.spec.toml_files import toml_text

ROOT = Path(__file__).resolve().parents[3]
SUITE = """
title = "Small"
[[run]]
name = "step"
bench = "stream"
spec = "SPEC"
options = { steps = 2, variants = ["eager float32"] }
[[run.target]]
what = "a step"
figure = "p50_ms"
must = 1e9
[[run.target]]
what = "what nobody measures"
case = "abacus"
figure = "p50_ms"
must = 1
[[run]]
name = "train"
bench = "train"
spec = "SPEC"
set = ["train.batch=1"]
options = { repeat = 1 }
[[run.target]]
what = "training"
figure = "frames_s"
must = 1e12
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    spec = tmp_path / "small.toml"
    spec.write_text(toml_text(tiny.plain(tmp_path / "none", tmp_path / "run", tmp_path / "none.zarr")))
    path = tmp_path / "suite.toml"
    path.write_text(SUITE.replace("SPEC", str(spec)))
    return path


@pytest.fixture(autouse=True)
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accomp.core.bench.cases.stream.copy_bandwidth", lambda _: 1e9)
    monkeypatch.setattr("accomp.core.bench.cases.train.matmul_rate", lambda *_: 1e9)


def verdicts_in(page: Path) -> dict[str, str]:
    """What -> the cells behind it."""
    rows = [line.strip("|").split("|") for line in page.read_text().splitlines() if line.startswith("|")]
    return {row[0].strip(): " ".join(cell.strip() for cell in row[1:]).strip() for row in rows[2:5]}


def test_a_suite_runs_in_parts_and_tells_what_was_reached(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert suite(file, tiny.registry(), json=out, plan=True) == 0
    assert not out.exists()
    assert "Machine: not measured" in out.with_suffix(".md").read_text()
    assert all(row.endswith("not measured") for row in verdicts_in(out.with_suffix(".md")).values())

    assert suite(file, tiny.registry(), json=out, only=["step"]) == 0
    rows = verdicts_in(out.with_suffix(".md"))
    assert rows["a step"].endswith("must")
    assert rows["training"].endswith("not measured")
    first = record.load(out).lines
    assert suite(file, tiny.registry(), json=out) == 0
    rows = verdicts_in(out.with_suffix(".md"))
    assert rows["training"].endswith("missed")
    assert rows["what nobody measures"].endswith("not measured")
    lines = record.load(out).lines
    assert [line.key for line in lines][:1] == [line.key for line in first]
    assert len(lines) == 2


def test_a_run_that_fails_is_named_and_stops_no_other(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(*_: Any) -> Any:
        raise torch_error("CUDA out of memory\nmore")

    torch_error = RuntimeError
    monkeypatch.setattr("accomp.core.bench.cases.stream.Stream.lines", fail)
    assert suite(file, tiny.registry(), json=tmp_path / "out.json") == 1
    assert "warning: step failed: RuntimeError: CUDA out of memory\n" in capsys.readouterr().err
    rows = verdicts_in(tmp_path / "out.md")
    assert rows["a step"].endswith("failed: RuntimeError: CUDA out of memory")
    assert rows["training"].endswith("missed")


def test_figures_of_another_machine_are_not_kept(file: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.json"
    old = BenchRow("stream", "old", (), "cpu, 1 thread", "x", {"p50_ms": 1.0})
    record.save(Record({"cpu": "Abacus"}, (old,)), out)
    assert suite(file, tiny.registry(), json=out, only=["train"]) == 0
    assert "measured on another cpu" in capsys.readouterr().err
    assert [line.bench for line in record.load(out).lines] == ["train"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('bench = "stream"', 'bench = "straem"', "did you mean 'stream'?"),
        ("steps = 2,", "stpes = 2,", "did you mean 'steps'?"),
        ("steps = 2,", "steps = 0,", "'steps' must be >= 1"),
        ('figure = "frames_s"', 'figure = "frames"', "no figure is called 'frames'"),
        ('name = "train"', 'name = "step"', "two runs are called 'step'"),
        ("must = 1e12", "", "missing key 'must'"),
        ("train.batch=1", "train.btch=1", "did you mean 'batch'?"),
        ('title = "Small"', 'title = "Small"\ndevice = "abacus"', "abacus"),
    ],
)
def test_mistakes_are_told_before_anything_runs(file: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(UserError) as error:
        suite(file, tiny.registry(), json=tmp_path / "out.json")
    assert said in str(error.value)
    assert not (tmp_path / "out.json").exists()


def test_a_run_that_is_not_there_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run is called 'stp'.*did you mean 'step'"):
        suite(file, tiny.registry(), json=tmp_path / "out.json", only=["stp"])


@pytest.mark.parametrize(
    ("figure", "value", "reached"),
    [("p50_ms", 0.4, "aim"), ("p50_ms", 0.5, "must"), ("p50_ms", 0.9, "missed"),
     ("speed", 20, "aim"), ("speed", 8, "must"), ("speed", 7.9, "missed")],
)  # fmt: skip
def test_a_target_is_reached_from_its_own_side(figure: str, value: float, reached: str) -> None:
    must, aim = (0.8, 0.4) if figure == "p50_ms" else (8, 20)
    wanted = Suite("t", (Run("a", "stream", target=(Target("x", figure, must, aim, "fast"),)),))
    lines = (BenchRow("stream", "any", (), "cuda", "slow", {figure: -1.0 if figure == "p50_ms" else 99.0}),
             BenchRow("stream", "any", (), "cuda", "so fast", {figure: value}))  # fmt: skip
    _, row = verdicts(wanted, Record({}, lines), {})
    assert row[-1] == reached


def test_a_run_s_figures_are_those_of_its_threads() -> None:
    runs = tuple(
        Run(name, "stream", threads=n, target=(Target(name, "p50_ms", 1.0),)) for name, n in (("a", None), ("b", 2))
    )
    lines = tuple(BenchRow("stream", "any", (), on_cpu(n), "", {"p50_ms": float(n)}) for n in (2, 1))
    _, one, two = verdicts(Suite("t", runs, threads=1), Record({}, lines), {})
    assert (one[4], two[4]) == ("1", "2")


def test_lines_replace_those_of_the_same_case() -> None:
    def line(case: str, value: float) -> BenchRow:
        return BenchRow("stream", "s", (), "cpu", case, {"p50_ms": value})

    found = merged(Record({}, (line("a", 1), line("b", 2))), [line("c", 3), line("a", 4)])
    assert [(one.case, one.figures["p50_ms"]) for one in found.lines] == [("a", 4), ("b", 2), ("c", 3)]


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_the_shipped_suites_are_in_order(name: str) -> None:
    """Their specs and options; that every target's case can occur is seen where it was measured."""
    path = ROOT / "benchmarks" / f"{name}.toml"
    registry = Registry(third_party=False)
    for run in load(path).run:
        made = suites._benchmark(run, path)
        subject(run.spec or made.default, run.set, registry, device="cpu")


def test_the_committed_tables_are_those_of_the_suites() -> None:
    """What was not measured yet says so; the targets are the file's."""
    for name in ("gpu", "cpu"):
        results = ROOT / "benchmarks" / "results" / name
        known = record.load(results.with_suffix(".json")) if results.with_suffix(".json").exists() else Record({})
        page = results.with_suffix(".md").read_text()
        for row in verdicts(load(ROOT / "benchmarks" / f"{name}.toml"), known, {}):
            assert " | ".join(row) in page


def test_without_a_gpu_the_gpu_suite_leaves_with_2(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: str) -> None:
        raise SpecError("no CUDA GPU here; `accomp doctor` lists the devices")

    monkeypatch.setattr(suites, "device_of", none)
    assert main(["bench", "suite", str(ROOT / "benchmarks" / "gpu.toml"), "--json", str(tmp_path / "gpu.json")]) == 2
    assert "accomp doctor" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
