"""The command line. Each command imports what it runs when it runs, so that help and mistakes come back at once.

Errors and exit codes: exit_codes.py.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from accomp.core.bench.commands import bench
from accomp.core.cli import experiments, inspecting, playing
from accomp.core.cli.exit_codes import INTERRUPTED, exit_code
from accomp.core.cli.panels import CORPORA, GROUPS, INSPECT, OTHERS, PLAY, SERVE, application
from accomp.core.cli.telemetry import switch_off
from accomp.core.console import say, warn
from accomp.core.errors import PluginError
from accomp.core.registry import Registry
from accomp.core.serving.commands import jam_command, serve_command


def print_version(wanted: bool) -> None:
    """Print the version and end, where `--version` is given."""
    if wanted:
        import accomp

        say(f"accomp {accomp.__version__}")
        raise typer.Exit


def accomp(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an unexpected error.")] = False,
) -> None:
    """Streaming music accompaniment: experiments from spec files, parts from plugins."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (sys.argv where none is given) and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    switch_off()
    for stream in (sys.stdout, sys.stderr):  # a path may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        registry = Registry()
        for provider, why in registry.broken.items():
            warn(f"{provider} could not be used: {why}")
        command = typer.main.get_command(with_plugin_commands(registry, words))
        result = command.main(args=words, prog_name="accomp", obj=registry, standalone_mode=False)
        if result == INTERRUPTED:  # typer has swallowed a KeyboardInterrupt
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except Exception as error:
        return exit_code(error, debug=words[:1] == ["--debug"])
    except KeyboardInterrupt as error:
        return exit_code(error, debug=False)


def with_plugin_commands(registry: Registry, words: Sequence[str]) -> typer.Typer:
    """The application with a line for every component of kind "command"; only the one that is called is imported.

    A component "corpus mini-slakh" becomes `accomp corpus mini-slakh`, one named "tune" becomes `accomp tune`.
    Raises PluginError for a name that is one of our own commands or has more than two words.
    """
    whole = application(accomp)
    for part in (playing, experiments, inspecting):
        whole.registered_commands += part.app.registered_commands
    whole.command("jam", rich_help_panel=PLAY)(jam_command)
    whole.command("serve", rich_help_panel=SERVE)(serve_command)
    whole.add_typer(
        inspecting.store,
        name="store",
        help="Look into a token store; find out what has rotted.",
        rich_help_panel=CORPORA,
    )
    whole.add_typer(bench, name="bench", help="How fast the runtime is on this machine.", rich_help_panel=INSPECT)
    own = {command.name for command in whole.registered_commands} | {"store", "bench"}
    called = " ".join([word for word in words if not word.startswith("-")][:2]) + " "
    groups: dict[str, typer.Typer] = {}
    for component in registry.components("command"):
        first, *rest = component.name.split()
        if first in own or len(rest) > 1:
            raise PluginError(
                f"command {component.name!r} of {component.provider} would hide or nest a command of accomp"
            )
        if rest and first not in groups:
            groups[first] = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
        function = component.load() if called.startswith(f"{component.name} ") else _unused
        parent = groups[first] if rest else whole
        parent.command(component.name.split()[-1], help=None if function is not _unused else component.summary)(
            function
        )
    for name, group in groups.items():
        members = ", ".join(command.name or "" for command in group.registered_commands)
        panel = GROUPS.get(name, OTHERS)
        whole.add_typer(group, name=name, help=f"Commands of plugins: {members}.", rich_help_panel=panel)
    return whole


def _unused() -> None:
    """Stands for a plugin's command in the help of its group, where nothing is run."""


if __name__ == "__main__":
    sys.exit(main())
