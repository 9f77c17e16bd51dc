"""`accomp bench`: every benchmark on the tiny experiment, its shares by independent arithmetic, and its mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from small import space_with

from accomp.core.bench import live, memory
from accomp.core.bench.cases.sessions import Sessions, _at_load
from accomp.core.bench.cases.train import Train
from accomp.core.bench.live import SteadySessions
from accomp.core.bench.measuring import measure
from accomp.core.bench.reading import Reading
from accomp.core.bench.records.figures import FIGURES
from accomp.core.bench.records.record import BenchRow
from accomp.core.bench.subject import BenchModel, subject
from accomp.core.bench.variants import Variant, variants
from accomp.core.cli.main import main
from accomp.core.errors import WorkError
from accomp.core.registry import Registry
from accomp.core.spec.pairs import PairRules
from accomp.core.spec.runtime import Runtime
from accomp.core.spec.toml_files import toml_text
from accomp.core.streaming.precision import prepared
from accomp.core.training.throughput import step_flops

RATE = 1e9
MLM: dict[str, Any] = {
    "fuser": {"plugin": "concat"},
    "objective": {"plugin": "mlm"},
    "sampler": {"plugin": "vampnet", "steps": [3, 2], "temperatures": [1.0, 1.0]},
    "guidance": {"context": 2.0},
}


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    """Writes the tiny spec with other sections; None leaves one out. Its corpus and store do not exist."""

    def write(name: str = "small", **sections: Any) -> str:
        data = {**tiny.plain(tmp_path / "none", tmp_path / "run", tmp_path / "none.zarr"), **sections}
        path = tmp_path / f"{name}.toml"
        path.write_text(toml_text({key: value for key, value in data.items() if value is not None}))
        return str(path)

    return write


@pytest.fixture
def masked(spec: Any) -> str:
    conditions = {"context": {"drop": 0.1}, "instrument": {"classes": 18, "drop": 0.1}}
    return str(spec("masked", clock=None, conditions=conditions, **MLM))


@pytest.fixture
def bench(install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `accomp bench` with the tiny parts at hand; the lines of its record."""
    install("tiny", module="tiny")
    monkeypatch.setattr("accomp.core.bench.cases.stream.copy_bandwidth", lambda _: RATE)
    monkeypatch.setattr("accomp.core.bench.cases.train.matmul_rate", lambda *_: RATE)

    def run(*words: str) -> list[BenchRow]:
        path = tmp_path / "record.json"
        assert main(["bench", *words, "--json", str(path)]) == 0
        record = json.loads(path.read_text())
        assert record["machine"]["cpu"]
        lines = [BenchRow(**{**one, "settings": tuple(one["settings"])}) for one in record["lines"]]
        assert all(set(one.figures) <= set(FIGURES) for one in lines)
        assert {one.bench for one in lines} == {words[0]}
        return lines

    return run


def small(spec: Any, **sections: Any) -> BenchModel:
    return subject(spec(**sections), (), tiny.registry())


# ------------------------------------------------------------------------------------------------ each benchmark


def test_stream_times_every_variant_and_compares_it_with_the_first(bench: Any, spec: Any, capsys: Any) -> None:
    first = variants()[0].name
    (eager,) = bench("stream", spec(), "--steps", "30", "--variant", first)
    assert eager.case == first
    assert eager.where == "cpu, 1 thread"
    assert eager.figures["n"] == 50  # whole blocks
    assert "p999_ms" not in eager.figures
    share = eager.figures["step_mb"] * 1e6 / (eager.figures["p50_ms"] / 1000) / RATE
    assert eager.figures["bandwidth"] == pytest.approx(share)
    assert first in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "k", "options", "title"),
    [
        ("stream", 1, ["--steps", "1", "--variant", "eager float32"], "a step of eager float32"),
        ("chunk", 3, ["--steps", "1", "--variant", "eager float32"], "a chunk of eager float32"),
        ("sessions", 1, ["--steps", "1", "--batch", "2", "--no-codec"], "a step of 2 sessions"),
        ("train", 1, ["--repeat", "1"], "a training step"),
        ("mlm", None, ["--repeat", "1", "--seconds", "0.2", "--variant", "eager float32"], "a clip of eager float32"),
    ],
)
def test_a_profile_is_printed_on_demand(
    name: str, k: int | None, options: list[str], title: str, bench: Any, spec: Any, masked: str, capsys: Any
) -> None:
    chunked = {"clock": {"t_f": -3, "k": k}, "objective": {"plugin": "prefix"}}
    path = masked if k is None else spec(**chunked) if k > 1 else spec()
    bench(name, path, *options)
    assert title not in capsys.readouterr().out
    bench(name, path, *options, "--profile")
    table = capsys.readouterr().out.partition(f"{title}:\n")[2]
    assert table.split()[:3] == ["operator", "calls", "us"]
    assert "all of them" in table


def test_paced_steps_are_another_case(bench: Any, spec: Any) -> None:
    (line,) = bench("stream", spec(), "--steps", "3", "--paced", "--variant", variants()[0].name)
    assert line.case.endswith(", paced")
    assert line.figures["n"] == 3


def test_variants_that_differ_on_a_gpu_alone_are_not_run_twice_on_a_cpu() -> None:
    here, there = ({one.name for one in variants((), torch.device(kind))} for kind in ("cpu", "cuda"))
    assert there - here == {"compiled bfloat16, torch's kernels", "compiled int8, torch's kernels"}


def test_chunk_tells_the_whole_chunk_and_the_wait_for_it(bench: Any, spec: Any) -> None:
    chunked = spec(clock={"t_f": -3, "k": 4}, objective={"plugin": "prefix"})
    (line,) = bench("chunk", chunked, "--steps", "4", "--variant", variants()[0].name)
    assert line.case.endswith("k = 4")
    assert line.figures["first_p50_ms"] <= line.figures["p50_ms"]


def test_a_clip_is_counted_in_forwards(bench: Any, masked: str) -> None:
    eager, line = bench(
        "mlm", masked, "--seconds", "2", "--repeat", "2", "--variant", "eager float32", "--variant", "eager bfloat16"
    )
    assert (eager.case[:13], line.case[:14]) == ("eager float32", "eager bfloat16")
    assert eager.case.endswith("2 s, window of 50 frames, guidance context")
    windows = 3  # of 50 frames in 100: the first, and two with one half given
    assert line.figures["forwards"] == windows * (3 + 2)
    assert line.figures["forwards_s"] == pytest.approx(line.figures["forwards"] / (line.figures["p50_ms"] / 1000))
    assert line.figures["n"] == 2


def test_train_tells_frames_and_the_share_of_the_matmul_rate(bench: Any, spec: Any) -> None:
    (line,) = bench("train", spec(), "--repeat", "2", "--set", "train.accumulate=2")
    seconds = line.figures["p50_ms"] / 1000
    assert line.figures["frames_s"] == pytest.approx(4 * 2 * 50 / seconds)
    assert line.settings == ("train.accumulate=2",)
    found = subject(spec(), ["train.accumulate=2"], tiny.registry())
    done = step_flops(found.spec, found.space, found.registry)
    assert line.figures["matmul"] == pytest.approx(done / seconds / RATE)


def test_codec_tells_pushes_and_the_whole(bench: Any, spec: Any) -> None:
    lines = bench(
        "codec", spec(), "--seconds", "0.4", "--repeat", "2", "--frames", "1", "--frames", "7", "--batch", "2"
    )
    cases = [line.case for line in lines]
    assert cases == [
        f"{verb}, batch 2, {how}"
        for verb in ("encode", "decode")
        for how in ("one call of 20 frames", "1 frame a push", "7 frames a push")
    ]
    assert [line.figures["n"] for line in lines] == [2, 2 * 20, 2 * 3] * 2
    assert ["speed" in line.figures for line in lines] == [False, True, True] * 2


def test_sessions_are_added_until_one_is_late(bench: Any, spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["sessions", spec(), "--steps", "3", "--batch", "1", "--batch", "3"]
    monkeypatch.setattr(BenchModel, "frame", 1e6)
    *each, most = bench(*words)
    assert [line.case for line in each] == ["1 sessions, with the codec", "3 sessions, with the codec"]
    assert most.figures == {"sessions": 3}
    assert "no more were tried" in most.case
    monkeypatch.setattr(BenchModel, "frame", 1e-9)
    _, most = subject_lines(spec(), Sessions(batches=(1, 3), steps=2, codec=False))
    assert most.figures == {"sessions": 0}
    assert "no more" not in most.case


def test_a_load_is_as_many_sessions_as_take_it(spec: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    share = {0: 0.0, 1: 0.2, 2: 0.4, 4: 0.3, 8: 0.8}
    assert [_at_load(load, share) for load in (0.1, 0.2, 0.39, 0.6, 0.8, 0.9)] == [0, 1, 1, 6, 8, 0]
    monkeypatch.setattr("accomp.core.bench.cases.sessions._at_load", lambda load, share: 3 if load < 0.9 else 0)
    lines = subject_lines(spec(), Sessions(batches=(1,), steps=2, codec=False, loads=(0.7, 0.95)))
    assert [line.case for line in lines][2:] == ["3 sessions, 70% load, paced"]
    assert "late_per_hour" in lines[2].figures
    assert "95% load is more than the batches that were tried took" in capsys.readouterr().err


def test_batches_grow_until_one_is_late_and_every_load_is_known(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(self: Any, subject: BenchModel, model: Any, batch: int, paced: bool, how: str) -> tuple[BenchRow, bool]:
        return subject.line(self, f"{batch}{how}", {"rtf": 0.3 * batch}), batch < 2

    monkeypatch.setattr(Sessions, "_batch", taken)
    cases = {
        loads: [line.case for line in subject_lines(spec(), Sessions(batches=(1, 2, 3, 4), codec=False, loads=loads))]
        for loads in ((), (0.5, 0.8))
    }
    most = "the most without a late step"
    assert cases == {
        (): ["1", "2", most],
        (0.5, 0.8): ["1", "2", "3", most, "1, 50% load, paced", "2, 80% load, paced"],
    }


def test_hours_of_music_tell_how_memory_grows(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the samples is that of the music: 1000 bytes a sample at 20 samples are 20 000 bytes an hour."""
    samples = iter(range(5000, 10**6, 1000))
    monkeypatch.setattr(memory, "in_use", lambda _: next(samples))
    monkeypatch.setattr("accomp.core.bench.cases.sessions.LEAST_SAMPLES", 10)
    (line,) = subject_lines(spec(), Sessions(hours=0.0005, codec=False))
    assert line.figures["n"] == 10
    assert line.figures["slope_b_per_hour"] == pytest.approx(1000 / 0.00005)
    assert (line.figures["begin_mb"], line.figures["end_mb"]) == (0.006, 0.014)


def test_loader_compares_with_the_published_code(bench: Any, spec: Any) -> None:
    words = ["--songs", "2", "--minutes", "0.1", "--stems", "2", "--processes", "1", "--seconds", "0.1"]
    (line,) = bench("loader", spec(), *words)
    clip = 50 / 50  # s
    assert line.figures["x_reference_rate"] == pytest.approx(line.figures["examples_s"] * clip / (326 * 20))
    assert line.figures["of_reference_bytes"] == pytest.approx(line.figures["example_kb"] / (164 * clip / 20))


def test_readers_that_fail_end_the_benchmark(tmp_path: Path) -> None:
    lost = Reading(tmp_path / "none.zarr", space_with(), 50, 4, PairRules(), 1, 0.1)
    with pytest.raises(WorkError, match="a reader ended with exit code 1"):
        lost.rates()


def subject_lines(path: str, benchmark: Any) -> list[BenchRow]:
    return measure(benchmark, path, (), tiny.registry())


# ------------------------------------------------------------------------------------------------ arithmetic


def test_a_step_reads_all_weights_but_the_embeddings_and_all_keys_and_values(spec: Any) -> None:
    found = small(spec, backbone={"plugin": "llama", "depth": 2, "heads": 4, "kv_heads": 2, "hidden": 32})
    model = found.model()
    live = SteadySessions(found, model, variants()[0], batch=3)
    weights = sum(weight.nbytes for weight in model.parameters())
    weights -= model.table.weight.nbytes + model.input_padding.nbytes
    cache = 2 * 2 * 2 * (16 // 4) * 4 * (50 + 1)  # layers, keys and values, heads, their width, bytes, window and start
    assert live.session_bytes == pytest.approx(cache, abs=1200)  # and a few numbers for each slot
    assert live.session_bytes >= cache
    assert live.step_bytes - 3 * live.session_bytes == pytest.approx(weights, abs=200)  # and angles, offsets of levels


def test_a_session_is_measured_with_its_window_full(spec: Any) -> None:
    for clock in ({"t_f": 2, "k": 1}, {"t_f": -3, "k": 4}, {"t_f": 3, "k": 4}):
        found = small(
            spec, clock=clock, objective={"plugin": "prefix"}, train={"steps": 1, "batch": 1, "frames": 20, "lr": 1e-3}
        )
        live = SteadySessions(found, found.model(), variants()[0])
        live.fill()
        assert live.frame().shape[2] == (1 if clock["k"] == 1 else 0)
        assert [live.frame().shape[2] for _ in range(clock["k"] - 1)] == [0] * (clock["k"] - 2) + [4] * (clock["k"] > 1)
        assert int(live.session.state.position[0]) >= 20


# ------------------------------------------------------------------------------------------------ comparing, mistakes


def test_an_earlier_record_is_compared(bench: Any, spec: Any, tmp_path: Path, capsys: Any) -> None:
    path, first = spec(), variants()[0].name
    bench("stream", path, "--steps", "2", "--variant", first)
    (tmp_path / "record.json").rename(tmp_path / "before.json")
    bench("stream", path, "--steps", "2", "--variant", first, "--compare", str(tmp_path / "before.json"))
    out = capsys.readouterr().out
    assert "the earlier record: " in out
    assert "p50 ms" in out.partition("the earlier record: ")[2]
    assert "another" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "which benchmark?"),
        (["stream", "quickstrt"], "did you mean 'quickstart'?"),
        (["stream", "--set", "model.wdth=3"], "did you mean 'width'?"),
        (["stream", "--variant", "eger float32"], "did you mean 'eager float32'? @ --variant"),
        (["stream", "streaming_chunked_small"], "clock.k = 10 is timed by `accomp bench chunk`"),
        (["chunk", "quickstart"], "clock.k = 1 is timed by `accomp bench stream`"),
        (["sessions", "stemgen_small"], "needs whole clips and has no steps to time @ stemgen_small"),
        (["mlm", "quickstart"], "plays while it listens: `accomp bench stream` @ quickstart"),
        (["mlm", "prefix_offline_small", "--variant", "compiled int8"], "never compiled; leave out compiled int8"),
        (["mlm", "--seconds", "0"], "'seconds' must be > 0"),
        (["sessions", "--hours", "-1"], "'hours' must be > 0"),
        (["codec", "--frames", "0"], "must be >= 1: 0 @ accomp bench codec"),
        (["loader", "--minutes", "0"], "'minutes' must be > 0"),
        (["train", "--device", "abacus"], "abacus"),
        (["stream", "--compare", "none.json"], "cannot read"),
        (["--calibrate", "stemgen_small"], "needs whole clips"),
        (["--calibrate", "quickstart", "--out", "a.pdf"], "ends with .html @ --out a.pdf"),
        (["--calibrate", "quickstart", "stream"], "stands alone"),
    ],
    ids=" ".join,
)
def test_mistakes_leave_with_2_and_no_traceback(words: list[str], said: str, capsys: Any) -> None:
    assert main(["bench", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_gpu_that_is_not_here_is_refused(capsys: Any) -> None:
    assert main(["bench", "train", "--device", "cuda"]) == 2
    assert "accomp doctor" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_is_measured_by_its_own_clock(spec: Any) -> None:
    (line,) = measure(Train(repeat=2), spec(), (), tiny.registry(), device="cuda")
    assert line.where == "cuda"
    assert 0 < line.figures["device_ms"] <= line.figures["p50_ms"] * 1.5
    assert line.figures["peak_mb"] > 0


def test_shipped_defaults_are_specs_that_each_benchmark_takes() -> None:
    from accomp.core.bench.suite.file import BENCHMARKS

    for cls in BENCHMARKS:
        assert subject(cls.default, (), Registry(third_party=False)).spec.train.frames


# ------------------------------------------------------------------------------------------------ runtimes


def test_a_compiled_variant_is_one_more_line_beside_eager(
    bench: Any, spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[Any] = []
    monkeypatch.setattr("accomp.core.streaming.step.captured_step", lambda step, *_: graphs.append(step) or step)
    words = ["--variant", "eager float32", "--variant", "compiled float32"]
    eager, compiled = bench("stream", spec(), "--steps", "50", *words)
    assert len(graphs) == 1
    assert (eager.case, compiled.case) == ("eager float32", "compiled float32")
    assert "speed" not in eager.figures
    assert compiled.figures["speed_low"] <= compiled.figures["speed"] <= compiled.figures["speed_high"]
    assert compiled.figures["step_mb"] == eager.figures["step_mb"]


def test_what_a_step_reads_shrinks_with_the_precision(spec: Any) -> None:
    """bfloat16 halves all; int8 leaves a quarter of the matrices of float32, and of the cache with its scales more."""
    found = small(spec, model={"width": 64}, backbone={"plugin": "llama", "depth": 2, "heads": 2})
    model = found.model()

    def live(**runtime: Any) -> SteadySessions:
        return SteadySessions(found, model, Variant("", Runtime(compile="off", **runtime)))

    full = live()
    assert live(weights="bfloat16").step_bytes == pytest.approx(full.step_bytes / 2, rel=0.02)
    small_weights = live(weights="int8").step_bytes - full.session_bytes
    assert small_weights == pytest.approx((full.step_bytes - full.session_bytes) / 4, rel=0.2)
    assert live(cache="int8").session_bytes == pytest.approx(full.session_bytes * (32 + 4) / (4 * 32), rel=0.1)
    assert live(weights="bfloat16").session_bytes < 0.6 * full.session_bytes


def test_sessions_run_as_the_spec_says(spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Runtime] = []
    monkeypatch.setattr(live, "prepared", lambda model, runtime: seen.append(runtime) or prepared(model, runtime))
    path = spec(runtime={"weights": "bfloat16", "compile": "off"})
    subject_lines(path, Sessions(batches=(1,), steps=1, codec=False))
    assert seen == [Runtime(compile="off", weights="bfloat16")]
    subject_lines(path, Sessions(batches=(1,), steps=1, codec=False, variant="eager float32"))
    assert seen[1:] == [Runtime(compile="off")]
