"""Spec files: what is read, what is refused and in which words, and that JSON and back loses nothing."""

import json
import tomllib
from fractions import Fraction
from importlib import resources
from pathlib import Path

import attrs
import pytest
import spec_plugins
from hypothesis import given
from hypothesis import strategies as st

from accomp.core.errors import SpecError
from accomp.core.registry import Registry
from accomp.core.spec.durations import to_frames
from accomp.core.spec.schema import load_spec, resolve, structure
from accomp.core.spec.toml_files import find_spec, override
from accomp.core.types import TokenSpace

GOOD = """
seed = 42
[corpus]
plugin = "shelf"
root = "music"
[store]
path = "music.zarr"
[tokenizer]
plugin = "codec"
[clock]
t_f = "-1.0s"
k = 1
[conditions]
context = { drop = 0.2 }
instrument = { classes = 18, drop = 0.1 }
[model]
width = 64
[fuser]
plugin = "plain"
[backbone]
plugin = "plain"
[objective]
plugin = "plain"
[sampler]
plugin = "rich"
temperature = 1
[[metric]]
plugin = "plain"
[[metric]]
plugin = "rich"
steps = [3]
[train]
steps = 100_000
batch = 64
frames = "10s"
lr = 1e-4
"""


@pytest.fixture
def registry(install):
    install("accomp-specs", module="spec_plugins")
    return Registry()


@pytest.fixture
def load(registry, tmp_path):
    """Load a spec from its text, named jam.toml, with overrides."""

    def from_text(text, *overrides):
        path = tmp_path / "jam.toml"
        path.write_text(text)
        return load_spec(path, registry, overrides)

    return from_text


def problems(call, *arguments):
    """The problems told, without the folder of the file they are in."""
    with pytest.raises(SpecError) as caught:
        call(*arguments)
    return [line.replace(line.partition(" @ ")[2].partition("jam.toml")[0], "") for line in caught.value.problems]


def test_a_good_spec_becomes_typed_values(load):
    spec = load(GOOD)
    assert (spec.seed, spec.clock.t_f, spec.clock.k) == (42, -50, 1)
    assert spec.train.frames == 500
    assert spec.corpus == attrs.evolve(spec.corpus, plugin="shelf", config=spec_plugins.Folder.Config("music"))
    assert spec.sampler.config.temperature == 1.0
    assert isinstance(spec.sampler.config.temperature, float)
    assert [m.plugin for m in spec.metric] == ["plain", "rich"]
    assert spec.metric[1].config.steps == (3,)
    assert spec.conditions.context.drop == 0.2
    assert attrs.asdict(spec.conditions.labels["instrument"]) == {"classes": 18, "drop": 0.1}
    assert spec.run.folder == "runs/jam"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        spec.seed = 1


def test_timelines_are_conditions_of_their_own(load, registry):
    told = GOOD.replace("drop = 0.2 }", "drop = 0.2 }\nchart = {}\nmetronome = { drop = 0.15 }", 1)
    spec = load(told)
    assert list(spec.conditions.timelines) == ["metronome", "chart"]
    assert spec.conditions.shares() == {"context": 0.2, "instrument": 0.1, "metronome": 0.15, "chart": 0.0}
    assert set(spec.conditions.labels) == {"instrument"}
    assert structure(json.loads(json.dumps(resolve(spec))), registry) == spec
    assert set(spec.conditions.without_dropout().shares().values()) == {0.0}
    assert problems(load, told.replace("chart = {}", "chart = { classes = 3 }")) == [
        "unknown key 'classes'; known keys: detail, drop, heard @ jam.toml: conditions.chart"
    ]


def test_resolving_is_complete_and_loads_back_to_an_equal_spec(load, registry):
    spec = load(
        GOOD.replace("temperature = 1", 'temperature = 1\ncolour = "blue"\nlayers = [{width = 3}]\nweights = "w"')
    )
    plain = resolve(spec)
    through_json = json.loads(json.dumps(plain))
    assert through_json == plain, "resolve gives only what JSON can hold"
    assert structure(through_json, registry, where="somewhere/else.json") == spec
    assert resolve(structure(plain, registry)) == plain
    assert plain["sampler"]["plugin"] == "rich"
    assert plain["sampler"]["colour"] == "blue"
    assert plain["train"]["clip"] == 1.0, "defaults are written out"
    assert plain["clock"] == {"t_f": -50, "k": 1}
    assert plain["conditions"] == {"context": {"drop": 0.2}, "instrument": {"classes": 18, "drop": 0.1}}


def test_all_mistakes_are_told_at_once_with_their_paths(load):
    bad = (
        GOOD.replace("seed = 42", "seed = true\nsede = 1")
        .replace("temperature = 1", 'temperture = 0.9\nsteps = [128, "64", 3.5]\nlayers = [{width = 1}, {width = 0}]')
        .replace("batch = 64", 'batch = "64"')
        .replace("lr = 1e-4", "lr = -1e-4")
        .replace('root = "music"', "")
        .replace("[model]\nwidth = 64", "")
        .replace('plugin = "shelf"', 'plugin = "shlf"')
        .replace("drop = 0.2", "drop = 1.2")
        .replace("classes = 18, ", "")
        .replace("k = 1", "k = 0")
    )
    assert sorted(problems(load, bad)) == sorted(
        [
            "unknown key 'sede'; did you mean 'seed'? @ jam.toml",
            "expected int, got bool True @ jam.toml: seed",
            "unknown key 'temperture'; did you mean 'temperature'? @ jam.toml: sampler",
            "expected int, got str '64' @ jam.toml: sampler.steps[1]",
            "expected int, got float 3.5 @ jam.toml: sampler.steps[2]",
            "'width' must be > 0: 0 @ jam.toml: sampler.layers[1].width",
            "expected int, got str '64' @ jam.toml: train.batch",
            "'lr' must be > 0.0: -0.0001 @ jam.toml: train.lr",
            "no corpus named 'shlf'; did you mean 'shelf'? @ jam.toml: corpus",
            "missing section [model] @ jam.toml",
            "'drop' must be <= 1.0: 1.2 @ jam.toml: conditions.context.drop",
            "missing key 'classes' @ jam.toml: conditions.instrument",
            "'k' must be >= 1: 0 @ jam.toml: clock.k",
        ]
    )


def test_an_empty_spec_names_every_missing_section(load):
    sections = ["corpus", "tokenizer", "fuser", "backbone", "objective", "sampler", "store", "model", "train"]
    assert problems(load, "") == [f"missing section [{name}] @ jam.toml" for name in sections]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("steps = 3", "expected a list, got int 3 @ jam.toml: sampler.steps"),
        ('steps = "123"', "expected a list, got str '123' @ jam.toml: sampler.steps"),
        ("pair = [1]", "expected a list of 2, got 1: [1] @ jam.toml: sampler.pair"),
        ('pair = ["a", "b"]', "expected int, got str 'a' @ jam.toml: sampler.pair[0]"),
        ('mode = "fats"', "str 'fats' is not among the choices; did you mean 'fast'? @ jam.toml: sampler.mode"),
        ("mode = 3", "int 3 is not among the choices; expected ['fast', 'slow'] @ jam.toml: sampler.mode"),
        ('colour = "re"', "str 're' is not among the choices; did you mean 'red'? @ jam.toml: sampler.colour"),
        ("weights = 3", "expected str, got int 3 @ jam.toml: sampler.weights"),
        ("either = 1.5", "expected int or str, got float 1.5 @ jam.toml: sampler.either"),
        ("table = 1", "expected a table, got int 1 @ jam.toml: sampler.table"),
        ('table = {a = "b"}', "expected float, got str 'b' @ jam.toml: sampler.table.a"),
        ("flag = 1", "expected bool, got int 1 @ jam.toml: sampler.flag"),
        ("low = 10", "'high' 10 must be above 'low' 10 @ jam.toml: sampler"),
        ("high = -1", "'high' -1 must be above 'low' 0 @ jam.toml: sampler.high"),
        ("temperature = nan", "expected a finite number, got nan @ jam.toml: sampler.temperature"),
        ("layers = [1]", "expected a table, got int 1 @ jam.toml: sampler.layers[0]"),
        ("window = true", "expected int, got bool True @ jam.toml: sampler.window"),
        ("window = 2024-01-01", "expected int, got date datetime.date(2024, 1, 1) @ jam.toml: sampler.window"),
    ],
)
def test_a_value_of_the_wrong_kind(load, line, problem):
    assert problems(load, GOOD.replace("temperature = 1", line)) == [problem]


def test_values_that_fit(load):
    lines = 'weights = "a/b"\neither = "x"\ntable = {a = 1}\nflag = true\nwindow = "40ms"\npair = [2, "c"]\n'
    lines += "high = 3\nlow = 2"
    config = load(GOOD.replace("temperature = 1", lines)).sampler.config
    assert (config.weights, config.either, config.table, config.flag) == (Path("a/b"), "x", {"a": 1.0}, True)
    assert (config.window, config.pair, config.low, config.high) == (2, (2, "c"), 2, 3)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('plugin = "rich"\ntemperature', "temperature", "missing key 'plugin', the name of a sampler"),
        ("[fuser]\nplugin", "[fuser]\nplugn", "missing key 'plugin', the name of a fuser"),
        ('[fuser]\nplugin = "plain"', "[fuser]\nplugin = 3", "expected str, got int 3 @ jam.toml: fuser"),
        ('plugin = "rich"\ntemperature = 1', 'plugin = "no_config"', "has no attrs class Config @ jam.toml: sampler"),
        ("[store]\n", "[stroe]\n", "unknown key 'stroe'; did you mean 'store'? @ jam.toml"),
        ("[[metric]]\nplugin", "[[metric]]\nplgin", "missing key 'plugin', the name of a metric"),
        ('[[metric]]\nplugin = "rich"\nsteps = [3]', '[[metric]]\nplugin = "rch"', "jam.toml: metric[1]"),
        ("[[metric]]", '[[metric]]\nplugin = "plain"\n[[metric]]', "'plain' is named twice"),
        ("context = { drop = 0.2 }", "context = 3", "expected a table, got int 3 @ jam.toml: conditions.context"),
        ("context = { drop = 0.2 }", "context = { dorp = 0.2 }", "did you mean 'drop'? @ jam.toml: conditions.context"),
        ("[model]", "[run]\nlogger = 'tensorbord'\n[model]", "did you mean 'tensorboard'? @ jam.toml: run.logger"),
        ("[model]", "[run]\naccelerator = 'gpu'\n[model]", "did you mean 'cpu'? @ jam.toml: run.accelerator"),
        ("[model]", "[run]\nprecision = 'bf16'\n[model]", "did you mean 'bf16-true'? @ jam.toml: run.precision"),
        ("[model]", "run = 3\n[model]", "expected a table, got int 3 @ jam.toml: conditions.run"),
    ],
)
def test_a_section_that_is_wrong(load, old, new, problem):
    assert old in GOOD
    assert any(problem in line for line in problems(load, GOOD.replace(old, new, 1)))


@pytest.mark.parametrize("section", ["corpus", "clock", "conditions", "train", "run"])
def test_a_section_that_is_no_table(load, section):
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith("seed"))
    lines, inside = [f"{section} = 1"], False
    for line in text.splitlines():
        if line.startswith("["):
            inside = line == f"[{section}]"
        if not inside:
            lines.append(line)
    (problem,) = problems(load, "\n".join(lines))
    assert problem.endswith(f"jam.toml: {section}")


def test_durations_become_frames_of_the_tokenizer(load):
    assert load(GOOD.replace('"-1.0s"', '"40ms"')).clock.t_f == 2
    assert load(GOOD.replace('"-1.0s"', '"-0.5 s"').replace("k = 1", 'k = "0.1s"')).clock == attrs.evolve(
        load(GOOD).clock, t_f=-25, k=5
    )
    assert load(GOOD.replace('"codec"', '"codec"\nrate = 64_000')).clock.t_f == -100


def test_an_inexact_duration_is_refused_with_the_nearest_exact_ones(load):
    (problem,) = problems(load, GOOD.replace('"-1.0s"', '"0.03s"'))
    assert problem == (
        "'0.03s' is 1.5 frames of 0.02 s; nearest: '0.02s' (1 frame) or '0.04s' (2 frames) @ jam.toml: clock.t_f"
    )
    (problem,) = problems(load, GOOD.replace('"-1.0s"', '"-0.03s"'))
    assert "'-0.04s' (-2 frames) or '-0.02s' (-1 frame)" in problem


@pytest.mark.parametrize("text", ["1", "s", "1 min", "1e-2s", "--1s", "1.s", "", "1s2s"])
def test_a_duration_that_is_none(load, text):
    (problem,) = problems(load, GOOD.replace('"-1.0s"', f'"{text}"'))
    assert problem.startswith("expected frames as an int, or a duration such as '0.5s' or '40ms'")
    assert problem.endswith("jam.toml: clock.t_f")


def test_a_tokenizer_without_frame_rate_takes_frames_only(load):
    text = GOOD.replace('"codec"', '"timeless"')
    found = problems(load, text)
    assert all("tokenizer 'timeless' does not state its frame rate; give a number of frames" in line for line in found)
    assert [line.rpartition(": ")[2] for line in found] == ["train.frames", "clock.t_f"]
    assert load(text.replace('"-1.0s"', "-50").replace('"10s"', "500")).clock.t_f == -50


def test_a_wrong_tokenizer_is_told_once_and_not_again_at_every_duration(load):
    assert problems(load, GOOD.replace('"codec"', '"codec"\nrate = "fast"')) == [
        "expected int, got str 'fast' @ jam.toml: tokenizer.rate"
    ]


@given(
    st.integers(-10_000, 10_000), st.sampled_from([16_000, 32_000, 44_100, 48_000]), st.sampled_from([320, 512, 640])
)
def test_durations_agree_with_independent_arithmetic(milliseconds, rate, hop):
    space = TokenSpace(rate, hop, codebooks=1, codebook_size=2, latent_dim=1)
    exact = Fraction(milliseconds, 1000) / Fraction(hop, rate)
    if exact.denominator == 1:
        assert to_frames(f"{milliseconds}ms", space) == exact
    else:
        with pytest.raises(ValueError, match="nearest") as caught:
            to_frames(f"{milliseconds}ms", space)
        for offered in str(caught.value).partition("nearest: ")[2].split(" or "):
            value, frames = offered.split(" (")
            frames = int(frames.split()[0])
            assert abs(frames - exact) < 1
            assert value == str(frames) or to_frames(value.strip("'"), space) == frames


def test_overrides_use_toml_values_and_win_over_the_file(load):
    spec = load(GOOD, "train.steps=7", 'sampler={plugin="plain"}', "conditions.instrument.drop = 0.5", 'run.folder="x"')
    assert (spec.train.steps, spec.sampler.plugin, spec.run.folder) == (7, "plain", "x")
    assert attrs.asdict(spec.conditions.labels["instrument"]) == {"classes": 18, "drop": 0.5}
    assert load(GOOD, "metric=[]").metric == ()
    assert load(GOOD, "train.compile=off").train.compile == "off"  # a bare word is a text
    assert load(GOOD, 'conditions."my label".classes=3').conditions.labels["my label"].classes == 3


def test_overrides_that_are_wrong_are_told_together(load):
    with pytest.raises(SpecError) as caught:
        load(GOOD, "train.steps", "sampler.plugin=plain text", "a b=1", "seed.deep=3", "train.steps=5")
    assert list(caught.value.problems) == [
        "expected KEY=VALUE, as in train.steps=100 @ --set train.steps",
        "'plain text' is not a TOML value; a text needs quotes: --set 'sampler.plugin=\"plain text\"'"
        " @ --set sampler.plugin=plain text",
        "'a b' is not a dotted key @ --set a b=1",
        "'seed' is not a section, so nothing can be set in it @ --set seed.deep=3",
    ]
    assert problems(load, GOOD, "train.stpes=5") == ["unknown key 'stpes'; did you mean 'steps'? @ jam.toml: train"]


def test_override_makes_missing_sections():
    data = {}
    override(data, ["a.b.c=1", "a.b.d=[1, 2]"])
    assert data == {"a": {"b": {"c": 1, "d": [1, 2]}}}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"seed = ", "not TOML: Invalid value (at end of document)"),
        (b"[a]\n[a]\n", "not TOML: Cannot declare ('a',) twice"),
        (b"seed = '\xff'", "not UTF-8 text (byte 8)"),
    ],
)
def test_a_file_that_is_not_toml(registry, tmp_path, content, problem):
    path = tmp_path / "jam.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_spec(path, registry)
    (line,) = caught.value.problems
    assert line.startswith(problem)
    assert line.endswith(str(path))


def test_a_file_that_is_missing(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"no such spec file; did you mean 'quickstart'\? @ quickstat"):
        load_spec("quickstat", registry)
    with pytest.raises(SpecError, match="is a folder, expected a TOML file"):
        load_spec(tmp_path, registry)


def test_shipped_specs_have_a_bare_name_and_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = Path(str(resources.files("accomp.specs")))
    assert find_spec("quickstart") == shipped / "quickstart.toml"
    assert find_spec("quickstart.toml") == shipped / "quickstart.toml"
    (tmp_path / "quickstart.toml").write_text("")
    assert find_spec("quickstart.toml") == Path("quickstart.toml")
    with pytest.raises(SpecError):
        find_spec("elsewhere/quickstart")


def test_shipped_specs_are_toml_with_a_comment_that_says_what_they_are():
    for path in Path(str(resources.files("accomp.specs"))).glob("*.toml"):
        text = path.read_text()
        assert text.startswith("# "), path
        tomllib.loads(text)


def test_damaged_weights_are_named_once_at_the_tokenizer_beside_other_mistakes(tmp_path, load):
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"PK\x03\x04 no weights")
    text = GOOD.replace('plugin = "codec"', f'plugin = "dac"\nweights = "{damaged}"')
    (alone,) = problems(load, text)
    assert alone.startswith("not a readable torch file")
    assert alone.endswith("jam.toml: tokenizer")
    both = problems(load, "sed = 1\n" + text)
    assert alone in both
    assert len(both) == 2
