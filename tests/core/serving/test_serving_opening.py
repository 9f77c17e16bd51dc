"""Before the first tick: how many sessions fit, which run does, and the command itself."""

from __future__ import annotations

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
from accomp.core.serving.playing.fitting import Path, best, fit, measure
from accomp.core.serving.playing.runs import Followers, slots_of
from accomp.core.serving.playing.ticks import Ticks
from accomp.core.serving.startup import Startup


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


def test_followers_are_those_whose_libraries_are_there():
    registry = Registry(third_party=False)
    registry._rows = {key: row for key, row in registry._rows.items() if key[0] != "follower"}
    assert Followers.of(registry).available == {"metronome": False, "chart": False}


@attrs.frozen
class At:
    port: int


def test_the_command_serves_a_trained_run_and_ends_when_it_is_asked_to(trained, tmp_path):
    environment = {**tiny.install_at(tmp_path / "plugin"), "ACCOMP_TOKEN": "a-token-of-this-test"}
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
