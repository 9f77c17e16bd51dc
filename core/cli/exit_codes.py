"""How a command that failed ends: what it says on stderr, and its exit code.

Exit codes: 0 done, 1 the work failed, 2 the input was wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

import typer

from accomp.core.errors import Interrupted, UserError, WorkError
from accomp.core.trouble import trouble_in, words

INTERRUPTED = 130


def exit_code(error: BaseException, *, debug: bool) -> int:
    """Report an error on stderr and return its exit code."""
    if isinstance(error, WorkError | Interrupted):
        _complain(str(error))
        return 1 if isinstance(error, WorkError) else INTERRUPTED
    if (trouble := trouble_in(error)) is not None:
        _complain(words(trouble))
        return 1
    if isinstance(error, UserError):
        for problem in error.problems:
            _complain(problem)
        return 2
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        _complain("interrupted; what was done is kept, run the same command again to go on")
        return INTERRUPTED
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error of typer or click
        error.show()
        return int(error.exit_code)
    _complain(f"unexpected {type(error).__name__}: {error}")
    if debug:
        traceback.print_exception(error)
    else:
        _keep("".join(traceback.format_exception(error)))
    return 1


def _keep(text: str) -> None:
    """Write a traceback where the last one was: a user's cache holds one such file, however many errors there are."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "accomp" / "traceback.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        _complain("`accomp --debug ...` shows the full traceback")
    else:
        _complain(f"the full traceback is in {path}; `accomp --debug ...` shows it")


def _complain(text: str) -> None:
    with suppress(OSError):  # stderr may be a closed terminal or a full disk
        print(f"error: {text}", file=sys.stderr, flush=True)
