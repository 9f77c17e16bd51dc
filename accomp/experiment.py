"""Experiments: a spec, its stages, and the run that they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accomp import catalog
from accomp.core.pipeline import run_stage

if TYPE_CHECKING:
    from accomp.core.registry import Registry
    from accomp.core.spec.schema import Spec

STAGES = ("ingest", "train", "generate", "evaluate", "report")


def load_spec(spec: str | Path, settings: Mapping[str, Any] | None = None) -> Spec:
    """Load the spec of an experiment, and check that its parts fit together.

    Args:
        spec: A TOML file, or the name of a shipped spec ("quickstart").
        settings: Dotted key -> value, instead of the file's: {"train.steps": 100}.

    Returns:
        The spec, complete with every default.

    Raises:
        UserError: One line for each mistake.

    Example:
        >>> spec = accomp.load_spec("quickstart", {"train.steps": 100, "run.folder": "runs/first"})
    """
    from accomp.core.spec.build import check_combination
    from accomp.core.spec.schema import load_spec as load

    found = catalog.registry()
    loaded = load(spec, found, assignments(settings or {}), "settings")
    check_combination(loaded, found)
    return loaded


def run_spec(spec: Spec, *, model: str | Path | None = None) -> Path:
    """Run all stages of an experiment: ingest, train, generate, evaluate, report. Finished work is not done again.

    Args:
        spec: What `load_spec` gave.
        model: A run whose model plays instead of one that is trained.

    Returns:
        The run folder, for `load_run`.

    Raises:
        UserError: The spec, the corpus or a plugin is not in order.
        WorkError: The work failed though the input was in order.
    """
    return run_stages(spec, *(stage for stage in STAGES if model is None or stage != "train"), model=model)


def ingest(spec: Spec) -> Path:
    """Tokenize the corpus of a spec into its store, and return the run folder."""
    return run_stages(spec, "ingest")


def train(spec: Spec) -> Path:
    """Train the model of a spec, from its last checkpoint on, and return the run folder."""
    return run_stages(spec, "train")


def generate(spec: Spec, *, model: str | Path | None = None) -> Path:
    """Have the model play to held-out songs, and return the run folder. model: a run whose model plays instead."""
    return run_stages(spec, "generate", model=model)


def report(spec: Spec) -> Path:
    """Write the report of a run, and return the run folder, in which it is report.html."""
    return run_stages(spec, "report")


def run_stages(spec: Spec, *stages: str, model: str | Path | None = None, registry: Registry | None = None) -> Path:
    """Run stages of an experiment in this order, in its run folder, which stays locked meanwhile.

    Args:
        spec: What is run.
        *stages: Names of `STAGES`, or "choose".
        model: A run whose model plays in this one.
        registry: The components to use; those of this environment where not given.

    Returns:
        The run folder.

    Raises:
        UserError: The parts do not fit, the folder holds another experiment, or what the stages raise.
    """
    from accomp.core.runs.folder import borrow_model, model_and_step, run_of
    from accomp.core.runs.models import find_model
    from accomp.core.spec.build import check_combination

    parts = catalog.registry() if registry is None else registry
    check_combination(spec, parts)
    lender = None if model is None else find_model(model, parts)
    with run_of(spec) as folder:
        if lender is not None:
            borrow_model(folder, *model_and_step(lender))
        for stage in stages:
            run_stage(stage, spec, parts, folder)
    return folder


def own_spec(folder: Path) -> Spec:
    """The spec of a run folder, which may play a model of another run. Raises UserError where it has none."""
    import json

    from accomp.core.errors import UserError
    from accomp.core.runs.folder import SPEC
    from accomp.core.spec.schema import structure

    path = folder / SPEC
    if not path.is_file():
        raise UserError(
            f"the run has no spec of its own, only a model; have it play in an experiment: accomp.run_spec(spec, "
            f"model={str(folder)!r}) @ {path}"
        )
    data = json.loads(path.read_text(encoding="utf-8"))
    data["run"] = {**data.get("run", {}), "folder": str(folder)}
    return structure(data, catalog.registry(), where=str(path))


def assignments(settings: Mapping[str, Any]) -> list[str]:
    """Dotted key -> value as the command line gives it: KEY=TOML."""
    from accomp.core.spec.toml_files import toml_value

    return [f"{key}={toml_value(value)}" for key, value in settings.items()]
