"""Wrappers that measure the working time of the codec's streams and record the codes of a session."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from accomp.core.interfaces import Stream, Tokenizer
from accomp.core.streaming.session import TokenSession


def now(device: torch.device) -> float:
    """Synchronise the device and return the time (s)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class CodeRecorder:
    """A session wrapper that records the codes and counts their frames."""

    def __init__(self, tokens: TokenSession):
        self._tokens = tokens
        self.codes: list[Tensor] = []
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokens, name)

    def pull(self) -> Tensor:
        codes = self._tokens.pull()
        self.codes.append(codes)
        self.count += codes.shape[2]
        return codes


class TimedTokenizer:
    """A tokenizer wrapper that sums the working time of its streams (s)."""

    def __init__(self, tokenizer: Tokenizer, device: torch.device):
        self._tokenizer, self._device = tokenizer, device
        self.encode_time = self.decode_time = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encoder(self, batch: int = 1) -> Stream:
        return _TimedStream(self._tokenizer.encoder(batch), self._encoded)

    def decoder(self, batch: int = 1) -> Stream:
        return _TimedStream(self._tokenizer.decoder(batch), self._decoded)

    def _encoded(self, began: float) -> None:
        self.encode_time += self._since(began)

    def _decoded(self, began: float) -> None:
        self.decode_time += self._since(began)

    def _since(self, began: float) -> float:
        return now(self._device) - began


class _TimedStream:
    def __init__(self, stream: Stream, done: Callable[[float], None]):
        self._stream, self._done = stream, done

    def push(self, chunk: Tensor) -> Tensor:
        began = time.perf_counter()
        out = self._stream.push(chunk)
        self._done(began)
        return out

    def flush(self) -> Tensor:
        return self._stream.flush()

    def reset(self, rows: Tensor) -> None:
        self._stream.reset(rows)
