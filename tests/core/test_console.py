"""What the person at the terminal sees."""

import io
from contextlib import nullcontext

from rich.console import Console

from accomp.core import console
from accomp.core.console import live_line, progress, say, warn


def test_results_go_to_stdout_and_warnings_to_stderr(capsys):
    say("[bold]two\nlines")
    warn("careful")
    out, err = capsys.readouterr()
    assert out == "[bold]two\nlines\n"
    assert err == "warning: careful\n"


def test_without_a_terminal_progress_is_plain_lines_and_the_last_is_the_whole(capsys):
    with progress("tokenizing", 4, every=0.0) as advance:
        for n in range(4):
            advance(1, note=f"song {n}")
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("tokenizing: 1/4 (25%), ")
    assert lines[-1].startswith("tokenizing: 4/4 (100%), ")
    assert lines[-1].endswith("song 3")


def test_plain_lines_are_few(capsys):
    with progress("training", 1000, every=3600.0) as advance:
        for _ in range(1000):
            advance()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["training: 1/1000 (0%)", "training: 1000/1000 (100%)"]


def test_an_unknown_total_and_work_that_ends_early_are_told(capsys):
    with progress("reading", None, every=3600.0) as advance:
        advance(3)
    with progress("reading", 10, every=3600.0) as advance:
        advance(1)
        advance(4)
    lines = [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["reading: 3", "reading: 3", "reading: 1/10 (10%)", "reading: 5/10 (50%)"]


def test_on_a_terminal_there_is_a_bar_with_the_note(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(console, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
    with progress("tokenizing [x]", 2) as advance:
        advance(1, note="[song]")
        advance(1, note="done [y]")
    assert "tokenizing [x]" in screen.getvalue()
    assert "2/2" in screen.getvalue()
    assert "done [y]" in screen.getvalue()


def test_a_live_line_without_a_terminal_is_told_now_and_then(capsys):
    with live_line(every=3600.0) as tell:
        for n in range(100):
            tell(f"at {n}")
    assert capsys.readouterr().err == "at 0\n"
    with live_line(every=0.0) as tell:
        tell("a")
        tell("b")
    assert capsys.readouterr().err == "a\nb\n"


def test_a_live_line_on_a_terminal_is_one_line_as_it_is(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(console, "Console", lambda **_: Console(file=screen, force_terminal=True, width=20))
    with live_line(every=3600.0) as tell:
        tell("[bold]now")
        tell("then " * 20)
    shown = screen.getvalue()
    assert "[bold]now" in shown
    assert "then then" in shown
    assert shown.count("\n") <= 2


def test_in_a_notebook_there_is_a_bar_where_widgets_are(monkeypatch, capsys):
    for widgets, lines in ((True, 0), (False, 1)):
        notebook = Console(file=io.StringIO(), force_jupyter=True)
        monkeypatch.setattr(console, "_console", lambda notebook=notebook: notebook)
        monkeypatch.setattr(console, "find_spec", lambda name, widgets=widgets: object() if widgets else None)
        monkeypatch.setattr(console, "_bar", lambda *_: nullcontext(lambda units=1, *, note="": None))
        with progress("train", 1) as advance:
            advance(1)
        assert len(capsys.readouterr().err.splitlines()) == lines
