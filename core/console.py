"""Output to the terminal: results to stdout, warnings and progress to stderr."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Protocol, TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text


class Advance(Protocol):
    """Callback of `progress`: takes the units of work just done and an optional short note."""

    def __call__(self, units: float = 1, *, note: str = "") -> None: ...


class _Terminal:
    """A stream that ignores EIO, the error of a closed terminal, so that the work continues."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)  # None where another stream replaces stdout
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            if error.errno != errno.EIO:
                raise


def say(text: str) -> None:
    """Print a result or an announcement, one or more plain lines, to stdout."""
    print(text, file=_Terminal(sys.stdout), flush=True)


def warn(text: str) -> None:
    """Print a warning, which does not end the work, to stderr."""
    print(f"warning: {text}", file=_Terminal(sys.stderr), flush=True)


@contextmanager
def progress(description: str, total: float | None, *, every: float = 10.0) -> Iterator[Advance]:
    """Show progress: a bar on a terminal or in a notebook with ipywidgets, else a plain line on stderr each `every`
    seconds.

    `total` is the number of units, None where it is unknown. Yields a function to be called with each unit done.
    """
    console = _console()
    has_bar = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
    show = _bar(console, description, total) if has_bar else _lines(description, total, every)
    with show as advance:
        yield advance


@contextmanager
def live_line(*, every: float = 3.0) -> Iterator[Callable[[str], None]]:
    """Show one status line on stderr: updated in place on a terminal, else printed again each `every` seconds.

    Yields a function that takes the line; it may be called at any rate.
    """
    console = _console()
    if console.is_terminal:
        with Live(Text(), console=console, auto_refresh=False, redirect_stdout=sys.stdout.isatty()) as live:
            yield lambda text: live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
        return
    last = float("-inf")

    def line(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            print(text, file=_Terminal(sys.stderr), flush=True)

    yield line


def _console() -> Console:
    """Open a console on stderr."""
    return Console(file=cast(TextIO, _Terminal(sys.stderr)))


@contextmanager
def _bar(console: Console, description: str, total: float | None) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(description, total=total, note="")
        yield lambda units=1, *, note="": bar.update(task, advance=units, note=note)


@contextmanager
def _lines(description: str, total: float | None, every: float) -> Iterator[Advance]:
    done = 0.0
    latest = ""
    started = time.monotonic()
    last = float("-inf")

    def line() -> None:
        nonlocal last
        last = time.monotonic()
        of = f"/{total:g} ({100 * done / total:.0f}%)" if total else ""
        print(
            f"{description}: {round(done, 1):g}{of}, {last - started:.0f} s {latest}".rstrip(),
            file=_Terminal(sys.stderr),
            flush=True,
        )

    def advance(units: float = 1, *, note: str = "") -> None:
        nonlocal done, latest
        done += units
        latest = note
        if time.monotonic() - last >= every or (total and done >= total):
            line()

    yield advance
    if not total or done < total:
        line()
