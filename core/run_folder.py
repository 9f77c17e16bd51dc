"""A run folder: which experiment it holds, made with what, whose model plays. Whoever writes there opens it first."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from accomp.core.console import warn
from accomp.core.errors import CheckpointError, SpecError
from accomp.core.files import write_atomic
from accomp.core.pairs import PairRules
from accomp.core.records import read_record
from accomp.core.spec import Spec, resolve
from accomp.core.structuring import plain

FREE = (
    "run", "runner", "runtime", "sampler", "guidance", "generate", "evaluate", "metric",
    "train.log_every", "train.validate_every", "train.validation_batches", "train.checkpoint_every", "train.keep",
    "train.compile",
)  # fmt: skip
"""Sections and keys that may change in a folder that already holds a run: they do not touch what its model learns, and
takes and metrics know themselves what they were made with.

GROWING may grow as well, to train further. Everything else makes another experiment and needs another folder.
"""

GROWING = ("train.steps", "train.minutes")

MODEL = "model.json"
"""In a run folder that has no model of its own: the run folder that has, relative to this one."""

LIBRARIES = ("accomp", "torch", "numpy", "lightning", "zarr")


def open_run(spec: Spec) -> Path:
    """The run folder of `spec`, made if need be, with spec.json (the resolved spec) and versions.json in it.

    Raises SpecError, naming every key that differs, when the folder holds the run of another spec.
    """
    folder = Path(spec.run.folder)
    resolved = json.loads(json.dumps(resolve(spec)))
    held = _read(folder / "spec.json")
    if held is not None and (differences := list(_differences(held, resolved))):
        raise SpecError(
            *(f"{text} @ {folder / 'spec.json'}" for text in differences),
            f"the folder {folder} holds the run of another spec; give this one its own: --run NEW, or [run] folder",
        )
    if held != resolved:
        write_atomic(folder / "spec.json", json.dumps(resolved, indent=2) + "\n")
    now = versions()
    before = _read(folder / "versions.json")
    if before != now:
        if before is not None:
            both = sorted(before.keys() | now.keys())
            changed = [f"{key} {before.get(key)} -> {now.get(key)}" for key in both if before.get(key) != now.get(key)]
            warn(f"{folder} was begun with other versions: {', '.join(changed)}")
        write_atomic(folder / "versions.json", json.dumps(now, indent=2) + "\n")
    return folder


def borrow_model(run: Path, model: Path) -> None:
    """Have `run` play the model that is trained in the run folder `model`. The two may be moved together."""
    relative = Path(os.path.relpath(model.resolve(), run.resolve()))
    write_atomic(run / MODEL, json.dumps({"run": relative.as_posix()}) + "\n")


def model_folder(run: Path) -> Path:
    """The run folder whose model plays in `run`: itself, unless it has borrowed one.

    Raises CheckpointError where that one is not there any more.
    """
    if not (run / MODEL).exists():
        return run
    try:
        model = (run / json.loads((run / MODEL).read_text(encoding="utf-8"))["run"]).resolve()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"cannot read whose model plays here: {error} @ {run / MODEL}") from error
    if not model.is_dir():
        raise CheckpointError(f"this run plays the model of {model}, which is gone; copy the two together @ {run}")
    return model


def versions() -> dict[str, str]:
    """What a run is made with: versions of python, of the main libraries and of the code itself, and the platform."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    found |= {name: _version(name) for name in LIBRARIES}
    if revision := _git_revision(Path(str(resources.files("accomp.core"))).parent):
        found["git"] = revision
    return found


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


def _git_revision(root: Path) -> str | None:
    """Commit of the checkout whose top folder is `root`, "+changes" where files differ from it; None elsewhere."""
    git = shutil.which("git")
    if not git or not (root / ".git").exists():
        return None

    def ask(*words: str) -> str | None:
        answer = subprocess.run([git, "-C", str(root), *words], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return f"{commit}+changes" if commit and ask("status", "--porcelain", "--untracked-files=no") else commit


def _read(path: Path) -> dict[str, Any] | None:
    return read_record(path, "move the folder away to begin anew", error=SpecError) if path.exists() else None


def _differences(held: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """One line per key that may not change and does."""
    once = {"pairs": plain(PairRules())}  # what a run did that was begun before there was such a section
    before, after = dict(_leaves({**once, **held})), dict(_leaves(new))
    for key in sorted(before.keys() | after.keys()):
        old, now = before.get(key, "absent"), after.get(key, "absent")
        if old == now or any(key == free or key.startswith(f"{free}.") for free in FREE):
            continue
        if key in GROWING and isinstance(old, (int, float)) and isinstance(now, (int, float)):
            if now < old:
                yield f"{key} may grow from {old!r} but not shrink to {now!r}"
            continue
        yield f"{key} is {now!r} now, {old!r} there"


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else name)
    else:
        yield key, value
