"""Before the first tick: how many sessions fit, which run does, and the command itself."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading

import attrs
import pytest
import tiny
from serving_small import Client, small_player

from accomp.core.clock import Clock, LatencyBudget
from accomp.core.errors import UserError
from accomp.core.registry import Registry
from accomp.core.serving.launch import ServeOptions, serve
from accomp.core.serving.playing.capacity import Capacity, measure_capacity, share_of
from accomp.core.serving.playing.engine import Engine
from accomp.core.serving.playing.fitting import Path, best, fit, measure
from accomp.core.serving.playing.runs import Followers, slots_of
from accomp.core.serving.playing.ticks import Ticks
from accomp.core.serving.security import AccessControl
from accomp.core.serving.server import Server
from accomp.core.serving.startup import COMPILED, FASTEST, TICKS, Startup, faster_settings
from accomp.core.spec.runtime import EAGER, Runtime


def test_the_greatest_number_of_sessions_that_leaves_time_is_found(monkeypatch):
    shares = {1: 0.1, 2: 0.2, 4: 0.69, 8: 0.71}
    monkeypatch.setattr(
        "accomp.core.serving.playing.capacity.share_of", lambda slots: shares[len(slots.places)], raising=True
    )
    player = small_player()
    found = measure_capacity({"small": player}, (1, 2, 4, 8, 16))
    assert (found.fits, dict(found.shares)) == (4, shares)
    assert len(found.slots["small"].places) == 4
    assert "4 sessions fit" in found.describe()
    two = measure_capacity({"a": player, "b": player}, (1, 2, 4))
    assert two.fits == 2
    too_slow = measure_capacity({"small": player}, (8,))
    assert (too_slow.fits, len(too_slow.slots["small"].places)) == (0, 8)
    with pytest.raises(UserError, match=r"0 sessions fit.*8: 71%.*--slots takes fewer.*--force"):
        Startup({}, Registry(third_party=False))._check_capacity(too_slow)
    Startup({}, Registry(third_party=False), force=True)._check_capacity(too_slow)
    Startup({}, Registry(third_party=False))._check_capacity(Capacity(4, shares))


def test_a_measurement_leaves_all_slots_free():
    slots = slots_of(small_player(), 3)
    assert share_of(slots, ticks=5) > 0
    budget = measure(slots, 5, warm=1)
    assert slots.free == 3
    assert budget.clock == Clock(-10, 1)
    assert min(budget.encode, budget.first, budget.decode) > 0


def budget_of(t_f: int, k: int = 1, **times: float) -> LatencyBudget:
    space = small_player().tokenizer.space
    return LatencyBudget(
        Clock(t_f, k), space, **{"encode": 1e-3, "first": 5e-3, "chunk": 5e-3, "decode": 1e-3, **times}
    )


def test_the_path_of_a_client_is_in_the_budget():
    plain = Path(32000, frame=0.02, first=0.06, rtt=0.01)
    one = fit("a", budget_of(-10), plain, clocked=False)
    assert one.fits
    assert abs(one.budget.input - (0.02 + 0.005)) < 1e-9
    assert abs(one.budget.output - (0.005 + 128 / 32000 + 0.06)) < 1e-9
    blocks = fit("a", budget_of(-10), attrs.evolve(plain, block=0.012), clocked=False)
    assert abs(blocks.budget.output - (0.005 + 0.012 + 0.06)) < 1e-9
    many = fit("a", budget_of(-10), plain, clocked=True)
    assert abs(many.budget.input - one.budget.input - 0.04 - 240 / 32000) < 1e-9
    assert one.as_record()["budget"][-1]["name"].startswith("left by t_f")
    far = fit("a", budget_of(-10), attrs.evolve(plain, first=0.3), clocked=False)
    assert not far.fits
    assert far.nearest()["t_f"] < -10


def test_of_the_runs_that_fit_the_one_that_looks_ahead_least_is_chosen():
    path = Path(32000, frame=0.02, first=0.02)
    fits = {str(t_f): fit(str(t_f), budget_of(t_f), path, clocked=False) for t_f in (-20, -10, -2)}
    assert best(fits).name == "-10"
    assert best({"-2": fits["-2"]}).name == "-2"
    slow = {name: fit(name, budget_of(-10, chunk=0.5, first=0.5), path, clocked=False) for name in "a"}
    assert not best(slow).fits
    assert slow["a"].nearest() is None


def test_a_late_minute_closes_the_door():
    clock = [0.0]
    ticks = Ticks(0.02, now=lambda: clock[0])
    for _ in range(3000):
        clock[0] += 0.02
        ticks.add(0.0, 0.01)
    assert ticks.in_time(1e-4)
    ticks.add(0.015, 0.01)
    assert ticks.late == 1
    assert not ticks.in_time(1e-4)
    assert abs(ticks.load - 0.5) < 0.01
    assert ticks.quantiles(0.5) == [0.01]
    for _ in range(3100):
        clock[0] += 0.02
        ticks.add(0.0, 0.01)
    assert ticks.in_time(1e-4)


def test_wrong_options_are_refused_before_anything_is_loaded(tmp_path):
    registry = Registry(third_party=False)
    for wanted, why in (
        (ServeOptions(["no such run"]), "neither a run folder nor a model"),
        (ServeOptions([str(tmp_path), str(tmp_path)]), "two runs have the name"),
        (ServeOptions([str(tmp_path)], host="0.0.0.0"), "browsers give no microphone"),
        (ServeOptions([str(tmp_path)], origins=["jam"]), "expected an origin"),
        (ServeOptions([str(tmp_path)], token_file=tmp_path / "none"), "cannot read the token"),
    ):
        with pytest.raises(UserError, match=why):
            serve(wanted, registry)


@pytest.fixture
def starts(monkeypatch, tmp_path):
    """start(mode, slots, again, weights): what a start measured, and the server's budget and slots. `start.runtimes`:
    the settings with which players were loaded then; `start.broken`: what the compiler says, if it fails.
    """
    from accomp.core.serving import saved_measures, startup

    measured: list[object] = []
    weights = ["w"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runtimes: list[tuple[str, ...]] = []

    def player_of(run, registry, guidance, runtime=()):
        runtimes.append(tuple(runtime))
        compiled = Runtime("on" if COMPILED[0] in runtime else "auto")
        return contextlib.nullcontext(attrs.evolve(small_player(), runtime=compiled))

    def slots_made(player, batch):
        if player.runtime.compile == "on" and start.broken:
            raise RuntimeError(*start.broken)
        return slots_of(attrs.evolve(player, runtime=EAGER), batch)

    monkeypatch.setattr(startup, "player_of", player_of)
    monkeypatch.setattr(startup, "slots_of", slots_made)
    monkeypatch.setattr(startup, "lacking", lambda device: "")
    monkeypatch.setattr(saved_measures, "playing_checkpoint", lambda run: run)
    monkeypatch.setattr(saved_measures, "weights_hash", lambda checkpoint: weights[0])
    budget = budget_of(-10)
    monkeypatch.setattr(startup, "measure", lambda slots, ticks, warm=20: measured.append(ticks) or budget)
    found = Capacity(2, {1: 0.3, 2: 0.5, 4: 0.8})

    def capacity(players, ladder, report):
        measured.append("capacity")
        return attrs.evolve(found, slots={name: slots_of(player, 2) for name, player in players.items()})

    monkeypatch.setattr(startup, "measure_capacity", capacity)

    def start(mode: str, slots: int | None = None, *, again: bool = False, of: str = "w"):
        weights[0] = of
        measured.clear()
        runtimes.clear()
        server = Server(mode, Engine(), AccessControl("a-token-of-this-test"))
        runs = {"small": tmp_path / "run"}
        served = Startup(runs, Registry(third_party=False), slots=slots, again=again).prepare(server, lambda text: None)
        return list(measured), server.measured["small"], len(served["small"].slots.places)

    start.runtimes, start.broken = runtimes, []
    return start


@pytest.mark.parametrize("mode", ["jam", "serve"])
def test_what_a_start_has_measured_holds_for_the_next_one_on_the_same_machine(starts, mode, capsys, tmp_path):
    first = starts(mode)
    assert ("capacity" in first[0]) == (mode == "serve")
    assert TICKS in first[0]
    second = starts(mode)
    assert second[0] == [1]  # its slots are only made warm
    assert second[1:] == first[1:]
    assert "measured on this machine on" in capsys.readouterr().out
    assert starts(mode, again=True)[0] == first[0]
    assert starts(mode, of="other weights")[0] == first[0]
    assert starts(mode, slots=3)[0] == first[0]  # another start
    for path in (tmp_path / "cache/accomp/serving").iterdir():
        path.write_text("{}")
    assert starts(mode)[0] == first[0]
    assert "no use of the measurements saved at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("budget", "jam", "serve"),
    [
        (budget_of(-10, chunk=2e-3), (), ()),  # busy 20 % of the time
        (budget_of(-10, chunk=8e-3), COMPILED, ()),  # 50 %
        (budget_of(-10, chunk=16e-3), COMPILED, FASTEST),  # 90 %, of 70 % at most
        (budget_of(-10, chunk=20e-3), FASTEST, FASTEST),  # 110 %
        (budget_of(-2, chunk=16e-3), (), ()),  # its codes alone take more than two frames
    ],
)
def test_a_model_is_made_faster_as_far_as_a_browser_or_its_own_slowness_asks_for(budget, jam, serve):
    assert (faster_settings(budget, clocked=False), faster_settings(budget, clocked=True)) == (jam, serve)


def test_a_model_beside_a_browser_is_compiled_at_the_first_start_and_at_the_next(starts, capsys):
    first = starts("jam")
    assert starts.runtimes == [(), COMPILED]
    assert "small takes 7 ms for each 20 ms of music: compiling it, once" in capsys.readouterr().out
    second = starts("jam")
    assert starts.runtimes == [(), COMPILED]
    assert second[1:] == first[1:]
    starts("serve")
    assert starts.runtimes == [()]


def test_a_model_plays_uncompiled_where_the_compiler_is_missing_or_fails(starts, monkeypatch, capsys):
    starts.broken.append("g++ was killed")
    for _ in range(2):  # nothing is saved, so that it is tried at each start
        assert starts("jam")[2] == 1
        assert starts.runtimes == [(), COMPILED]
        assert "small plays uncompiled, since its compilation failed: " in (told := capsys.readouterr().err)
        assert "g++ was killed" in told
    monkeypatch.setattr("accomp.core.serving.startup.lacking", lambda device: "this machine has no C++ compiler")
    for _ in range(2):
        assert starts("jam")[2] == 1
        assert starts.runtimes == [()]
        assert "cannot be compiled here: this machine has no C++ compiler" in capsys.readouterr().out


def test_a_model_that_was_compiled_and_no_longer_can_be_is_measured_anew(starts, capsys):
    assert TICKS in starts("jam")[0]
    starts.broken.append("no space left on device")
    assert TICKS in starts("jam")[0]
    assert "no space left on device" in capsys.readouterr().err


def test_what_does_not_fit_is_not_kept(starts, monkeypatch):
    from accomp.core.serving import startup

    slow = budget_of(-10, chunk=0.5, first=0.5)
    monkeypatch.setattr(startup, "measure", lambda slots, ticks, warm=20: slow)
    starts("jam")
    monkeypatch.setattr(startup, "measure", lambda slots, ticks, warm=20: budget_of(-10))
    assert starts("jam")[1] == budget_of(-10)


def test_followers_are_those_whose_libraries_are_there():
    registry = Registry(third_party=False)
    registry._rows = {key: row for key, row in registry._rows.items() if key[0] != "follower"}
    assert Followers.of(registry).available == {"metronome": False, "chart": False}


@attrs.frozen
class At:
    port: int


def test_the_command_serves_a_trained_run_and_ends_when_it_is_asked_to(trained, tmp_path):
    environment = {
        **tiny.install_at(tmp_path / "plugin"), "ACCOMP_TOKEN": "a-token-of-this-test",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }  # fmt: skip
    words = tiny.command("serve", str(trained.run), "--slots", "1", "--port", "0", "--force", "--record", str(tmp_path))
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    killer = threading.Timer(120, process.kill)
    killer.start()
    try:
        line = process.stdout.readline()
        while "open http" not in line:
            assert line, "it has ended"
            line = process.stdout.readline()
        port = int(re.search(r"127\.0\.0\.1:(\d+)/#token=a-token-of-this-test", line)[1])
        with Client(At(port)) as client:
            welcome = client.hello(token="a-token-of-this-test")
            assert welcome["mode"] == "serve"
            assert welcome["record"] is True
            assert welcome["models"][0]["name"] == trained.run.name
            assert welcome["models"][0]["t_f_ms"] == 40
        os.kill(process.pid, signal.SIGTERM)
        rest = process.communicate(timeout=60)[0]
        assert process.returncode == 0, rest
        assert "cannot be played live" in rest
        assert rest.strip().endswith("ended")
    finally:
        killer.cancel()
        process.kill()
        process.wait()
