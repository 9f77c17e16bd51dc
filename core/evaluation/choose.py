"""Choice of the checkpoint that plays by what each plays freely, instead of by its validation loss.

A validation loss is that of predictions from the true past. A model that plays has only its own past, so that a lower
loss need not mean better playing. Here each kept checkpoint makes some takes, and metrics score them beside anchors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from accomp.core.console import say
from accomp.core.errors import CheckpointError, SpecError
from accomp.core.evaluation.evaluate import RECORD, evaluate, evaluate_anchors
from accomp.core.evaluation.statistics import share_of_way
from accomp.core.files import read_record
from accomp.core.generation.generate import generate
from accomp.core.registry import Registry
from accomp.core.runs.checkpoint_folders import checkpoint_folder, checkpoint_steps
from accomp.core.runs.choice import write_choice
from accomp.core.runs.folder import borrow_model, clear_run, model_folder
from accomp.core.runs.history import read_losses
from accomp.core.spec.schema import Spec

FOLDER = "choice"
"""In the run folder: takes and scores of each checkpoint, and the anchors."""
WORST, BEST = -1.0, 1.0
"""Bounds of a share: beyond them no metric outweighs the others."""


@frozen
class Score:
    """What a checkpoint plays like.

    Attributes:
        numbers: number -> its value for the takes.
        shares: number -> (takes - random pairing) / (true stem - random pairing), within WORST and BEST.
        loss: validation loss, None where there was no validation at its step.
    """

    numbers: Mapping[str, float]
    shares: Mapping[str, float]
    loss: float | None

    @property
    def mean(self) -> float:
        """Mean of the shares."""
        return sum(self.shares.values()) / len(self.shares)


def choose(spec: Spec, registry: Registry, run: Path) -> int:
    """Score the takes of [generate] of each checkpoint of a run, and let the best play from now on -> its step.

    The best has the greatest mean share of the way from random pairing to the true stem, over the numbers that answer
    a question of the report, or all numbers where none does. What is made already is kept. Raises CheckpointError
    for a run with fewer than two checkpoints, or with a borrowed model; SpecError where no number has both anchors.
    """
    if (model := model_folder(run)) != run:
        raise CheckpointError(f"this run plays the model of {model}; choose among the checkpoints there @ {run}")
    if not spec.metric:
        raise SpecError("no metric to choose by; expected one or more, as beat_f1 and harmony @ [[metric]]")
    steps = checkpoint_steps(run)
    if len(steps) < 2:
        kept = f"step {steps[0]} alone" if steps else "none"
        raise CheckpointError(
            f"checkpoints to choose from: {kept}; expected two or more; train with a larger train.keep @ {run}"
        )
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    clear_run(folder)
    spec = _own_takes(spec, folder)
    anchors = _scored(_cells(spec, "true_stem", "random_pairing"), registry, folder)
    losses = {one["step"]: float(one["loss"]) for one in read_losses(run) if one["kind"] == "validation"}
    scores = {}
    for step in steps:
        one = folder / checkpoint_folder(run, step).name
        one.mkdir(exist_ok=True)
        clear_run(one)
        borrow_model(one, run, step)
        say(f"checkpoint of step {step} plays")
        generate(spec, registry, one)
        takes = _scored(_cells(spec, "model"), registry, one)
        scores[step] = _score(takes["model"], anchors, losses.get(step))
    chosen = max(steps, key=lambda step: scores[step].mean)
    write_choice(run, chosen, {step: {**attrs.asdict(score), "mean": score.mean} for step, score in scores.items()})
    for line in _lines(scores, chosen, spec.generate.takes):
        say(line)
    return chosen


def _own_takes(spec: Spec, folder: Path) -> Spec:
    """The spec without takes that hear another song, and with one cache for all checkpoints."""
    cache = spec.evaluate.cache or str(folder / "cache")
    takes, scores = attrs.evolve(spec.generate, deaf=False), attrs.evolve(spec.evaluate, cache=cache)
    return attrs.evolve(spec, generate=takes, evaluate=scores)


def _cells(spec: Spec, *names: Any) -> Spec:
    """The spec with these clip sets alone."""
    return attrs.evolve(spec, evaluate=attrs.evolve(spec.evaluate, cells=names))


def _scored(spec: Spec, registry: Registry, folder: Path) -> dict[str, Any]:
    """Evaluate the clip sets of a spec in a folder -> name -> record of each."""
    (evaluate if "model" in spec.evaluate.cells else evaluate_anchors)(spec, registry, folder)
    cells: dict[str, Any] = read_record(folder / RECORD, "run `accomp choose SPEC` again")["cells"]
    return cells


def _score(takes: dict[str, Any], anchors: dict[str, Any], loss: float | None) -> Score:
    """Raises SpecError where no number of the metrics has a value for takes and both anchors."""
    found: dict[str, tuple[float, float, bool]] = {}
    for metric, one in takes["metrics"].items():
        for number, is_now in one["numbers"].items():
            true, random = (_value(anchors[cell], metric, number) for cell in ("true_stem", "random_pairing"))
            if true is not None and random is not None and true != random:
                share = share_of_way(is_now["value"], random, true)
                found[number] = is_now["value"], min(max(share, WORST), BEST), number in one.get("answers", {})
    if not found:
        raise SpecError("no number of the spec's metrics has a value for the takes and for both anchors @ [[metric]]")
    asked = any(answers for _, _, answers in found.values())
    used = {number: one for number, one in found.items() if one[2] or not asked}
    return Score({number: one[0] for number, one in used.items()}, {n: one[1] for n, one in used.items()}, loss)


def _value(cell: dict[str, Any], metric: str, number: str) -> float | None:
    one = cell["metrics"].get(metric, {"numbers": {}})["numbers"].get(number)
    return None if one is None else float(one["value"])


def _lines(scores: Mapping[int, Score], chosen: int, takes: int) -> list[str]:
    lines = []
    for step, score in scores.items():
        numbers = ", ".join(f"{name} {value:.3f} ({score.shares[name]:.0%})" for name, value in score.numbers.items())
        loss = "not validated" if score.loss is None else f"validation loss {score.loss:.3f}"
        lines.append(
            f"step {step}: {score.mean:.0%} of the way from random pairing to the true stem: {numbers}; {loss}"
        )
    lines.append(
        f"the checkpoint of step {chosen} plays from now on; with {takes} takes, small differences may be chance"
    )
    return lines
