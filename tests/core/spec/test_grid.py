"""Grid files: which cells they make, what is refused and in which words, and what work is shared."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import small

from accomp.core.errors import SpecError
from accomp.core.registry import Registry
from accomp.core.spec.fingerprints import identify
from accomp.core.spec.grid import load_grid
from accomp.core.spec.grid_rules import merge
from accomp.core.spec.grid_schema import Grid
from accomp.core.spec.schema import Spec, load_spec, resolve, structure
from accomp.core.spec.toml_files import find_spec, toml_text

STAGES = ("store", "training", "takes", "scores", "anchors")


@pytest.fixture
def load(install: Callable[..., Path], tmp_path: Path) -> Callable[[str], Grid]:
    """A grid file's text, over the experiment of small.py, read."""
    install("small", module="small")
    (tmp_path / "base.toml").write_text(toml_text(small.SPEC))

    def load(text: str) -> Grid:
        (tmp_path / "jam.toml").write_text(f'base = "{tmp_path / "base.toml"}"\n' + text)
        return load_grid(tmp_path / "jam.toml", Registry())

    return load


def clocks(grid: Grid) -> dict[str, tuple[int, int]]:
    return {cell.name: (cell.spec.clock.t_f, cell.spec.clock.k) for cell in grid.cells if cell.spec.clock}


def test_there_is_a_cell_for_each_combination_in_the_order_of_the_file(load: Callable[[str], Grid]) -> None:
    grid = load('[sweep]\nclock.t_f = ["-1s", 0]\ntrain.lr = [1e-3, 2e-3]\n')
    assert [cell.name for cell in grid.cells] == [
        "t_f=-1s,lr=0.001", "t_f=-1s,lr=0.002", "t_f=0,lr=0.001", "t_f=0,lr=0.002",
    ]  # fmt: skip
    assert [cell.spec.clock.t_f for cell in grid.cells] == [-50, -50, 0, 0]
    assert grid.cells[1].axes == {"clock.t_f": "-1s", "train.lr": 2e-3}
    assert grid.folder == Path("runs/jam")
    assert {cell.spec.run.folder for cell in grid.cells} == {"runs/jam"}


def test_settings_are_merged_and_another_plugin_replaces_a_section() -> None:
    there = {"sampler": {"plugin": "a", "k": 5, "deep": {"x": 1, "y": 2}}, "seed": 1}
    assert merge(there, {"sampler": {"deep": {"y": 3}}}) == {
        "sampler": {"plugin": "a", "k": 5, "deep": {"x": 1, "y": 3}}, "seed": 1,
    }  # fmt: skip
    assert merge(there, {"sampler": {"plugin": "a", "k": 6}})["sampler"]["deep"] == {"x": 1, "y": 2}
    assert merge(there, {"sampler": {"plugin": "b", "z": 1}}) == {"sampler": {"plugin": "b", "z": 1}, "seed": 1}
    assert there["sampler"] == {"plugin": "a", "k": 5, "deep": {"x": 1, "y": 2}}


def test_a_swept_section_is_named_by_its_plugin_and_keys(load: Callable[[str], Grid]) -> None:
    grid = load('[sweep]\nsampler = [{ plugin = "top_k", k = 3 }, { plugin = "greedy" }]\n')
    assert [cell.name for cell in grid.cells] == ["sampler=top_k(k=3)", "sampler=greedy"]


def test_rules_mend_what_would_not_fit(load: Callable[[str], Grid]) -> None:
    sweep = '[sweep]\nclock.k = [1, "40ms"]\nclock.t_f = [-2, 2]\n'
    with pytest.raises(SpecError) as error:
        load(sweep)
    (problem,) = error.value.problems
    assert "clock.k = 2, but objective 'ar' trains a model that emits frame by frame" in problem
    assert problem.endswith("jam.toml: cell (in k=40ms,t_f=-2, k=40ms,t_f=2)")

    grid = load(sweep + "[[when]]\nwhere.clock.k = { above = 1 }\nset.objective.plugin = 'prefix'\n")
    assert [cell.spec.objective.plugin for cell in grid.cells] == ["ar", "ar", "prefix", "prefix"]


@pytest.mark.parametrize(
    ("where", "left"),
    [
        ("{ clock = { k = 2 } }", {(-50, 1), (0, 1), (50, 1)}),
        ('{ clock = { t_f = ["-1s", 50] } }', {(0, 1), (0, 2)}),
        ('{ clock = { t_f = { above = "-20ms" } } }', {(-50, 1), (-50, 2)}),
        ('{ clock = { t_f = { above = "-1s", below = 1 } } }', {(-50, 1), (-50, 2), (50, 1), (50, 2)}),
        ("{ clock = { k = { not = [1, 7] } } }", {(-50, 1), (0, 1), (50, 1)}),
        ('{ clock = { k = 2, t_f = "0s" } }', {(-50, 1), (0, 1), (50, 1), (-50, 2), (50, 2)}),
        ("{ tokenizer = { codebooks = { above = 3 } } }", {(-50, 1), (0, 1), (50, 1), (-50, 2), (0, 2), (50, 2)}),
    ],
)
def test_conditions_compare_durations_in_frames(load: Callable[[str], Grid], where: str, left: set[Any]) -> None:
    grid = load(
        '[set]\ntrain.frames = 60\nobjective = { plugin = "prefix" }\n'
        '[sweep]\nclock.t_f = ["-1s", "0s", "1s"]\nclock.k = [1, "40ms"]\n'
        f'[[skip]]\nwhere = {where}\nreason = "not asked for"\n'
    )
    assert set(clocks(grid).values()) == left
    assert len(grid.skipped) == 6 - len(left)
    assert {one.reason for one in grid.skipped} <= {"not asked for"}


def test_extra_cells_have_a_base_of_their_own_or_are_like_another(load: Callable[[str], Grid], tmp_path: Path) -> None:
    other = merge(small.SPEC, {"seed": 9, "train": {"steps": 77}})
    (tmp_path / "other.toml").write_text(toml_text(other))
    grid = load(
        "[set]\ntrain.batch = 3\n[sweep]\nclock.t_f = [-2, 2]\n"
        "[[when]]\nwhere.clock.k = { above = 1 }\nset = { objective = { plugin = 'prefix' }, train = { steps = 5 } }\n"
        f'[[extra]]\nname = "of its own"\nbase = "{tmp_path / "other.toml"}"\nset.train.lr = 0.5\n'
        '[[extra]]\nname = "like"\nlike = "t_f=2"\nset.sampler = { plugin = "greedy" }\n'
        '[[extra]]\nname = "like that"\nlike = "like"\nset = { clock = { k = 3 }, train = { steps = 8 } }\n'
    )
    own, like, that = (cell.spec for cell in grid.cells[2:])
    assert (own.seed, own.train.steps, own.train.batch, own.train.lr) == (9, 77, 3, 0.5)
    assert (like.clock.t_f, like.sampler.plugin) == (2, "greedy")
    assert (that.clock, that.objective.plugin, that.sampler.plugin) == (type(that.clock)(2, 3), "prefix", "greedy")
    assert that.train.steps == 8
    assert not any(cell.swept for cell in grid.cells[2:])


MISTAKES = """
sweeep = 1
[set]
train.stepps = 3
run.folder = "mine"
[sweep]
clock.t_f = 4
train.batch = [1, "many"]
[[when]]
where.train.batch = { above = 0, over = 1 }
set.train.batch = 2
[[when]]
where = {}
set.seed = 1
[[skip]]
where.seed = 1
reason = ""
[[extra]]
name = "a"
like = "b"
base = "streeming_k1"
[[extra]]
name = "a"
[anchors]
cells = ["true_stemm"]
"""


def test_every_mistake_is_told_at_once(load: Callable[[str], Grid], tmp_path: Path) -> None:
    def told(text: str) -> list[str]:
        with pytest.raises(SpecError) as error:
            load(text)
        return [problem.replace(str(tmp_path / "jam.toml"), "jam") for problem in error.value.problems]

    assert told(MISTAKES) == [
        "unknown key 'sweeep'; did you mean 'sweep'? @ jam",
        "Length of 'reason' must be >= 1: 0 @ jam: skip[0].reason",
        "str 'true_stemm' is not among the choices; did you mean 'true_stem'? @ jam: anchors.cells[0]",
    ]
    mended = MISTAKES.replace("sweeep = 1", "").replace('reason = ""', 'reason = "so"').replace("stemm", "stem")
    found = told(mended)
    for problem in (
        "expected a list of values, got 4 @ jam: sweep.clock.t_f",
        "'over' beside a comparison; expected a value, a list of values, or a table of above, below, not "
        "@ jam: when[0].where.train.batch",
        "train.batch is swept, so no rule may change it @ jam: when[0].set.train.batch",
        "an empty condition always holds; use [set] for every cell @ jam: when[1].where",
        "run.folder is for the grid to decide; `folder`, beside `base`, is where all of it goes @ jam: set.run.folder",
        "give either `base` or `like` @ jam: extra[0]",
        "no cell before it is called 'b'; known: none @ jam: extra[0].like",
        "two cells are called 'a' @ jam: extra[1].name",
        "unknown key 'stepps'; did you mean 'steps'? @ jam: train (in a)",
    ):
        assert problem in found, "\n".join(found)


def test_equal_mistakes_of_many_cells_are_told_once(load: Callable[[str], Grid]) -> None:
    with pytest.raises(SpecError) as error:
        load("[set]\ntrain.stepps = 3\n[sweep]\ntrain.lr = [1e-3, 1e-4, 0.0]\n")
    assert [problem.rpartition("jam.toml: ")[2] for problem in error.value.problems] == [
        "train (in all 3 cells)", "train.lr (in lr=0.0)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no cell; add [sweep] or [[extra]]"),
        ("[sweep]\nclock.t_f = [1, 1]\n", "two cells are called 't_f=1'"),
        ('[sweep]\nclock.t_f = [1, "20ms"]\n', "t_f=1 and t_f=20ms are the same; write each value once"),
        ("[sweep]\nclock.t_f = []\n", "expected a list of values, got []"),
        ('[sweep]\nseed = [1]\n[[skip]]\nwhere.clok.k = 1\nreason = "x"\n', "no cell has a key clok.k, so this never"),
        ('[sweep]\nclock.t_f = [1]\n[anchors]\ncells = ["model"]\n', "expected anchors, none of them twice"),
    ],
)
def test_what_makes_no_sense_is_refused(load: Callable[[str], Grid], text: str, told: str) -> None:
    with pytest.raises(SpecError) as error:
        load(text)
    assert told in str(error.value)


def test_the_whole_file_reads_back_the_same_without_its_bases(load: Callable[[str], Grid], tmp_path: Path) -> None:
    grid = load(
        '[set]\ntrain.batch = 3\n[sweep]\nclock.t_f = ["-1s", 2]\n[[extra]]\nname = "x"\nlike = "t_f=2"\n'
        "[[skip]]\nwhere.seed = 1\nreason = 'so'\n[[when]]\nwhere.seed = 3\nset.train.lr = 0.5\n[runner]\nworkers = 2\n"
    )
    (tmp_path / "base.toml").unlink()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "jam.toml").write_text(toml_text(grid.data))
    again = load_grid(tmp_path / "again" / "jam.toml", Registry())
    assert attrs.evolve(again, data=grid.data) == grid
    assert again.data == tomllib.loads(toml_text(grid.data))


# --- what work is shared -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({}, ()),
        ({"run": {"folder": "elsewhere", "threads": 2, "accelerator": "cpu", "logger": "none"}}, ()),
        ({"runner": {"workers": 3}}, ()),
        ({"train": {"log_every": 3, "keep": 1}}, ()),
        ({"evaluate": {"cache": "somewhere"}}, ()),
        ({"evaluate": {"anchors": 5}}, ("anchors",)),
        ({"metric": []}, ("scores", "anchors")),
        ({"generate": {"takes": 3}}, ("takes", "scores", "anchors")),
        ({"generate": {"input": "random"}}, ("takes", "scores")),
        ({"sampler": {"plugin": "greedy"}}, ("takes", "scores")),
        ({"guidance": {"context": 2.0}}, ("takes", "scores")),
        ({"clock": {"t_f": 3}}, ("training", "takes", "scores")),
        ({"train": {"steps": 11}}, ("training", "takes", "scores")),
        ({"train": {"validate_every": 3}}, ("training", "takes", "scores")),
        ({"run": {"precision": "bf16-mixed"}}, ("training", "takes", "scores")),
        ({"pairs": {"overlap": 0.25}}, ("training", "takes", "scores", "anchors")),
        ({"seed": 4}, ("training", "takes", "scores", "anchors")),
        ({"store": {"submixes": 1}}, ("store", "training", "takes", "scores")),
        ({"tokenizer": {"fingerprint": "other"}}, STAGES),
    ],
)
def test_a_hash_changes_with_what_its_stage_depends_on(
    install: Callable[..., Path], change: dict[str, Any], stages: tuple[str, ...]
) -> None:
    install("small", module="small")

    def spec(*changes: dict[str, Any]) -> Spec:
        data: dict[str, Any] = merge(small.SPEC, {"metric": [{"plugin": "counter"}]})
        for one in changes:
            data = merge(data, one)
        return structure(data, Registry())

    before, after = (attrs.asdict(identify(one, ["true_stem"])) for one in (spec(), spec(change)))
    assert {stage for stage in STAGES if before[stage] != after[stage]} == set(stages)


# --- the shipped ones --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(third_party=False)


def test_the_standard_grid_is_the_papers(registry: Registry) -> None:
    grid = load_grid("standard_grid", registry)
    ahead = [round(50 * s) for s in (0.2, 0.4, 1, 2, 4)]
    chunks = [2, 5, 10, 50, 100]
    paper = {(t_f, 1) for t in (0, *ahead) for t_f in (t, -t)}
    paper |= {(t_f, k) for k in chunks for t in (0, *ahead[:-1]) for t_f in (t, -t)}
    swept = [cell for cell in grid.cells if cell.swept]
    assert len(swept) == 56
    assert {(cell.spec.clock.t_f, cell.spec.clock.k) for cell in swept} == paper
    for cell in swept:
        published = load_spec("streaming_k1" if cell.spec.clock.k == 1 else "streaming_chunked", registry)
        given = {"clock": cell.spec.clock, "run": cell.spec.run, "metric": cell.spec.metric}
        assert attrs.evolve(published, **given) == cell.spec, cell.name
    assert {"true_stem", "random_pairing"} <= set(grid.anchors)
    assert {cell.spec.objective.plugin for cell in grid.cells} == {"ar", "prefix", "prefix_offline", "mlm"}


@pytest.mark.parametrize(("name", "t_fs"), [("mini_grid", (-2, -1, -0.4, -0.2, 0, 0.2, 0.4, 1, 2)),
                                            ("mini_grid_cpu", (-1, 0, 1))])  # fmt: skip
def test_the_small_grids_have_their_axes_and_the_masked_ablations(
    registry: Registry, name: str, t_fs: tuple[float, ...]
) -> None:
    grid = load_grid(name, registry)
    frame_by_frame = [cell.spec.clock.t_f for cell in grid.cells if cell.swept and cell.spec.clock.k == 1]
    assert frame_by_frame == [round(50 * s) for s in t_fs]
    masked = [cell.spec for cell in grid.cells if cell.spec.sampler.plugin == "causal_bias"]
    ways = {(spec.guidance["context"] > 1, spec.sampler.config.w_s > 0) for spec in masked}
    assert ways == {(True, True), (True, False), (False, True), (False, False)}
    assert len({identify(spec).training for spec in masked}) == 1
    assert len({identify(cell.spec).store for cell in grid.cells}) == 1
    assert len({identify(cell.spec, grid.anchors).anchors for cell in grid.cells}) <= 2  # a prompt is not judged


def test_the_grid_of_latents_has_each_cell_with_codes_as_well(registry: Registry) -> None:
    grid = load_grid("mini_grid_latents", registry)
    axes: dict[str, list[tuple[float, int]]] = {}
    for cell in grid.cells:
        kind = "latents" if cell.spec.tokenizer.config.continuous else "codes"
        axes.setdefault(kind, []).append((cell.spec.clock.t_f, cell.spec.clock.k))
    assert axes["latents"] == [(t_f, k) for k in (10, 20) for t_f in (-20, 0, 20)]
    assert axes["codes"] == axes["latents"]
    assert len({identify(cell.spec).store for cell in grid.cells}) == 2
    assert {cell.spec.train.minutes for cell in grid.cells} == {4.0}


def test_the_grid_of_visibility_plays_two_trainings_each_way(registry: Registry) -> None:
    grid = load_grid("mini_grid_visibility", registry)
    specs = [cell.spec for cell in grid.cells]
    told = [(spec.clock.t_f, spec.generate.metronome, spec.guidance["context"]) for spec in specs]
    assert told == [(t_f, how, scale) for t_f in (-50, 50) for how in ("off", "annotations") for scale in (1.0, 2.0)]
    assert len({identify(spec).training for spec in specs}) == 2
    assert len({identify(spec, grid.anchors).anchors for spec in specs}) == 1


def test_the_grid_of_ears_has_two_models_with_ears_that_play_with_the_metronome_and_without(registry: Registry) -> None:
    grid = load_grid("mini_grid_ear", registry)
    specs = [cell.spec for cell in grid.cells]
    assert [(spec.clock.t_f, spec.generate.metronome) for spec in specs] == [
        (t_f, how) for t_f in (-50, 50) for how in ("off", "annotations")
    ]
    assert {(spec.clock.k, tuple(spec.conditions.heard), spec.generate.chart) for spec in specs} == {
        (1, ("metronome", "chart"), "off")
    }
    assert len({identify(spec).training for spec in specs}) == 2
    assert len({identify(spec, grid.anchors).anchors for spec in specs}) == 1


def test_a_shipped_grid_differs_from_its_bases_only_where_it_says_so(registry: Registry) -> None:
    data = tomllib.loads(find_spec("mini_grid").read_text())
    base = resolve(load_spec(data["base"], registry))
    (cell,) = [cell for cell in load_grid("mini_grid", registry).cells if cell.name == "k=1,t_f=0s"]
    ours = resolve(cell.spec)
    changed = {key for key in base if base[key] != ours[key]}
    assert changed <= {*data["set"], "run"}
