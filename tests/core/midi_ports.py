"""MIDI ports without a machine that has any: a backend of mido's shape, and clocks that send mido's messages to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import mido
import numpy as np


class Ports:
    """A backend with these inputs. Attributes: open: name of an open input -> its callback."""

    def __init__(self, *names: str):
        self.names = list(names)
        self.open: dict[str, Callable[[mido.Message], None]] = {}

    def get_input_names(self) -> list[str]:
        return list(self.names)

    def open_input(self, name: str, *, callback: Callable[[mido.Message], None]) -> Port:
        if name not in self.names:
            raise OSError(f"unknown port {name!r}")
        self.open[name] = callback
        return Port(self, name)

    def send(self, message: mido.Message) -> None:
        """To all that listen."""
        for callback in list(self.open.values()):
            callback(message)


class Port:
    def __init__(self, ports: Ports, name: str):
        self._ports, self._name = ports, name

    def close(self) -> None:
        del self._ports.open[self._name]


def ticks(bpm: float, beats: float, begin: float = 0.0, jitter: float = 0.0, seed: int = 0) -> Iterator[float]:
    """Times (s) of the ticks of so many beats from `begin` on, each up to `jitter` late, in order."""
    count = round(24 * beats)
    late = np.random.default_rng(seed).uniform(0, jitter, count) if jitter else np.zeros(count)
    times = begin + np.arange(count) * 60 / bpm / 24 + late
    yield from np.sort(times).tolist()
