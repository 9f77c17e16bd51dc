"""Checks of metrics: independence of order, weights by repetition, recognition of silence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch

from accomp.core.errors import EmptyClip
from accomp.core.testing.common import SPACE, PluginUnderTest
from accomp.core.testing.results import Findings, Mismatch, expect
from accomp.core.types import Loss, Take

SECONDS = 5.0
LATE = {"on the beat": 0.01, "early": -0.1, "late": 0.15, "a bit late": 0.05}
"""Test takes, by the delay (s) of the beats of their stems."""
NUMBERS = "update(take) and result() -> finite numbers by name"


def check(subject: PluginUnderTest, findings: Findings) -> None:
    """Check all properties of a metric."""
    metric: Any = None
    with findings.property("is built by cls(config, space) and states sample_rate and best"):
        built = subject.build(space=SPACE)
        rate = built.sample_rate
        expect(isinstance(rate, int) and rate > 0, f"sample_rate is {rate!r}")
        expect(isinstance(built.best, dict), f"best is {built.best!r}")
        metric = built
    with findings.property("no take at all is a ValueError that says so"):
        _expect_value_error(subject.build(space=SPACE).result)
    if metric is None:
        return
    takes = [_take(name, late, seed, rate) for seed, (name, late) in enumerate(LATE.items())]
    result = None
    with findings.property(NUMBERS):
        before = [take.stem.copy() for take in takes]
        for take in takes:
            metric.update(take)
        result = metric.result()
        expect(_finite(result), f"result() is {result}")
        untouched = all(np.array_equal(old, take.stem) for old, take in zip(before, takes, strict=True))
        expect(untouched, "update changed a take's audio")
    if result is None:
        return
    with findings.property("per_take: take id -> finite numbers, {} in metrics of sets"):
        each = metric.per_take()
        ids, expected = sorted(each), sorted(LATE)
        expect(ids == expected, f"ids {ids}, expected {expected}")
        expect(all(_finite(numbers) for numbers in each.values() if numbers), f"per_take() is {each}")

    def fresh() -> Any:
        return metric.fresh() if hasattr(metric, "fresh") else subject.build(space=SPACE)

    with findings.property("fresh() holds no take, and leaves the takes of the one it came from"):
        other = fresh()
        _expect_value_error(other.result)
        other.update(takes[0])
        expect(_same(result, metric.result()), f"{result} before, {metric.result()} after")
    with findings.property("the order of takes does not matter"):
        backward = _saw(fresh(), takes[::-1])
        expect(_same(result, backward), f"{result} one way, {backward} the other")
    with findings.property("result(takes) equals a metric that saw only these"):
        some, only = _over(metric, [take.id for take in takes[1:]]), _saw(fresh(), takes[1:])
        expect(_same(some, only), f"{some}, and {only} of a metric that saw only these")
    with findings.property("result(takes) counts an id that comes twice twice"):
        ids = [takes[0].id, *(take.id for take in takes)]
        twice, seen = _over(metric, ids), _saw(fresh(), [attrs.evolve(takes[0], id="again"), *takes])
        expect(_same(twice, seen), f"{twice}, and {seen} of a metric that saw the take under two ids")
        expect(_same(result, metric.result()), "result() is another one afterwards")
    with findings.property("a silent stem is judged, or raises EmptyClip and counts nowhere"):
        other = fresh()
        other.update(takes[1])
        silent = attrs.evolve(takes[0], stem=np.zeros_like(takes[0].stem))
        try:
            other.update(silent)
        except EmptyClip as empty:
            expect(str(empty) != "", "the EmptyClip has no text")
            single = fresh()
            single.update(takes[1])
            expect(sorted(other.per_take()) == [takes[1].id], f"per_take() tells of {sorted(other.per_take())}")
            expect(_same(_over(other, None), _over(single, None)), "result() is another one after a silent stem")
        else:
            values = other.per_take().get(silent.id)
            expect(values is not None and (not values or _finite(values)), f"per_take() gives {values} for it")
    with findings.property("a stem that is the context itself gives the stated best"):
        if metric.best:
            _check_best(fresh(), takes)


def _check_best(metric: Any, takes: Sequence[Take]) -> None:
    for take in takes:
        metric.update(attrs.evolve(take, stem=take.context.copy(), truth=take.context.copy()))
    seen = metric.result()
    missing = sorted(set(metric.best) - set(seen))
    expect(not missing, f"result() has no {', '.join(missing)}")
    off = {key: seen[key] for key, value in metric.best.items() if not math.isclose(seen[key], value, abs_tol=1e-3)}
    expect(not off, f"{off}, stated {metric.best}")


def _take(name: str, late: float, seed: int, rate: int) -> Take:
    """Synthesise a drum loop of 100 beats a minute, and a stem of another timbre with beats `late` (s)."""
    samples = round(SECONDS * rate)
    n = rate // 10
    rng = np.random.default_rng(seed)
    hits = rng.standard_normal((2, n)) * np.exp(-np.arange(n) / (0.2 * n))
    context, stem = np.zeros((2, samples), dtype=np.float32)
    for start in np.arange(0.2, SECONDS - 0.4, 0.6):
        context[round(start * rate) :][:n] += 0.3 * hits[0].astype(np.float32)
        stem[round((start + late) * rate) :][:n] += 0.2 * hits[1].astype(np.float32)
    nats, counted = rng.uniform(1.0, 3.0, (1, SPACE.codebooks, 50)), torch.ones(1, SPACE.codebooks, 50)
    losses = {name: Loss.over(torch.tensor(nats * more), counted) for name, more in (("own", 1.0), ("swapped", 1.1))}
    return Take(name, context, stem, rate, seed, stem.copy(), losses)


def _saw(metric: Any, takes: Sequence[Take]) -> dict[str, float] | None:
    for take in takes:
        metric.update(take)
    return _over(metric, None)


def _over(metric: Any, takes: Sequence[str] | None) -> dict[str, float] | None:
    """Return its result; None where it raises ValueError for too few takes."""
    try:
        found: dict[str, float] = metric.result() if takes is None else metric.result(takes)
    except ValueError:
        return None
    return found


def _expect_value_error(call: Any) -> None:
    try:
        value = call()
    except ValueError as error:
        expect(str(error) != "", "the ValueError has no text")
        return
    raise Mismatch(f"gave {value!r}")


def _finite(numbers: dict[str, float]) -> bool:
    return bool(numbers) and all(isinstance(value, float) and math.isfinite(value) for value in numbers.values())


def _same(a: dict[str, float] | None, b: dict[str, float] | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.keys() == b.keys() and all(math.isclose(a[key], b[key], rel_tol=1e-5, abs_tol=1e-7) for key in a)
