"""The machine's best rates: work over the median of several timings, whatever the clock says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from accomp.core.compute import roofline as peaks


def clock(lengths: list[float]) -> Iterator[float]:
    """Times at which measurements of these lengths begin and end, the one to warm up first."""
    return itertools.accumulate([0.0, *itertools.chain.from_iterable((length, 10.0) for length in lengths)])


def test_rates_are_work_over_the_median_without_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [9.0, 1.0, 4.0, 0.5, 2.0, 8.0, 3.0, 0.25]
    monkeypatch.setattr("accomp.core.compute.roofline.time.perf_counter", clock(lengths).__next__)
    assert peaks.matmul_rate("cpu", torch.float32) == 2 * 1024**3 / 2.0
    monkeypatch.setattr("accomp.core.compute.roofline.time.perf_counter", clock(lengths).__next__)
    assert peaks.copy_bandwidth("cpu") == 2 * 2**27 / 2.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_multiplies_bfloat16_faster_than_it_copies() -> None:
    """Far more arithmetic than bytes: otherwise one of the two was not waited for."""
    assert peaks.matmul_rate("cuda", torch.bfloat16) > peaks.copy_bandwidth("cuda")
