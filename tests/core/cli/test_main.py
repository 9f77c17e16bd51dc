"""The command line: what each command calls, exit codes, words instead of tracebacks, and commands from plugins."""

import errno
import importlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import typer

from accomp.core.cli import doctor
from accomp.core.cli.main import main
from accomp.core.cli.panels import CORPORA, PANELS, PLAY, TRAIN
from accomp.core.errors import CheckpointError, WorkError
from accomp.core.generation.stream import StreamRequest
from accomp.core.registry import Registry
from accomp.core.spec.schema import load_spec, resolve

STAGES = {
    "ingest": "accomp.core.data.ingest.stage:ingest",
    "train": "accomp.core.training.trainer:train",
    "generate": "accomp.core.generation.generate:generate",
    "evaluate": "accomp.core.evaluation.evaluate:evaluate",
    "report": "accomp.core.report:write_report",
}


@pytest.fixture
def stages(monkeypatch):
    """Stages that do nothing but note (name, spec, arguments after the registry)."""
    calls = []
    for stage, target in STAGES.items():
        module, _, function = target.partition(":")
        stand_in = lambda spec, registry, *rest, name=stage: calls.append((name, spec, rest))  # noqa: E731
        monkeypatch.setattr(importlib.import_module(module), function, stand_in)
    return calls


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ------------------------------------------------------------------------------------------------ commands


def test_help_and_lists_need_neither_torch_nor_a_plugins_code():
    code = (
        "import sys\nfrom accomp.core.cli.main import main\n"
        "for words in (['--help'], ['plugins'], ['plugins', '--json'], ['corpus', '--help'], ['train', '--help']):\n"
        "    assert main(words) == 0, words\n"
        "print([name for name in ('torch', 'lightning', 'numpy', 'accomp.plugins') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_command_and_the_groups_of_plugins(capsys):
    assert main(["--help"]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    own = {"doctor", "plugins", "check", "check-plugin", *STAGES, "run", "stream"}
    groups = {row.name.split()[0] for row in Registry().components("command")}
    assert own | groups <= listed


def test_help_groups_the_commands_by_what_one_wants_to_do(capsys):
    assert main(["--help"]) == 0
    sections = {}
    for block in capsys.readouterr().out.split("\n\n"):
        title, *lines = block.strip("\n").split("\n")
        sections[title.strip().removesuffix(":")] = [line.split()[0] for line in lines if line.startswith("  ")]
    assert [title for title in sections if title in PANELS] == list(PANELS)
    assert {"stream", "layer", "jam", "compile"} == set(sections[PLAY])
    assert {"train", "evaluate", "compare", "grid"} <= set(sections[TRAIN])
    assert {"ingest", "store", "corpus", "codec"} == set(sections[CORPORA])
    commands = [name for title in PANELS for name in sections[title]]
    assert len(commands) == len(set(commands))


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"accomp {metadata.version('accomp')}\n"


def test_plugins_lists_kind_name_provider_and_summary(capsys):
    assert main(["plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    components = Registry().components()
    assert [(r["kind"], r["name"], r["provider"], r["summary"]) for r in rows] == [
        (c.kind, c.name, c.provider, c.summary) for c in components
    ]
    assert main(["plugins", "--kind", "sampler"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["sampler", c.name] for c in components if c.kind == "sampler"]
    assert main(["plugins", "--kind", "smapler"]) == 2
    assert "did you mean 'sampler'?" in capsys.readouterr().err


def test_plugins_reports_a_broken_one_and_lists_the_others(install, capsys):
    install("accomp-broken", "import a_library_that_is_missing")
    assert main(["plugins", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == len(Registry(third_party=False).components())
    assert "warning: accomp-broken 1.0 could not be used: ModuleNotFoundError" in err


def test_check_accepts_the_shipped_spec_and_makes_nothing(folder, capsys):
    assert main(["check", "quickstart"]) == 0
    assert capsys.readouterr().out == "quickstart is in order\n"
    assert list(folder.iterdir()) == []


def test_check_tells_every_problem_and_leaves_with_2(folder, capsys):
    assert main(["check", "quickstart", "--set", "train.stpes=1", "--set", "train.batch=0"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "error: unknown key 'stpes'; did you mean 'steps'? @ " in err
    assert "error: 'batch' must be >= 1: 0 @ " in err
    assert "Traceback" not in err


def test_check_refuses_parts_that_do_not_fit(folder, capsys):
    assert main(["check", "quickstart", "--set", "clock.k=4", "--set", "model.width=191"]) == 2
    err = capsys.readouterr().err
    assert "clock.k = 4" in err
    assert "width 191" in err


def test_check_plugin_prints_what_was_checked(capsys):
    assert main(["check-plugin", "sampler", "top_k", "--config", "k=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 5
    assert all(line.startswith("ok  ") for line in lines)
    assert main(["check-plugin", "sampler", "top_k", "--config", "k=0"]) == 2
    assert "error: k: 'k' must be >= 1: 0" in capsys.readouterr().err


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_is_a_command(stage, stages, folder):
    assert main([stage, "quickstart", "--set", "train.steps=7", "--run", "elsewhere"]) == 0
    ((name, spec, rest),) = stages
    assert name == stage
    assert spec.train.steps == 7
    assert rest in ((), (Path("elsewhere"),))
    assert json.loads((folder / "elsewhere" / "spec.json").read_text()) == resolve(spec)


def test_run_does_all_stages_in_order_in_the_specs_folder(stages, folder):
    assert main(["run", "quickstart"]) == 0
    assert [name for name, _, _ in stages] == list(STAGES)
    assert all(rest == (Path("runs/quickstart"),) for name, _, rest in stages if name != "ingest")
    assert stages[0][1] == load_spec("quickstart", Registry())


def test_another_spec_in_the_same_run_folder_is_refused_before_anything_runs(stages, folder, capsys):
    assert main(["run", "quickstart"]) == 0
    (folder / "runs/quickstart/takes.json").touch()
    stages.clear()
    assert main(["run", "quickstart", "--set", "model.width=64"]) == 2
    err = capsys.readouterr().err
    assert "model.width is 64 now, 192 there" in err
    assert "--run NEW" in err
    assert stages == []
    assert main(["run", "quickstart", "--set", "model.width=64", "--run", "runs/narrow"]) == 0


def test_a_stage_that_fails_stops_those_after_it(stages, folder, monkeypatch):
    def fail(*_):
        raise WorkError("diverged")

    monkeypatch.setattr("accomp.core.training.trainer.train", fail)
    assert main(["run", "quickstart"]) == 1
    assert [name for name, _, _ in stages] == ["ingest"]


def test_stream_passes_on_what_it_is_told(monkeypatch, folder):
    seen = []
    Path("runs/x").mkdir(parents=True)
    monkeypatch.setattr("accomp.core.generation.stream.stream", lambda *given: seen.append(given))
    words = ["stream", "runs/x", "--input", "in.wav", "--output", "out.wav", "--instrument", "Bass"]
    assert main([*words, "--seed", "3", "--chunk", "5"]) == 0
    scales = ["--guidance", "context=2", "--guidance", "genre=-1.5"]
    assert main([*words, "--condition", "genre=jazz", *scales, "--runtime", "compile=on"]) == 0
    (first, registry), (second, _) = seen
    assert isinstance(registry, Registry)
    usual = (Path("runs/x"), Path("in.wav"), Path("out.wav"), "Bass")
    assert first == StreamRequest(*usual, seed=3, chunk=5.0)
    guidance = {"context": 2.0, "genre": -1.5}
    assert second == StreamRequest(*usual, conditions=("genre=jazz",), guidance=guidance, runtime=("compile=on",))


# ------------------------------------------------------------------------------------------------ exit codes


@pytest.fixture
def doctor_raises(monkeypatch):
    """Lets one command, `accomp doctor`, raise what a test wants."""

    def arrange(error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(doctor, "doctor", fail)

    return arrange


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (CheckpointError("truncated @ x", "no weights @ y"), 2, ["error: truncated @ x", "error: no weights @ y"]),
        (WorkError("the loss is NaN at step 3"), 1, ["error: the loss is NaN at step 3"]),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 1, ["the disk is full", "@ a/b", "make room"]),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1, ["the disk is full: Disk quota exceeded"]),
        (MemoryError("too big"), 1, ["out of memory: too big", "train.batch"]),
        (KeyboardInterrupt(), 130, ["interrupted", "run the same command again"]),
        (typer.Exit(3), 3, []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_expected_endings_have_their_code_and_no_traceback(doctor_raises, capsys, error, code, words):
    doctor_raises(error)
    assert main(["doctor"]) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    for text in words:
        assert text in err


def test_a_full_disk_is_told_whatever_was_made_of_it_on_the_way(monkeypatch, capsys):
    def write(*_, **__):
        try:
            with open("/dev/full", "w") as file:
                file.write("x" * 100_000)
        except OSError as error:
            raise CheckpointError("cannot write") from error

    monkeypatch.setattr(doctor, "doctor", write)
    assert main(["doctor"]) == 1
    assert "error: the disk is full: No space left on device" in capsys.readouterr().err


def test_an_unexpected_error_is_one_line_and_its_traceback_is_in_a_file(doctor_raises, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    doctor_raises(RuntimeError("boom"))
    for _ in range(2):
        assert main(["doctor"]) == 1
    assert len(list((tmp_path / "accomp").iterdir())) == 1
    err = capsys.readouterr().err
    assert "error: unexpected RuntimeError: boom" in err
    assert "Traceback" not in err
    path = Path(err.partition("the full traceback is in ")[2].partition(";")[0])
    assert "raise error\nRuntimeError: boom" in path.read_text()


def test_debug_shows_the_traceback(doctor_raises, capsys):
    doctor_raises(RuntimeError("boom"))
    assert main(["--debug", "doctor"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "the full traceback is in" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [(["trian"], "trian"), (["train"], "SPEC"), (["train", "x", "--stes"], "--stes"), (["doctor", "x"], "x")],
    ids=" ".join,
)
def test_a_usage_error_leaves_with_2(words, said, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_a_missing_spec_leaves_with_2(folder, capsys):
    for command in ("check", "run", "train"):
        assert main([command, "quickstrt"]) == 2
        assert "did you mean 'quickstart'?" in capsys.readouterr().err


def test_the_installed_program_exits_with_the_code():
    program = Path(sys.executable).with_name("accomp")
    done = subprocess.run([program, "check", "no/such/spec.toml"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: no such spec file; shipped specs: " + done.stderr.partition("shipped specs: ")[2]


# ------------------------------------------------------------------------------------------------ plugins' commands

GARDEN = """
from accomp.core.hooks import hookimpl
from accomp.core.component import Component

@hookimpl
def accomp_components():
    return [Component("command", name, f"garden_code:{target}", summary, "more") for name, target, summary in ROWS]
"""

CODE = '''
from importlib import metadata
from pathlib import Path
from typing import Annotated
import typer
from accomp.core.console import say
from accomp.core.errors import DataError

def plant(where: Path, rows: Annotated[int, typer.Option(help="How many.")] = 1) -> None:
    """Plant something."""
    say(f"{rows} rows in {where}")

def water() -> None:
    """Water everything."""
    raise DataError("no water")
'''


@pytest.fixture
def garden(install, monkeypatch):
    """A package with commands; returns a function that takes their rows and the source of its code."""

    def add(rows, code=CODE):
        folder = install("accomp-garden", GARDEN.replace("ROWS", repr(rows)))
        (folder / "garden_code.py").write_text(code)
        monkeypatch.delitem(sys.modules, "garden_code", raising=False)

    return add


ROWS = [
    ("garden plant", "plant", "plant a row"),
    ("garden water", "water", "water it"),
    ("rain", "water", "let it rain"),
]


def test_a_plugins_commands_are_lines_of_accomp(garden, capsys):
    garden(ROWS)
    assert main(["garden", "plant", "field", "--rows", "3"]) == 0
    assert capsys.readouterr().out == "3 rows in field\n"
    assert main(["--debug", "garden", "plant", "field"]) == 0
    assert main(["rain"]) == 2
    assert capsys.readouterr().err == "error: no water\n"
    assert main(["garden", "plant"]) == 2
    assert main(["garden", "pland"]) == 2


def test_help_shows_a_plugins_commands_without_importing_them(garden, capsys):
    garden(ROWS, code="import a_library_that_is_missing")
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "garden" in out
    assert "let it rain" in out
    assert main(["garden", "--help"]) == 0
    out = capsys.readouterr().out
    assert "plant a row" in out
    assert "water it" in out


def test_a_command_whose_library_is_missing_names_the_extra(garden, capsys):
    garden(ROWS, code="import a_library_that_is_missing")
    assert main(["garden", "plant", "field"]) == 2
    assert "pip install 'accomp-garden[more]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "train fast", "one two three"])
def test_a_plugin_cannot_hide_a_command_or_nest_deeper(garden, capsys, name):
    garden([(name, "water", "")])
    assert main(["doctor"]) == 2
    assert f"command {name!r} of accomp-garden 1.0" in capsys.readouterr().err
