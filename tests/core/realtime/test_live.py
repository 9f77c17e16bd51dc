"""accomp stream --realtime: by the clock on the wall, with stem and mix, and an account of what was late."""

from __future__ import annotations

import gc
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from fakes import EnergyTokenizer

from accomp.core.audio import io as audio
from accomp.core.cli.main import main
from accomp.core.clock import Clock, LatencyBudget
from accomp.core.errors import CombinationError, UserError, WorkError
from accomp.core.generation.stream import StreamRequest, stream
from accomp.core.realtime import live as realtime
from accomp.core.realtime.live import stream_live
from accomp.core.realtime.warmup import WarmUp, measure_latency
from accomp.core.runs.player import load_player

RATE = 32000
T_F = -30
"""Frames of 20 ms: so far ahead that even a busy machine plays in time."""


@pytest.fixture(scope="module")
def ahead(trained: tiny.Trained, tmp_path_factory: pytest.TempPathFactory) -> tiny.Trained:
    """The tiny experiment for a clock that can be played live, trained for a step."""
    from accomp.core.runs.folder import open_run
    from accomp.core.training.trainer import train

    made = tiny.Trained(tmp_path_factory.mktemp("ahead") / "run", trained.corpus, trained.store)
    steps = {**made.plain()["train"], "steps": 1, "warmup": 1}  # type: ignore[dict-item]
    spec = made.spec(clock={"t_f": T_F, "k": 1}, train=steps)
    open_run(spec)
    train(spec, made.registry, made.run)
    return made


@pytest.fixture(scope="module")
def input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.5 s of mono sound and a bit more than whole blocks."""
    path = tmp_path_factory.mktemp("input") / "in.wav"
    audio.write(path, tiny.tone(1.5, 1)[:-77], RATE)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rehearsal that finds a machine that needs 31 ms for a frame, whatever this one is doing."""

    def measured(player: Any, block: int, *, labels: Any, waits: tuple[float, float], **_: Any) -> WarmUp:
        clock, space = player.model.clock, player.tokenizer.space
        budget = LatencyBudget(clock, space, encode=0.002, first=0.005, chunk=0.005, decode=0.003, input=0.001, rho=0.7)
        return WarmUp(budget, block, 300, np.full(5, 0.001))

    monkeypatch.setattr(realtime, "measure_latency", measured)


def play(run: tiny.Trained, input: Path, output: Path, *, force: bool = False, **options: Any) -> np.ndarray:
    stream_live(StreamRequest(run.run, input, output, "Bass", **options), run.registry, force=force)
    return audio.read(output, RATE)


def numbers(words: str, told: str) -> tuple[float, ...]:
    """The numbers that stand for # in `words`, as they were told."""
    found = re.search(re.escape(words).replace(r"\#", r"(-?[\d.]+)"), told)
    assert found, f"{words!r} not in {told}"
    return tuple(map(float, found.groups()))


def test_a_file_is_accompanied_in_real_time_as_offline(
    ahead: tiny.Trained, input: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same stem where nothing was late, and silence where it was; a second of music takes a second."""
    began = time.monotonic()
    stem = play(ahead, input, tmp_path / "out.wav", seed=4, force=True)
    assert time.monotonic() - began > 1.4
    told = "".join(capsys.readouterr())  # a busy machine is warned of on stderr
    stream(StreamRequest(ahead.run, input, tmp_path / "offline.wav", "Bass", seed=4), ahead.registry)
    offline = audio.read(tmp_path / "offline.wav", RATE)
    assert len(stem) == len(offline) == len(audio.read(tmp_path / "out-mix.wav", RATE))
    (late, _), (missing, _, gaps, dropped) = (
        numbers("late chunks: # of #;", told),
        numbers("missing samples: # (# ms) in # gaps; dropped because they came after their place: #", told),
    )
    if not missing:
        np.testing.assert_allclose(stem, offline, atol=1e-4)
        assert (late, gaps, dropped) == (0, 0, 0)
    else:
        assert (stem != offline).sum() <= missing + gaps * 2 * 160
    for words in (
        "warmed up with 300 blocks of 20 ms", "99.9th percentile", "latency budget:", "of 70% at most",
        "played 1.50 s in real time, in blocks of 20 ms\n", "overruns: ",
    ):  # fmt: skip
        assert words in told, words
    if "the model has computed no step" not in told:
        p50, p99, p999, most, _, _ = numbers(
            "steps: # ms (p50), # ms (p99), # ms (p99.9), # ms at most; busy #% of the time; ahead by # ms at least",
            told,
        )
        assert 0 < p50 <= p99 <= p999 <= most


def test_what_cannot_be_played_live_is_refused_with_the_numbers_and_the_nearest_clock(
    trained: tiny.Trained, input: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A frame between two codebooks and 11 ms of work, for a model that looks 2 frames ahead of what it may hear."""
    with pytest.raises(CombinationError) as caught:
        play(trained, input, tmp_path / "out.wav")
    assert numbers(" # ms  needed", capsys.readouterr().out) == (31,)
    told = str(caught.value)
    assert numbers("t_f = # frames leaves # ms of the # ms needed (# frames)", told) == (2, -40, 31, 1.6)
    assert numbers("busy #% of the time, of #% at most", told) == (50, 70)
    assert numbers("; t_f = # frames could be", told) == (-2,)
    assert "--force" in told
    assert list(tmp_path.iterdir()) == []


def test_force_plays_all_the_same_and_what_is_late_is_silent(
    trained: tiny.Trained, input: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CombinationError):
        play(trained, input, tmp_path / "out.wav")
    stem = play(trained, input, tmp_path / "out.wav", force=True)
    out, err = capsys.readouterr()
    assert "warning: cannot be played live" in err
    assert "--force plays all the same" in err
    assert not stem.any()
    samples = len(audio.read(input, RATE))
    missing, *_ = numbers("missing samples: # (# ms) in # gaps", out)
    assert missing == samples
    assert numbers("late chunks: # of #;", out) == (75, 75)


def test_an_overloaded_machine_is_told_the_k_that_would_do() -> None:
    space = EnergyTokenizer.space_of(EnergyTokenizer.Config())
    budget = LatencyBudget(Clock(-50, 4), space, encode=0.001, first=0.04, chunk=0.07, decode=0.001, rho=0.7)
    with pytest.raises(CombinationError, match=r"at any t_f: .* busy 98% .*; t_f = -50, k = 1 frames could be @ "):
        realtime.check_budget(WarmUp(budget, 640, 3, np.ones(3)), "cpu", force=False)


@pytest.mark.parametrize("block", [640, 320])
def test_a_rehearsal_measures_what_playing_takes(ahead: tiny.Trained, block: int) -> None:
    player = load_player(ahead.run, ahead.registry, torch.device("cpu"))
    found = measure_latency(player, block, labels={}, waits=(0.25, 0.5))
    assert found.pieces == 300 * 640 // block
    assert len(found.whole) == 300  # with a piece of half a frame sound comes every other time
    budget = found.budget
    assert budget.input == pytest.approx(0.251)
    assert budget.output == pytest.approx(0.5)
    assert 0 < budget.first <= budget.first + budget.jitter <= found.whole.max()
    assert budget.rho == 0.7


def test_a_model_that_fails_ends_the_playing_and_what_was_played_is_kept(
    ahead: tiny.Trained, input: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(20))

    def breaks(self: Any, ended: Any) -> bool:
        if next(steps, None) is None:
            raise WorkError("the model broke")
        time.sleep(0.005)
        return False

    monkeypatch.setattr(realtime.ModelWorker, "step", breaks)
    with pytest.raises(WorkError, match="the model broke"):
        play(ahead, input, tmp_path / "out.wav")
    assert 0 < len(audio.read(tmp_path / "out.wav", RATE)) < len(audio.read(input, RATE))


def test_sigint_ends_it_and_what_was_played_is_written(ahead: tiny.Trained, tmp_path: Path) -> None:
    audio.write(tmp_path / "long.wav", tiny.tone(30, 1), RATE)
    environment = tiny.install_at(tmp_path / "site")
    words = ["stream", str(ahead.run), "--input", "long.wav", "--output", "out.wav", "--instrument", "Bass"]
    process = subprocess.Popen(
        tiny.command(*words, "--realtime", "--force"),
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    line = process.stderr.readline()
    while line and "late chunks" not in line:
        line = process.stderr.readline()
    assert re.match(r" +[\d.]+ s  (step [\d.]+ ms  )?buffer \d+ ms  late chunks \d+(  ahead by -?\d+ ms)?\n", line), (
        line
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    (seconds,) = numbers("played # s in real time", out)
    assert "then ended by SIGINT" in out
    stem, mix = (audio.read(tmp_path / name, RATE) for name in ("out.wav", "out-mix.wav"))
    assert len(stem) == len(mix)
    assert len(stem) / RATE == pytest.approx(seconds, abs=0.01)
    assert 0 < seconds < 30


def test_the_command_line_passes_on_what_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/x").mkdir(parents=True)
    seen = []
    monkeypatch.setattr("accomp.core.realtime.live.stream_live", lambda wanted, _, force: seen.append((wanted, force)))
    words = ["stream", "runs/x", "--input", "device:hw:0,0", "--output", "device", "--instrument", "Bass"]
    assert main([*words, "--realtime", "--chunk", "10"]) == 0
    assert main([*words, "--realtime", "--force", "--seed", "2"]) == 0
    usual = (Path("runs/x"), Path("device:hw:0,0"), Path("device"), "Bass")
    assert seen == [(StreamRequest(*usual, chunk=10.0), False), (StreamRequest(*usual, seed=2), True)]
    assert main([*words, "--force"]) == 2
    assert "--force" in capsys.readouterr().err


def test_garbage_is_collected_among_what_is_new_while_it_plays(
    ahead: tiny.Trained, input: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = []
    monkeypatch.setattr(realtime, "live_text", lambda *_: frozen.append(gc.get_freeze_count()) or "")
    play(ahead, input, tmp_path / "out.wav")
    assert frozen
    assert min(frozen) > 10_000, "objects"


def test_a_refusal_ends_with_2_and_no_traceback(
    trained: tiny.Trained, input: Path, tmp_path: Path, quick: None, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr("accomp.core.cli.main.Registry", lambda: trained.registry)
    words = ["stream", str(trained.run), "--input", str(input), "--output", str(tmp_path / "out.wav")]
    assert main([*words, "--instrument", "Bass", "--realtime"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: cannot be played live: t_f = 2 frames leaves -40 ms")
    assert "Traceback" not in err


def test_mistakes_are_told_before_anything_is_measured(ahead: tiny.Trained, input: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--chunk 0"):
        play(ahead, input, tmp_path / "out.wav", chunk=0)
    with pytest.raises(UserError, match="did you mean 'Bass'"):
        stream_live(StreamRequest(ahead.run, input, tmp_path / "out.wav", "Bas"), ahead.registry)
    assert sys.getswitchinterval() >= 0.005
    assert not gc.get_freeze_count(), "what was passed over while it played is collected again"
