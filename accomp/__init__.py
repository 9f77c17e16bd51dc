"""Streaming music accompaniment: load a trained model and let it play, or run an experiment.

    import accomp

    run = accomp.load_run("pretrained")
    take = run.accompany("song.wav", instrument="Bass")
    take.save("bass.wav")

Names are imported at their first use, so that `import accomp` is quick. `accomp.plugin` is what a plugin imports. What
is in neither of the two is private and may change.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accomp.audio import Accompaniment, Sound
    from accomp.catalog import Plugin, check_plugin, plugins
    from accomp.core.errors import UserError
    from accomp.core.spec.schema import Spec
    from accomp.experiment import generate, ingest, load_spec, report, run_spec, train
    from accomp.run import Run, load_run
    from accomp.scores import Scores, evaluate
    from accomp.session import Batch, Session

__all__ = [
    "Accompaniment",
    "Batch",
    "Plugin",
    "Run",
    "Scores",
    "Session",
    "Sound",
    "Spec",
    "UserError",
    "__version__",
    "check_plugin",
    "evaluate",
    "generate",
    "ingest",
    "load_run",
    "load_spec",
    "plugins",
    "report",
    "run_spec",
    "train",
]

_MODULES = {
    "Accompaniment": "accomp.audio",
    "Batch": "accomp.session",
    "Plugin": "accomp.catalog",
    "Run": "accomp.run",
    "Scores": "accomp.scores",
    "Session": "accomp.session",
    "Sound": "accomp.audio",
    "Spec": "accomp.core.spec.schema",
    "UserError": "accomp.core.errors",
    "check_plugin": "accomp.catalog",
    "evaluate": "accomp.scores",
    "generate": "accomp.experiment",
    "ingest": "accomp.experiment",
    "load_run": "accomp.run",
    "load_spec": "accomp.experiment",
    "report": "accomp.experiment",
    "run_spec": "accomp.experiment",
    "train": "accomp.experiment",
}
"""Public name -> the module that defines it. `plugins` is the package of built-in plugins, which can be called."""

__version__: str

if not TYPE_CHECKING:  # so that a type checker finds a misspelt name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("accomp")
        if name == "plugins":
            return importlib.import_module("accomp.plugins")
        if name in _MODULES:
            return getattr(importlib.import_module(_MODULES[name]), name)
        raise AttributeError(f"module 'accomp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
