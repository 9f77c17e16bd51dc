"""Errors that a user can cause and mend; the command line prints them without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """What was given, what was expected, where, and what to do. Exit code 2.

    `problems` holds one line per mistake, so that all of them are told at once.
    """

    def __init__(self, *problems: str):
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[UserError], tuple[str, ...]]:
        """Pickled with its lines apart, as a worker on another machine sends it."""
        return type(self), self.problems


class SpecError(UserError):
    """A spec file that cannot be read or whose values do not fit."""


class PluginError(UserError):
    """A plugin is unknown, provided twice, broken, or lacks its library."""


class CombinationError(UserError):
    """Parts that cannot work together; names both sides."""


class CheckpointError(UserError):
    """A checkpoint that is missing, truncated, or made for something else."""


class DataError(UserError):
    """A corpus, store, or audio file that is missing, empty, broken, or made by another codec."""


class WorkError(Exception):
    """The work failed though the input was in order; the text says why and what is kept. Exit code 1, no traceback."""


class Interrupted(Exception):
    """The user ended the work; the text says what is kept. Exit code 130, no traceback."""


class EmptyClip(ValueError):
    """A clip in which there is nothing to judge, such as silence; the text says what is missing. No failure."""
