"""Every command line of the documentation is one that accomp understands: commands, arguments, options and keys."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer
from doc_pages import PAGES, ROOT, command_lines, inline_commands

from accomp.core.cli.main import with_plugin_commands
from accomp.core.registry import Registry
from accomp.core.spec.schema import load_spec

REGISTRY = Registry(third_party=False)
SHIPPED = {path.stem for path in (ROOT / "specs").glob("*.toml")}
LINES = sorted({(page, line) for page, text in PAGES.items() for line in command_lines(text)})
INLINE = sorted({(page, line) for page, text in PAGES.items() for line in inline_commands(text)})


def leaf(words: list[str]) -> tuple[Any, list[str]]:
    """The command that is called, and the words behind its name."""
    command = typer.main.get_command(with_plugin_commands(REGISTRY, words))
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


def words_of(line: str) -> list[str]:
    """The words of a line behind "accomp", up to a pipe, a redirection or a second command."""
    words = shlex.split(line.replace("...", ""))[1:]
    ends = [words.index(word) for word in ("|", ">", "&&", ";") if word in words]
    return words[: min(ends, default=len(words))]


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_command_line_is_understood(page, line):
    command, rest = leaf(words_of(line))
    if hasattr(command, "commands") and not command.invoke_without_command:
        assert rest in ([], ["--help"], ["--version"]), f"no command of accomp: {line}"
        return
    if rest != ["--help"] and "..." not in line:
        command.make_context("accomp", list(rest))


@pytest.mark.parametrize(("page", "line"), INLINE)
def test_a_command_in_the_text_is_there_with_its_options(page, line):
    words = words_of(line)
    if (words and words[0].isupper()) or line == "accomp group word":
        return
    command, rest = leaf(words)
    assert command.name != "accomp" or not rest or rest[0].startswith("-"), f"no command of accomp: {line}"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"--help", "--version"}
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known


def sets(line: str) -> tuple[str, list[str]] | None:
    """The shipped spec (quickstart for others) and the overrides of a line with --set."""
    words = words_of(line)
    given = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--set"]
    names = [word for word in words if word in SHIPPED and "grid" not in word]
    return (names[0] if names else "quickstart", given) if given else None


WITH_SETS = sorted({(page, line) for page, line in (*LINES, *INLINE) if sets(line)})


@pytest.mark.parametrize(("page", "line"), WITH_SETS)
def test_overrides_are_keys_of_a_spec(page, line):
    if "codec train" in line or "argmax" in line:
        return  # a spec of its own; a plugin that is installed in that page
    spec, given = sets(line) or ("", [])
    load_spec(spec, REGISTRY, [word for word in given if "VALUE" not in word])
