"""The registry: built-in and third-party components by name, and what happens to plugins that are broken."""

import json
import sys
import tomllib
from importlib import metadata, resources

import pytest

from accomp.core.component import KINDS, Component
from accomp.core.errors import PluginError
from accomp.core.registry import Registry


def plugin(*rows, head="", name="accomp_components"):
    """Source of a plugin module that gives these rows (source of Component's arguments)."""
    listed = ", ".join(f"Component({row})" for row in rows)
    return (
        f"{head}\nfrom accomp.core.hooks import hookimpl\nfrom accomp.core.registry import Component\n"
        f"@hookimpl\ndef {name}():\n    return [{listed}]\n"
    )


def test_every_row_of_the_file_is_a_component_of_accomp():
    rows = tomllib.loads((resources.files("accomp.core").parent / "registry.toml").read_text())
    found = Registry(third_party=False).components()
    assert [(c.kind, c.name, c.target) for c in found] == [
        (kind, name, rows[kind][name]["target"]) for kind in KINDS for name in sorted(rows.get(kind, {}))
    ]
    assert {c.provider.split()[0] for c in found} == {"accomp"}
    assert all(c.summary for c in found), "a row without a summary says nothing in `accomp plugins`"


def test_third_party_components_stand_beside_the_built_in_ones(install):
    install("accomp-noise", plugin("'sampler', 'noise', 'accomp_noise:Noise', 'random codes'"))
    (row,) = [c for c in Registry().components("sampler") if c.name == "noise"]
    assert (row.provider, row.summary) == ("accomp-noise 1.0", "random codes")
    assert "noise" not in Registry(third_party=False).names("sampler")


def test_code_is_imported_on_first_use_only(install):
    folder = install("accomp-lazy", plugin("'sampler', 'lazy', 'lazy_code:Lazy'"))
    (folder / "lazy_code.py").write_text("class Lazy: pass")
    row = Registry().find("sampler", "lazy")
    assert "lazy_code" not in sys.modules
    assert row.load().__name__ == "Lazy"
    del sys.modules["lazy_code"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_library_that_is_missing", "No module named 'a_library_that_is_missing'"),
        ("def broken(:", "SyntaxError"),
        (plugin("'sampler', 'x', 'x:X'", name="accomp_component"), "did you mean 'accomp_components'?"),
        (plugin("'sampler', 'x', 'x:X'").replace("components():", "components(extra):"), "extra"),
        (plugin("'sampler', 'x', 'x:X'").replace("return [", "raise OSError('gone'); return ["), "OSError: gone"),
        (plugin("'sampler', 'x', 'x:X'").replace("return [", "return ['x', "), "must give Component objects, got 'x'"),
        (plugin("'smapler', 'x', 'x:X'"), "did you mean 'sampler'?"),
    ],
    ids=["missing library", "syntax", "misspelt hook", "unknown argument", "hook raises", "not a component", "kind"],
)
def test_a_broken_plugin_is_reported_and_harms_no_other(install, source, reason):
    install("accomp-broken", source)
    install("accomp-fine", plugin("'sampler', 'fine', 'x:X'"))
    registry = Registry()
    assert reason in registry.broken["accomp-broken 1.0"]
    assert list(registry.broken) == ["accomp-broken 1.0"]
    assert registry.find("sampler", "fine").provider == "accomp-fine 1.0"
    with pytest.raises(PluginError) as caught:
        registry.find("sampler", "x")
    assert "accomp-broken 1.0 could not be used" in str(caught.value)
    assert reason in str(caught.value)


def test_two_providers_of_one_name_are_an_error_that_names_both(install):
    install("accomp-one", plugin("'sampler', 'same', 'x:X'"))
    install("accomp-two", plugin("'sampler', 'same', 'y:Y'"))
    with pytest.raises(PluginError, match="sampler 'same' is provided twice") as caught:
        Registry()
    assert "accomp-one 1.0" in str(caught.value)
    assert "accomp-two 1.0" in str(caught.value)


def test_one_name_in_two_kinds_is_no_conflict(install):
    install("accomp-one", plugin("'sampler', 'same', 'x:X'", "'metric', 'same', 'x:Y'"))
    registry = Registry()
    assert registry.find("sampler", "same").target == "x:X"
    assert registry.find("metric", "same").target == "x:Y"


def test_an_unknown_name_suggests_the_nearest_or_lists_all(install):
    install("accomp-two", plugin("'sampler', 'argmax', 'x:X'"))
    registry = Registry()
    with pytest.raises(PluginError, match=r"no sampler named 'argmx'; did you mean 'argmax'\?"):
        registry.find("sampler", "argmx")
    with pytest.raises(PluginError, match=r"no sampler named 'zzzz'; known: .*argmax"):
        registry.find("sampler", "zzzz")
    with pytest.raises(PluginError, match=r"no kind of plugin is called 'samplers'; did you mean 'sampler'\?"):
        registry.find("samplers", "argmax")


def test_a_missing_optional_library_names_the_extra_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_more.py").write_text("import a_library_that_is_missing")
    built_in = Component("tokenizer", "x", "needs_more:X", extra="codec", provider="accomp (built in)")
    with pytest.raises(PluginError, match=r"pip install 'accomp\[codec\]'"):
        built_in.load()
    other = Component("tokenizer", "x", "needs_more:X", extra="all", provider="accomp-noise 1.0")
    with pytest.raises(PluginError, match=r"a_library_that_is_missing.*pip install 'accomp-noise\[all\]'"):
        other.load()


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("json:no_such_class", "AttributeError"),
        ("json.nothing_here:X", "No module named 'json.nothing_here'"),
        ("raises_at_import:X", "RuntimeError: boom"),
    ],
)
def test_a_component_that_cannot_load_says_why_and_blames_no_extra(tmp_path, monkeypatch, target, reason):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raises_at_import.py").write_text("raise RuntimeError('boom')")
    with pytest.raises(PluginError) as caught:
        Component("sampler", "x", target, extra="codec", provider="accomp (built in)").load()
    assert reason in str(caught.value)
    assert target in str(caught.value)
    assert "pip install" not in str(caught.value)


def test_hooks_reach_every_plugin(install, tmp_path):
    source = """
import json
from accomp.core.hooks import hookimpl
@hookimpl
def accomp_step(run, step, losses):
    (run / "seen.json").write_text(json.dumps([step, losses]))
"""
    install("accomp-watcher", source)
    registry = Registry()
    assert registry.broken == {}
    registry.tell("accomp_step", run=tmp_path, step=7, losses={"total": 1.5})
    assert json.loads((tmp_path / "seen.json").read_text()) == [7, {"total": 1.5}]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("raise KeyError('x')", "KeyError"),
        ("class Odd(BaseException): pass\nraise Odd('x')", "it raises Odd: x"),
        ("import time\ntime.sleep(1000)", "has not come back within"),
        ("while True: pass", "has not come back within"),
        (
            "from accomp.core.hooks import hookimpl\n@hookimpl\ndef accomp_components():\n    raise SystemExit(3)",
            "SystemExit: 3",
        ),
    ],
)
def test_a_package_that_leaves_or_hangs_is_named_and_the_rest_works(install, monkeypatch, source, reason):
    monkeypatch.setattr("accomp.core.registry.LONGEST", 0.5)
    install("accomp-odd", source)
    registry = Registry()
    assert reason in registry.broken["accomp-odd 1.0"]
    assert registry.names("sampler")


def test_a_package_that_computes_is_given_more_time(install, monkeypatch):
    monkeypatch.setattr("accomp.core.registry.LONGEST", 0.5)
    monkeypatch.setattr("accomp.core.third_party.AT_WORK", 0.01)
    install("accomp-heavy", "import time\nend = time.process_time() + 0.8\nwhile time.process_time() < end: pass")
    assert Registry().broken == {}


def test_what_a_package_prints_breaks_no_output(install, capsys, monkeypatch, tmp_path):
    install("accomp-talker", "print('hello', end=' ')\nprint('there')")
    Registry()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "accomp-talker 1.0 prints: hello there\n"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "late_talker.py").write_text("print('loaded')\nX = 1")
    Component("sampler", "x", "late_talker:X", provider="accomp-late 1.0").load()
    assert capsys.readouterr().out == ""


def test_a_hook_that_raises_is_named(install, tmp_path):
    hook = "from accomp.core.hooks import hookimpl\n@hookimpl\ndef accomp_step(run, step):\n    raise ValueError('bad')"
    install("accomp-hooked", hook)
    with pytest.raises(PluginError, match=r"hook accomp_step of accomp-hooked 1\.0 raises ValueError: bad"):
        Registry().tell("accomp_step", run=tmp_path, step=1, losses={})


def test_the_entry_points_are_those_of_the_environment():
    """Nothing but the group "accomp" is looked at, and this environment's plugins all work."""
    registry = Registry()
    provided = {f"{e.dist.name} {e.dist.version}" for e in metadata.entry_points(group="accomp")}
    assert {c.provider for c in registry.components()} - provided <= {"accomp (built in)"}
    assert registry.broken == {}
