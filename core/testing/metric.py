"""What a metric promises: order does not matter, nothing is an error, and identical audio gives its stated best."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accomp.core.testing.common import SPACE, Subject
from accomp.core.testing.findings import Findings, Mismatch, expect
from accomp.core.types import Take

SECONDS = 3.0


def check(subject: Subject, findings: Findings) -> None:
    """All properties of a metric."""
    rate = None
    with findings.property("is built by cls(config, space) and states sample_rate and best"):
        metric = subject.build(space=SPACE)
        expect(isinstance(metric.sample_rate, int) and metric.sample_rate > 0, f"sample_rate is {metric.sample_rate!r}")
        expect(isinstance(metric.best, dict), f"best is {metric.best!r}")
        rate = metric.sample_rate
    with findings.property("no take at all is a ValueError that says so"):
        _expect_value_error(subject.build(space=SPACE).result)
    if rate is None:
        return
    takes = [_take("on the beat", 0.01, rate), _take("early", -0.1, rate)]
    forward = subject.build(space=SPACE)
    result = None
    with findings.property("update(take) and result() -> finite numbers by name"):
        before = [take.stem.copy() for take in takes]
        for take in takes:
            forward.update(take)
        result = forward.result()
        odd = {key: value for key, value in result.items() if not (isinstance(value, float) and math.isfinite(value))}
        expect(bool(result) and not odd, f"result() is {result}")
        untouched = all(np.array_equal(old, take.stem) for old, take in zip(before, takes, strict=True))
        expect(untouched, "update changed a take's audio")
    with findings.property("per_take: take id -> numbers"):
        ids = sorted(forward.per_take())
        wanted = sorted(take.id for take in takes)
        expect(ids == wanted, f"ids {ids}, expected {wanted}")
    with findings.property("the order of takes does not matter"):
        backward = subject.build(space=SPACE)
        for take in reversed(takes):
            backward.update(take)
        other = backward.result()
        expect(result is not None and _same(result, other), f"{result} one way, {other} the other")
    with findings.property("a stem that is the context itself gives the stated best"):
        twin = subject.build(space=SPACE)
        context = takes[0].context
        twin.update(Take("twin", context, context.copy(), rate, 0, context.copy()))
        seen = twin.result()
        missing = sorted(set(twin.best) - set(seen))
        expect(not missing, f"result() has no {', '.join(missing)}")
        off = {key: seen[key] for key, value in twin.best.items() if not math.isclose(seen[key], value, abs_tol=1e-3)}
        expect(not off, f"{off}, stated {twin.best}")


def _take(name: str, late: float, rate: int) -> Take:
    """A drum loop of 100 beats a minute, the same each time, and a stem whose beats come `late` (s)."""
    samples = round(SECONDS * rate)
    n = rate // 10
    hit = (np.random.default_rng(0).standard_normal(n) * np.exp(-np.arange(n) / (0.2 * n))).astype(np.float32)
    context, stem = np.zeros((2, samples), dtype=np.float32)
    for start in np.arange(0.2, SECONDS - 0.2, 0.6):
        context[round(start * rate) :][:n] += 0.3 * hit
        stem[round((start + late) * rate) :][:n] += 0.2 * hit
    return Take(name, context, stem, rate, 0, stem.copy())


def _expect_value_error(call: Any) -> None:
    try:
        value = call()
    except ValueError as error:
        expect(str(error) != "", "the ValueError has no text")
        return
    raise Mismatch(f"gave {value!r}")


def _same(a: dict[str, float], b: dict[str, float]) -> bool:
    return a.keys() == b.keys() and all(math.isclose(a[key], b[key], rel_tol=1e-6, abs_tol=1e-9) for key in a)
