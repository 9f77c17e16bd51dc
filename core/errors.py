"""Errors that a user can cause and correct. The command line prints them without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A mistake of the user: the given value, the expected one, the place, and the remedy. Exit code 2.

    Attributes:
        problems: one line a mistake, so that all of them are reported at once.
    """

    def __init__(self, *problems: str):
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[UserError], tuple[str, ...]]:
        """Pickle the lines separately, for workers in other processes."""
        return type(self), self.problems


class SpecError(UserError):
    """A spec file that is unreadable or has invalid values."""


class PluginError(UserError):
    """A plugin that is unknown, provided twice, broken, or without its library."""


class CombinationError(UserError):
    """Incompatible parts; the message names both."""


class CheckpointError(UserError):
    """A checkpoint that is missing, truncated, or made for another model."""


class DataError(UserError):
    """A corpus, store or audio file that is missing, empty, broken, or of another codec."""


class WorkError(Exception):
    """A failure although the input was valid; the text gives the cause and the results that are kept. Exit code 1, no
    traceback.
    """


class Interrupted(Exception):
    """An interruption by the user; the text names the results that are kept. Exit code 130, no traceback."""


class EmptyClip(ValueError):
    """A clip with nothing to score, such as silence. The text gives the reason; this is no failure."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
