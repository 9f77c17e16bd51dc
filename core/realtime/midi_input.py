"""A MIDI input port of this machine, through mido and python-rtmidi, from the extra `live`; its clock is followed."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from accomp.core.console import say, warn
from accomp.core.errors import DataError, PluginError
from accomp.core.realtime.midi_clock import MidiClock

INTERVAL = 2.0
"""Seconds between two looks at the ports of the machine."""
SILENT = 1.0
"""Seconds without a tick after which the sender has ended without a stop."""
RTMIDI = "mido.backends.rtmidi"
_ADDRESS = re.compile(r" \d+:\d+$")  # of an ALSA port, which is another one when the port comes back


class MidiBackend(Protocol):
    """What is used of mido.Backend."""

    def get_input_names(self) -> list[str]: ...
    def open_input(self, name: str, *, callback: Callable[[Any], None]) -> Any: ...


class RtMidi:
    """mido's backend but for the list of ports: mido makes two clients for each, which interrupts others at JACK."""

    def __init__(self, backend: Any):
        """backend: mido.Backend, loaded."""
        self._backend, rtmidi = backend, backend.module.rtmidi
        api = getattr(rtmidi, f"API_{backend.api}") if backend.api else rtmidi.API_UNSPECIFIED
        self._make_client = partial(rtmidi.MidiIn, rtapi=api)
        self._client: Any = None

    def get_input_names(self) -> list[str]:
        """Names of the ports, by one client that is kept."""
        if self._client is None:
            self._client = self._make_client()
        names: list[str] = self._client.get_ports()
        return names

    def open_input(self, name: str, *, callback: Callable[[Any], None]) -> Any:
        """Open a port."""
        return self._backend.open_input(name, callback=callback)


def load_midi() -> MidiBackend:
    """Load mido with python-rtmidi. Raises PluginError, with the cure, if one of them or ALSA's library is missing."""
    try:
        import mido

        backend = mido.Backend(load=True)
    except ModuleNotFoundError as error:
        raise PluginError(
            f"a MIDI clock needs the libraries mido and python-rtmidi ({error}); run: pip install 'accomp[live]'"
        ) from error
    except ImportError as error:
        raise PluginError(
            f"python-rtmidi, which a MIDI clock needs, cannot be loaded ({error}); Debian, Ubuntu: apt-get install "
            f"libasound2"
        ) from error
    return RtMidi(backend) if backend.name == RTMIDI else backend  # another of mido's, by its MIDO_BACKEND


class MidiInput:
    """An open port. `watch` runs a thread that reports a port that vanishes, and opens it again once it is back.

    Attributes:
        name: of the port.
        clock: its clock.
        gone: the port is not there at present.
    """

    def __init__(self, wanted: str, backend: MidiBackend | None = None, now: Callable[[], float] = time.monotonic):
        """Open the port of this name, or the only one whose name contains it. `now`: s, of the clock's times.

        Raises PluginError without the libraries, DataError for a port that does not exist or cannot be opened.
        """
        self._backend = load_midi() if backend is None else backend
        self._now = now
        self.clock, self.gone = MidiClock(), False
        self.name = find_port(wanted, input_names(self._backend))
        self._ended = threading.Event()
        self._port = self._open(self.name)

    def _open(self, name: str) -> Any:
        try:
            return self._backend.open_input(name, callback=self._receive)
        except Exception as error:  # of any backend
            raise DataError(f"the MIDI input {name!r} cannot be opened: {error} @ --midi-clock {name}") from error

    def _receive(self, message: Any) -> None:
        self.clock.receive(message.type, self._now(), getattr(message, "pos", 0))

    def look(self) -> None:
        """Look whether the port is there, and report a change."""
        try:
            names = self._backend.get_input_names()
        except Exception:  # of any backend: without ports
            names = []
        there = [name for name in names if _ADDRESS.sub("", name) == _ADDRESS.sub("", self.name)]
        if not self.gone and self.name not in there:
            self.gone = True
            self._close()
            self.clock.withhold()
            warn(self.problem)
        if self.gone and there:
            try:
                self._port = self._open(there[0])
            except DataError:  # not yet
                return
            self.name, self.gone = there[0], False
            say(f"the MIDI input {self.name!r} is back")

    @property
    def silent(self) -> bool:
        """Whether no tick has come for SILENT seconds."""
        return self.clock.last is None or self._now() - self.clock.last > SILENT

    @property
    def problem(self) -> str:
        """What is wrong with the port, for people; "" if nothing is."""
        if not self.gone:
            return ""
        return f"the MIDI input {self.name!r} has vanished; the beat is withheld until it is back"

    def watch(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._watch, name="midi", daemon=True).start()

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL):
            self.look()

    def close(self) -> None:
        """End the thread and release the port."""
        self._ended.set()
        self._close()

    def _close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.close()


def input_names(backend: MidiBackend) -> list[str]:
    """Names of the MIDI inputs of this machine. Raises DataError if it has no MIDI."""
    try:
        return backend.get_input_names()
    except Exception as error:  # of any backend
        raise DataError(
            f"MIDI cannot be used on this machine: {str(error).rstrip('.')}; on Linux it needs ALSA's sequencer "
            f"(modprobe snd-seq) or JACK @ --midi-clock"
        ) from error


def find_port(wanted: str, names: list[str]) -> str:
    """Find the port of a name, or the only one whose name contains it. Raises DataError with a list of the ports."""
    if wanted in names:
        return wanted
    found = [name for name in names if wanted.casefold() in name.casefold()]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(repr(name) for name in found or names) or "none"
    if found:
        raise DataError(f"{len(found)} MIDI inputs fit; name one of them: {listed} @ --midi-clock {wanted}")
    raise DataError(
        f"there is no such MIDI input; the inputs of this machine: {listed} (the program that sends the clock must be "
        f"running) @ --midi-clock {wanted}"
    )
