"""Broken plugins: command."""

from broken_plugins.register import breaks


def good(folder: str) -> None:
    """Does nothing, well."""


@breaks("command", "has a docstring")
def _mute(folder: str) -> None: ...


_mute.__doc__ = None


@breaks("command", "is a function whose every parameter is annotated: no annotation on folder")
def bare(folder):
    pass


@breaks("command", "typer makes a command of it")
def untypable(folder: int | str) -> None:
    pass
