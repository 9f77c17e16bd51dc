"""Reading ahead changes nothing but when: the same clips, the state of what was taken, errors where they belong."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from accomp.core.data.prefetch import DEPTH, PrefetchLoader
from accomp.core.errors import DataError
from accomp.core.types import CodeBatch


class Counting:
    """A loader whose n-th batch holds the number n, and which cannot read the one called `broken`."""

    def __init__(self, broken: int = -1):
        self.seen, self.broken = 0, broken

    def __next__(self) -> CodeBatch:
        if self.seen == self.broken:
            raise DataError(f"broken song {self.seen}")
        codes = torch.full((1, 1, 1), self.seen)
        self.seen += 1
        return CodeBatch(codes, codes, codes > 0, {})

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


def ahead(*given: Any) -> PrefetchLoader:
    loader: Any = Counting(*given)
    return PrefetchLoader(loader)


def numbers(batches: Iterator[CodeBatch], count: int) -> list[int]:
    return [int(next(batches).target) for _ in range(count)]


def test_the_same_batches_in_the_same_order_with_the_state_of_what_was_taken() -> None:
    with ahead() as batches:
        assert batches.state_dict() == {"seen": 0}
        for taken in range(1, 20):
            assert numbers(batches, 1) == [taken - 1]
            assert batches.state_dict() == {"seen": taken}
        state = batches.state_dict()
    with ahead() as resumed:
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        assert numbers(resumed, 3) == [19, 20, 21]


def test_no_more_is_read_than_lies_ready() -> None:
    loader: Any = Counting()
    with PrefetchLoader(loader) as batches:
        numbers(batches, 5)
    assert 5 <= loader.seen <= 5 + DEPTH + 1


def test_what_cannot_be_read_is_told_when_it_is_asked_for() -> None:
    with ahead(3) as batches:
        assert numbers(batches, 3) == [0, 1, 2]
        assert batches.state_dict() == {"seen": 3}
        with pytest.raises(DataError, match="broken song 3"):
            next(batches)


def test_the_thread_ends_with_the_block_also_when_nobody_takes_what_it_read() -> None:
    before = threading.active_count()
    with ahead() as batches:
        numbers(batches, 1)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(ZeroDivisionError), ahead() as batches:
        _ = 1 // numbers(batches, 1)[0]
    assert threading.active_count() == before


def test_waiting_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accomp.core.data.prefetch.time.perf_counter", itertools.count(step=0.25).__next__)
    with ahead() as batches:
        numbers(batches, 6)
        assert batches.waited == 6 * 0.25
