"""The help of `accomp`, its commands grouped by what one wants to do."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

PLAY = "Listen and play"
TRAIN = "Train and judge"
CORPORA = "Corpora and codecs"
SERVE = "Serve"
INSPECT = "Inspect"
OTHERS = "Commands of plugins"
GROUPS = {"corpus": CORPORA, "codec": CORPORA}
"""Groups of plugins' commands that have a panel beside OTHERS."""
PANELS = (PLAY, TRAIN, CORPORA, SERVE, INSPECT, OTHERS)


class GroupedCommands(TyperGroup):
    """A command group whose help has a section for each panel, in the order of PANELS."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections; click calls it for `--help`."""
        names = [name for name in self.list_commands(ctx) if not self.commands[name].hidden]
        width = formatter.width - 6 - max(map(len, names), default=0)
        for panel in PANELS:
            rows = [
                (name.ljust(max(map(len, names))), self.commands[name].get_short_help_str(width))
                for name in names
                if panel_of(self.commands[name]) == panel
            ]
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)


def panel_of(command: Any) -> str:
    """The panel of a command; OTHERS where it names none."""
    panel = getattr(command, "rich_help_panel", None)
    return panel if panel in PANELS else OTHERS


def application(callback: Any) -> typer.Typer:
    """An empty `accomp` with this callback for its own options."""
    whole = typer.Typer(
        name="accomp", cls=GroupedCommands, no_args_is_help=True, add_completion=False, rich_markup_mode=None
    )
    whole.callback()(callback)
    return whole
