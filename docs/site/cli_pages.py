"""The command line as Markdown, by the application itself, the commands of built-in plugins included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from accomp.core.cli.main import with_plugin_commands
from accomp.core.registry import Registry


def application() -> Any:
    """The whole application as a click group; every plugin's command is imported."""
    registry = Registry(third_party=False)
    whole = typer.main.get_command(with_plugin_commands(registry, ()))
    for component in registry.components("command"):
        loaded = typer.main.get_command(with_plugin_commands(registry, component.name.split()))
        words = component.name.split()
        group, source = whole, loaded
        for word in words[:-1]:
            group, source = group.commands[word], source.commands[word]
        group.commands[words[-1]] = source.commands[words[-1]]
    return whole


def leaves(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that is no group, or that runs without a subcommand, with its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield (*words, name), command
            yield from leaves(command, (*words, name))
        else:
            yield (*words, name), command


def commands() -> Iterator[str]:
    """One section a command: what it is for, its usage, and a table of arguments and options as its help has them."""
    for words, command in leaves(application()):
        name = " ".join(("accomp", *words))
        context = command.make_context(name, [], resilient_parsing=True)
        yield f"## {name}"
        yield "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
        yield f"    {command.get_usage(context).removeprefix('Usage: ')}"
        records = [parameter.get_help_record(context) for parameter in command.params]
        rows = [
            f"| `{' '.join(names.split())}` | {cell(text)} |"
            for names, text in filter(None, records)
            if names != "--help"
        ]
        if rows:
            yield "\n".join(["| option | |", "|---|---|", *rows])


def cell(text: str) -> str:
    """Words for one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
