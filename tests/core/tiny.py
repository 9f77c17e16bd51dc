"""The smallest whole experiment: a corpus of noise, a codec of two levels, a model of a few thousand weights.

Also a plugin module, so that the command line finds these parts: put the folder that `install_at` fills, and this one,
on PYTHONPATH.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from attrs import frozen
from fakes import RATE, EnergyTokenizer, FolderCorpus, LoudnessTokenizer, tone, write_track

from accomp.core.component import Component
from accomp.core.errors import EmptyClip
from accomp.core.hooks import hookimpl
from accomp.core.registry import Registry
from accomp.core.spec.schema import Spec, structure
from accomp.core.types import Take, TokenSpace

HERE = Path(__file__).parent


class Envelopes:
    """Correlation of how loud context and stem are, 20 ms by 20 ms; silence cannot be judged."""

    best: ClassVar[dict[str, float]] = {"envelopes": 1.0}
    sample_rate = 16000

    @frozen
    class Config:
        pass

    def __init__(self, config: Config, space: TokenSpace):
        self._takes: dict[str, dict[str, float]] = {}

    def update(self, take: Take) -> None:
        if take.sample_rate != self.sample_rate:
            raise ValueError(f"{take.sample_rate} Hz")
        sounds = [
            np.abs(sound[: len(sound) // 320 * 320]).reshape(-1, 320).mean(1) for sound in (take.context, take.stem)
        ]
        if min(sound.std() for sound in sounds) < 1e-4:
            raise EmptyClip("too quiet to judge")
        self._takes[take.id] = {"envelopes": float(np.corrcoef(*sounds)[0, 1])}

    def result(self, takes: Sequence[str] | None = None) -> dict[str, float]:
        chosen = list(self._takes) if takes is None else takes
        if not chosen:
            raise ValueError("no take")
        return {"envelopes": float(np.mean([self._takes[id]["envelopes"] for id in chosen]))}

    def per_take(self) -> dict[str, dict[str, float]]:
        return self._takes


@hookimpl
def accomp_components() -> list[Component]:
    parts = {
        ("corpus", "shelf"): FolderCorpus,
        ("tokenizer", "energy"): EnergyTokenizer,
        ("tokenizer", "loudness"): LoudnessTokenizer,
        ("metric", "envelopes"): Envelopes,
    }
    return [Component(kind, name, f"{cls.__module__}:{cls.__name__}") for (kind, name), cls in parts.items()]


@hookimpl
def accomp_step(run: Path, step: int, losses: dict[str, float]) -> None:
    """Kills the process (SIGKILL) once step TINY_KILL has been logged."""
    if os.environ.get("TINY_KILL") == str(step) and "train/loss" in losses:
        os.kill(os.getpid(), signal.SIGKILL)


def registry() -> Registry:
    """The built-in parts and these."""
    found = Registry(third_party=False)
    found._rows.update({(row.kind, row.name): row for row in accomp_components()})
    return found


def install_at(folder: Path) -> dict[str, str]:
    """Make this module a plugin package for other processes; returns the environment they need."""
    info = folder / "tiny-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[accomp]\ntiny = tiny\n")
    path = os.pathsep.join([str(folder), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def command(*words: str) -> list[str]:
    """A command line of accomp, for subprocess."""
    return [sys.executable, str(Path(sysconfig.get_path("scripts")) / "accomp"), *words]


def song(folder: Path, seed: int, *, stems: int = 3, seconds: float = 4.0) -> None:
    """A song whose stems get louder and softer together: who listens can tell what to play."""
    loud = np.abs(tone(seconds, seed))
    loud = np.convolve(loud, np.ones(RATE // 10) / (RATE // 10), mode="same")
    loud = (loud / loud.max()) ** 2
    sounds = {f"s{k}-{4 * k}": (loud * tone(seconds, 100 * seed + k)).astype(np.float32) for k in range(stems)}
    write_track(folder, sounds)


def corpus(root: Path, **songs: int) -> Path:
    """`songs`: split -> how many; the default is enough for every stage."""
    seed = 0
    for split, count in (songs or {"train": 4, "validation": 2, "test": 3}).items():
        for number in range(count):
            seed += 1
            song(root / split / f"{split}{number}", seed)
    return root


def plain(root: Path, run: Path, store: Path) -> dict[str, object]:
    """The experiment's spec as plain data; sections may be changed before `spec_of`."""
    return {
        "seed": 3,
        "corpus": {"plugin": "shelf", "root": str(root)},
        "store": {"path": str(store), "submixes": 2},
        "tokenizer": {"plugin": "energy"},
        "clock": {"t_f": 2, "k": 1},
        "conditions": {"context": {"drop": 0.1}, "instrument": {"classes": 18, "drop": 0.1}},
        "model": {"width": 16},
        "fuser": {"plugin": "gated_add"},
        "backbone": {"plugin": "llama", "depth": 1, "heads": 2, "hidden": 32, "dropout": 0.1},
        "objective": {"plugin": "ar"},
        "sampler": {"plugin": "top_k", "k": 8},
        "metric": [{"plugin": "envelopes"}],
        "train": {"steps": 20, "batch": 4, "frames": 50, "lr": 1e-2, "warmup": 2, "log_every": 5, "validate_every": 10,
                  "validation_batches": 2, "checkpoint_every": 5},
        "generate": {"takes": 3, "seconds": 1.0},
        "evaluate": {"anchors": 5},
        "run": {"folder": str(run), "accelerator": "cpu", "threads": 1, "logger": "none"},
    }  # fmt: skip


def spec_of(data: dict[str, object]) -> Spec:
    return structure(data, registry())


@frozen
class Trained:
    """A run folder in which the tiny experiment is trained, and all that belongs to it."""

    run: Path
    corpus: Path
    store: Path

    @property
    def registry(self) -> Registry:
        return registry()

    def plain(self, **sections: object) -> dict[str, object]:
        """The spec as plain data, with other sections."""
        return {**plain(self.corpus, self.run, self.store), **sections}

    def spec(self, **sections: object) -> Spec:
        """The spec, with other sections."""
        return spec_of(self.plain(**sections))

    def copy(self, run: Path) -> Trained:
        """The same experiment in another run folder, free to be changed."""
        shutil.copytree(self.run, run)
        return Trained(run, self.corpus, self.store)


def vouch_for(run: Path) -> None:
    """Have the takes of a run say that they were made as they are now, whatever a test has done to them."""
    from accomp.core.files import hash_file
    from accomp.core.generation.take_files import TAKE, files_in

    made = json.loads((run / "takes.json").read_text())
    for id in made["takes"]:
        file = run / "takes" / id / TAKE
        file.write_text(json.dumps({**json.loads(file.read_text()), "files": files_in(file.parent)}))
        made["sha256"][id] = hash_file(file)
    (run / "takes.json").write_text(json.dumps(made))


def trained(folder: Path) -> Trained:
    """Make the corpus, ingest it and train."""
    from accomp.core.data.ingest.stage import ingest
    from accomp.core.runs.folder import open_run
    from accomp.core.training.trainer import train

    made = Trained(folder / "run", corpus(folder / "corpus"), folder / "store.zarr")
    spec = made.spec()
    open_run(spec)
    ingest(spec, made.registry)
    train(spec, made.registry, made.run)
    return made
