"""Specs, stages and scores from Python."""

from __future__ import annotations

import builtins
import json
from typing import Any

import pytest
import tiny

import accomp
from accomp.core.errors import UserError
from accomp.core.spec.toml_files import toml_text


@pytest.fixture(scope="module")
def experiment(made: tiny.Trained, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The spec file of the tiny experiment in a run folder of its own."""
    folder = tmp_path_factory.mktemp("experiment")
    path = folder / "tiny.toml"
    path.write_text(toml_text(made.copy(folder / "run").plain()))
    return str(path)


@pytest.fixture(scope="module")
def ran(experiment: str) -> accomp.Run:
    """The experiment, all stages."""
    return accomp.load_run(accomp.run_spec(accomp.load_spec(experiment)))


def test_settings_win_over_the_file(experiment):
    spec = accomp.load_spec(experiment, {"train.steps": 7, "run.folder": "x y", "guidance": {"context": 2.0}})
    assert (spec.train.steps, spec.run.folder, spec.guidance) == (7, "x y", {"context": 2.0})


def test_mistakes_in_a_spec_are_told_with_the_nearest_name(experiment):
    with pytest.raises(UserError, match="did you mean 'steps'"):
        accomp.load_spec(experiment, {"train.stepz": 7})
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        accomp.load_spec("quikstart")
    with pytest.raises(UserError, match="top_k"):
        accomp.load_spec(experiment, {"sampler": {"plugin": "top_kk"}})
    with pytest.raises(UserError, match=r"so nothing can be set in it @ settings seed\.deep=3"):
        accomp.load_spec(experiment, {"seed.deep": 3})


def test_a_run_has_scores_and_a_report(ran):
    record = json.loads((ran.folder / "metrics.json").read_text())
    assert (ran.folder / "report.html").is_file()
    scores = accomp.evaluate(ran)
    number = record["cells"]["model"]["metrics"]["envelopes"]["numbers"]["envelopes"]
    assert scores["envelopes"] == number["value"]
    assert dict(scores) == {"envelopes": number["value"]}
    assert json.loads((ran.folder / "metrics.json").read_text()) == record == scores.record
    cells = {row["cell"]: row["value"] for row in scores.rows}
    assert cells["true_stem"] == record["cells"]["true_stem"]["metrics"]["envelopes"]["numbers"]["envelopes"]["value"]
    assert "envelopes" in repr(scores)


def test_chosen_metrics_are_judged(ran):
    before = {name: (ran.folder / name).read_bytes() for name in ("metrics.json", "spec.json")}
    scores = accomp.evaluate(ran, metrics=["envelopes"])
    assert scores == accomp.evaluate(ran)
    assert {name: (ran.folder / name).read_bytes() for name in before} == before
    with pytest.raises(UserError, match="envelopes"):
        accomp.evaluate(ran, metrics=["envelops"])


def test_an_unknown_score_names_the_nearest(ran):
    with pytest.raises(KeyError, match="did you mean 'envelopes'"):
        accomp.evaluate(ran)["envelope"]


def test_a_table_needs_pandas(ran, monkeypatch):
    scores = accomp.evaluate(ran)
    real = builtins.__import__

    def lacking(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(UserError, match="pip install pandas"):
        scores.to_pandas()


def test_a_table_has_a_row_a_number(ran):
    pytest.importorskip("pandas")
    scores = accomp.evaluate(ran)
    table = scores.to_pandas()
    assert len(table) == len(scores.rows)
    assert set(table["cell"]) >= {"model", "true_stem"}


def test_a_model_without_a_spec_of_its_own_says_how_to_judge_it(parts):
    with pytest.raises(UserError, match="run_spec"):
        accomp.evaluate(accomp.load_run("pretrained", device="cpu"))


def test_plugins_are_listed_and_checked(parts):
    import accomp.plugins  # the package has the function's name

    names = {plugin.name for plugin in accomp.plugins("sampler")}
    assert {"top_k", "top_p"} <= names
    assert {plugin.kind for plugin in accomp.plugins()} >= {"sampler", "metric"}
    assert any("pick" in line for line in accomp.check_plugin("sampler", "top_k", k=3))
    with pytest.raises(UserError, match="did you mean 'sampler'"):
        accomp.plugins("samplers")
    with pytest.raises(UserError, match="did you mean 'top_k'"):
        accomp.check_plugin("sampler", "topk")
