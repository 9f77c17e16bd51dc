"""What is told of speed: a stopwatch that stands still between steps, and the work of a step by arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import tiny

from accomp.core.spec.build import build_model, space_of
from accomp.core.training.throughput import StepTimer, Timed, arithmetic, step_flops


def test_only_what_lies_between_go_and_rest_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 14.0, 100.0, 102.0])
    monkeypatch.setattr("accomp.core.training.throughput.time.perf_counter", clock.__next__)
    pace = StepTimer()
    pace.rest(1, 7.0)
    assert pace.total == Timed(0, 0.0, 0.0), "the first step"
    pace.go(1, 7.0)
    pace.rest(5, 8.0)
    first = pace.total
    pace.go(5, 8.5)
    pace.rest(6, 9.0)
    assert pace.total == Timed(5, 6.0, 1.5)
    assert pace.total.since(first) == Timed(1, 2.0, 0.5)
    assert (pace.total.data_wait, Timed().data_wait) == (0.25, 0.0)


def test_the_work_of_a_step_is_six_a_weight_and_token_and_that_of_attention() -> None:
    """Forward two, backward four; and queries by keys, weights by values, three times over."""
    plain: dict[str, Any] = tiny.plain(".", "run", "store")  # type: ignore[arg-type]
    plain["train"]["accumulate"] = 2
    spec, registry = tiny.spec_of(plain), tiny.registry()
    space = space_of(spec, registry)
    model = build_model(spec, space, registry)
    rows, width = model.layout.rows(spec.train.frames), spec.model.width
    looked_up = {"table.weight", "input_padding"}
    weights = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and name not in looked_up)
    clip = 6 * weights * rows + 3 * 2 * 2 * rows**2 * width
    assert step_flops(spec, space, registry) == clip * spec.train.batch * 2


def test_arithmetic_of_precisions() -> None:
    names = ("32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true")
    assert [str(arithmetic(name)).removeprefix("torch.") for name in names] == [
        "float32", "float16", "bfloat16", "float16", "bfloat16", "float64"
    ]  # fmt: skip
