"""The container file of the live guide: what it copies, runs and starts is there."""

from __future__ import annotations

import json
import re
import runpy
import sys

import pytest
from doc_pages import PAGES, ROOT
from test_commands import leaf

LIVE = PAGES["docs/guides/live.md"].replace("\\\n", " ")


def container_file() -> dict[str, list[str]]:
    """Instruction -> its arguments, in order."""
    _, _, rest = LIVE.partition("    # Containerfile")
    lines = [line.strip() for line in rest.partition("\n\n")[0].splitlines()[1:]]
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _, arguments = line.partition(" ")
        found.setdefault(name, []).append(arguments)
    return found


FILE = container_file()


def test_it_starts_a_server_by_options_that_there_are():
    (start,), (words,) = FILE["ENTRYPOINT"], FILE["CMD"]
    program, *first = json.loads(start)
    assert program == ".venv/bin/accomp"
    (run,) = re.findall(r"docker run .* accomp +(.*)", LIVE)
    for more in (json.loads(words), run.split()):
        command, rest = leaf([*first, *more])
        context = command.make_context("accomp", list(rest))
        assert context.params["behind_proxy"]
        assert [context.params["port"]] == [int(port) for port in FILE["EXPOSE"]]


def test_it_installs_by_the_script_with_an_option_that_there_is(monkeypatch, capsys):
    (command,) = re.findall(r"\.venv/bin/python (\S+ .*)", " ".join(FILE["RUN"]).partition(" useradd")[0])
    path, *words = command.split()
    monkeypatch.setattr(sys, "argv", [path, *words[:2], "--check"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / path), run_name="__main__")
    assert "error:" not in capsys.readouterr().err, ended.value
    assert words[:2] == ["--torch", "cpu"]


def test_the_folder_of_recordings_is_made_and_given_to_the_user():
    (recordings,) = json.loads(FILE["CMD"][0])[2:]
    assert any(f"mkdir {recordings} && chown {FILE['USER'][0]} {recordings}" in run for run in FILE["RUN"])


def test_what_git_leaves_out_an_image_leaves_out():
    left_out = {line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().split()}
    assert FILE["COPY"] == [". ."]
    assert {".git", ".venv"} <= left_out
    assert {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()} <= left_out
