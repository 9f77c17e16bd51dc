"""Stages of an experiment by name. Each is imported only when it runs."""

from __future__ import annotations

from pathlib import Path

from accomp.core.registry import Registry
from accomp.core.spec.schema import Spec


def run_stage(stage: str, spec: Spec, registry: Registry, folder: Path) -> None:
    """Run "ingest", "train", "choose", "generate", "evaluate" or "report" of a spec in the run folder `folder`.

    Raises the errors of the stage.
    """
    match stage:
        case "ingest":
            from accomp.core.data.ingest.stage import ingest

            ingest(spec, registry)
        case "train":
            from accomp.core.training.trainer import train

            train(spec, registry, folder)
        case "choose":
            from accomp.core.evaluation.choose import choose

            choose(spec, registry, folder)
        case "generate":
            from accomp.core.generation.generate import generate

            generate(spec, registry, folder)
        case "evaluate":
            from accomp.core.evaluation.evaluate import evaluate

            evaluate(spec, registry, folder)
        case "report":
            from accomp.core.report import write_report

            write_report(spec, registry, folder)
        case _:
            raise ValueError(f"no stage is called {stage!r}")
