"""`accomp bench suite`: a file of benchmarks with targets, run in parts; the shipped ones are in order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny
import torch
from attrs import evolve
from marks import COMPILES

from accomp.core.bench.records import record
from accomp.core.bench.records.record import BenchRow, Record, on_cpu
from accomp.core.bench.subject import BenchModel, subject
from accomp.core.bench.suite import run as suites
from accomp.core.bench.suite.apart import main as apart_main
from accomp.core.bench.suite.file import benchmark_of
from accomp.core.bench.suite.processes import end, finished, started
from accomp.core.bench.suite.run import Run, Suite, Target, load, merged, suite, verdicts
from accomp.core.bench.suite.warming import main as warming_main
from accomp.core.bench.suite.warming import parts, warm
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
    for case in ("stream", "sessions"):
        monkeypatch.setattr(f"accomp.core.bench.cases.{case}.copy_bandwidth", lambda _: 1e9)
    for case in ("train", "mlm"):
        monkeypatch.setattr(f"accomp.core.bench.cases.{case}.matmul_rate", lambda *_: 1e9)


def verdicts_in(page: Path) -> dict[str, str]:
    """What -> the cells behind it, without the share of the floor."""
    rows = [line.strip("|").split("|") for line in page.read_text().splitlines() if line.startswith("|")]
    return {row[0].strip(): " ".join(cell.strip() for cell in row[1:-1]).strip() for row in rows[2:5]}


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
    assert row[5] == reached


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


@pytest.mark.parametrize("name", ["gpu", "gpu_full", "cpu"])
def test_the_shipped_suites_are_in_order(name: str) -> None:
    """Their specs and options; that every target's case can occur is seen where it was measured."""
    path = ROOT / "benchmarks" / f"{name}.toml"
    registry = Registry(third_party=False)
    for run in load(path).run:
        made = benchmark_of(run, path)
        subject(run.spec or made.default, run.set, registry, device="cpu")


def test_the_committed_tables_are_those_of_the_suites() -> None:
    """What was not measured yet says so; the targets are the file's."""
    for name in ("gpu", "gpu_full", "cpu"):
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


SMALL: dict[str, dict[str, Any]] = {
    "stream": {"steps": 2},
    "chunk": {"steps": 1},
    "mlm": {"repeat": 1, "seconds": 0.2},
    "train": {"repeat": 1},
    "sessions": {"steps": 1},
    "offline": {"frames": 8},
}
"""Options of each benchmark that take no time."""


def shrunk(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A suite file with tiny models on a CPU, and as few steps as can be."""
    del content["device"], content["warm"], content["seconds"], content["minutes"]
    for run in content["run"]:
        spec = folder / f"{run['name']}.toml"
        sections: dict[str, Any] = tiny.plain(folder / "none", folder / "run", folder / "none.zarr")
        if run["spec"] == "streaming_chunked":
            sections |= {"objective": {"plugin": "prefix"}, "clock": {"t_f": 0, "k": 2}}
        if run["spec"] == "stemgen":
            sections |= {"objective": {"plugin": "mlm"}, "sampler": {"plugin": "causal_bias"}}
            del sections["clock"]
        spec.write_text(toml_text(sections))
        options = run.get("options", {}) | SMALL[run["bench"]]
        options |= {"hours": 0.01} if "hours" in options else {}
        options |= {"batches": [64, 256]} if "batches" in options else {}
        run |= {"spec": str(spec), "set": [], "options": options}
        run.pop("seconds", None)
    return content


@COMPILES
@pytest.mark.parametrize("name", ["gpu"])
def test_the_suite_of_a_gpu_measures_every_target(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny models, here, uncompiled under the names of the compiled variants; none is left out.

    Without row kernels: interpreted, those of 256 sessions take minutes a step.
    """
    monkeypatch.setattr("accomp.core.streaming.step.captured_step", lambda step, *_: step)
    monkeypatch.setattr("accomp.core.streaming.step.row_kernels", lambda *_, **__: None)
    monkeypatch.setattr("accomp.core.offline.framewise.captured_step", lambda step, *_: step)
    monkeypatch.setattr("accomp.core.spec.runtime.lacking", lambda _: "")
    monkeypatch.setattr("accomp.core.bench.cases.sessions.LEAST_SAMPLES", 2)
    monkeypatch.setattr(BenchModel, "frame", 10.0)  # nothing is late
    content = shrunk(tomllib.loads((ROOT / "benchmarks" / f"{name}.toml").read_text()), tmp_path)
    path = tmp_path / "suite.toml"
    path.write_text(toml_text(content))
    assert suite(path, tiny.registry(), json=tmp_path / "out.json") == 0
    _, *rows = verdicts(load(path), record.load(tmp_path / "out.json"), {})
    assert len(rows) == sum(len(run.target) for run in load(path).run) > 12
    missing = [row for row in rows if row[4] == "not measured" and row[1] != "p99.9 ms"]  # that wants 1000 steps
    assert not missing
    shares = {row[0]: row[-1] for row in rows if row[-1]}
    assert {"256 sessions in one batch, 10 s window: a step", "10 s of masked sampling with guidance, one clip"} <= set(
        shares
    )
    assert all(share.endswith("%") for share in shares.values())


def apart(path: Path, more: str = "") -> Path:
    """A suite of one run that takes long, and one that cannot be measured, each in a process of its own."""
    path.write_text(
        f"""
title = "Apart"
{more}
[[run]]
name = "long"
bench = "stream"
spec = "quickstart"
seconds = 0.5
options = {{ steps = 1000000, variants = ["eager float32"] }}
[[run.target]]
what = "a step"
figure = "p50_ms"
must = 1
"""
    )
    return path


def test_a_run_over_its_time_is_named_and_its_rows_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path, out = apart(tmp_path / "suite.toml"), tmp_path / "out.json"
    assert suite(path, Registry(third_party=False), json=out) == 1
    assert "long failed: over its time of 0.5 s" in capsys.readouterr().err
    assert verdicts_in(out.with_suffix(".md"))["a step"].endswith("failed: over its time of 0.5 s")

    kept = BenchRow("stream", "quickstart", (), "cpu, 1 thread", "eager float32", {"p50_ms": 0.5})

    def ends_late(_: Any, path: Path, name: str, rows: Path, seconds: float) -> None:
        record.save(Record({}, (kept,)), rows)

    monkeypatch.setattr("accomp.core.bench.suite.apart.finished", ends_late)
    assert suite(path, Registry(third_party=False), json=out) == 1
    assert verdicts_in(out.with_suffix(".md"))["a step"].endswith("0.5 must")
    assert record.load(out).lines == (kept,)


def test_what_a_suite_has_no_time_for_is_named(tmp_path: Path) -> None:
    path, out = apart(tmp_path / "suite.toml", "minutes = 0.0000001"), tmp_path / "out.json"
    assert suite(path, Registry(third_party=False), json=out) == 1
    assert "failed: not begun: the suite's" in verdicts_in(out.with_suffix(".md"))["a step"]


def test_a_process_of_a_run_writes_each_row_and_what_failed(file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("accomp.core.bench.suite.apart.Registry", tiny.registry)
    assert apart_main(file, "step", tmp_path / "rows.json") == 0
    assert [line.bench for line in record.load(tmp_path / "rows.json").lines] == ["stream"]

    def fail_later(self: Any, subject: BenchModel) -> Any:
        yield subject.line(self, "first", {"p50_ms": 1.0})
        raise RuntimeError("CUDA out of memory\nmore")

    monkeypatch.setattr("accomp.core.bench.cases.stream.Stream.lines", fail_later)
    assert apart_main(file, "step", tmp_path / "other.json") == 1
    assert [line.case for line in record.load(tmp_path / "other.json").lines] == ["first"]
    assert (tmp_path / "other.error").read_text() == "RuntimeError: CUDA out of memory"


def test_equal_parts_are_compiled_once_and_the_first_of_each_run_first() -> None:
    content = load(ROOT / "benchmarks" / "gpu.toml")
    found = parts(content, {run.name: benchmark_of(run, Path("gpu.toml")) for run in content.run})
    assert len(found) == len(set(found))
    assert [number for _, number in found] == sorted(number for _, number in found)
    assert ("step", 0) in found
    assert "step-paced" not in {name for name, _ in found}, "its step is that of `step`"
    assert {name for name, _ in found} >= {"batch", "mlm", "train", "train-chunked", "train-masked", "sessions"}


def test_parts_are_compiled_by_processes_and_failures_are_told(file: Path, tmp_path: Path, capsys: Any) -> None:
    content = load(file)
    benchmarks = {run.name: benchmark_of(run, file) for run in content.run}
    file.write_text(file.read_text().replace(str(tmp_path / "small.toml"), "no such spec"))
    warm(file, evolve(content, warm=1), benchmarks)
    said = capsys.readouterr()
    assert "compiling 1 parts" in said.out
    assert "train, part 0 could not be compiled beforehand" in said.err
    warm(file, evolve(content, warm=1), benchmarks, seconds=0.0)
    assert "not compiled beforehand within 0 s: train, part 0" in capsys.readouterr().err


def test_a_part_is_what_its_run_compiles(file: Path, monkeypatch: Any) -> None:
    seen = []
    monkeypatch.setattr("accomp.core.bench.suite.warming.Registry", tiny.registry)
    monkeypatch.setattr("accomp.core.bench.cases.train.Train.compile", lambda self, subject: seen.append(subject))
    assert warming_main(file, "train", 0, 2) == 0
    assert [subject.settings for subject in seen] == [("train.batch=1",)]


def grandparent(folder: Path, sleeps: float) -> int:
    """Start a process, leave its number, and sleep."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    (folder / "child").write_text(str(child.pid))
    time.sleep(sleeps)
    return 3


def test_a_process_is_ended_with_what_it_has_started(tmp_path: Path) -> None:
    assert finished(grandparent, tmp_path, 0.0, seconds=60) == 3
    assert finished(grandparent, tmp_path, 100.0, seconds=2) is None
    child = psutil.Process(int((tmp_path / "child").read_text())) if (tmp_path / "child").exists() else None
    assert child is None or child.status() == psutil.STATUS_ZOMBIE


def imported(out: Path) -> int:
    """Leave what was imported before the process began, and where from."""
    modules = [name for name in ("torch", "accomp.core.bench.cases.stream") if name in sys.modules]
    out.write_text(f"{modules} {torch.cuda.is_initialized()} {Path(torch.__file__).parents[1]}")
    return 0


def test_processes_are_forked_from_one_that_has_imported_and_used_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    """From a folder with files of the same names."""
    (tmp_path / "torch.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    assert finished(imported, tmp_path / "out", seconds=60) == 0
    here = Path(torch.__file__).parents[1]
    assert (tmp_path / "out").read_text() == f"['torch', 'accomp.core.bench.cases.stream'] False {here}"


def test_the_environment_of_a_process_is_not_left_behind(monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.delenv("PYTORCH_NVML_BASED_CUDA_CHECK", raising=False)
    end(started(grandparent, Path("nowhere"), 0.0))
    assert os.environ["PYTHONSAFEPATH"] == ""
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ
