"""Run folders: the experiment that each one holds, its versions, and the model that plays in it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from accomp.core.console import say, warn
from accomp.core.errors import CheckpointError, SpecError
from accomp.core.files import clear_unfinished, folder_lock, read_record, write_atomic
from accomp.core.model.ahead_keys import AheadKeys
from accomp.core.runs.checkpoint_folders import strays
from accomp.core.spec.pairs import PairRules
from accomp.core.spec.parsing import plain
from accomp.core.spec.schema import Spec, resolve

FREE = (
    "run", "runner", "runtime", "sampler", "guidance", "generate", "evaluate", "metric",
    "train.log_every", "train.validate_every", "train.validation_batches", "train.checkpoint_every", "train.keep",
    "train.compile",
)  # fmt: skip
"""Sections and keys that may change in a folder that already holds a run: they do not affect the trained model, and
takes and metrics record their own settings.

GROWING may also grow, to train further. Any other change makes another experiment, which needs another folder.
"""

GROWING = ("train.steps", "train.minutes")

SPEC, VERSIONS = "spec.json", "versions.json"
BEFORE_ANYTHING = ("losses.jsonl", "logs")
"""Files that a training without a checkpoint writes anew."""

MODEL = "model.json"
"""File in a run folder without a model of its own: relative path of the run folder whose model plays, and the step of
its checkpoint if it shall be another than plays there."""

LIBRARIES = ("accomp", "torch", "numpy", "lightning", "zarr")


@contextmanager
def run_of(spec: Spec) -> Iterator[Path]:
    """Open the run folder of `spec` and hold its lock while the block runs.

    Waits for another process that works there, and removes unfinished files of killed ones. A block that fails before
    it has written anything leaves the folder as it was. The further processes of a training on several devices share
    the lock of the first one. Raises SpecError as `open_run`, DataError for a folder that cannot be created or written
    to.
    """
    folder = Path(spec.run.folder)
    if not _leads():
        yield folder
        return
    _refuse_other(folder, _plain(spec))  # announced before waiting for the lock
    was_there = folder.exists()
    try:
        with folder_lock(folder, lambda who: say(f"{who} is at work in this run folder; waiting for it @ {folder}")):
            clear_run(folder)
            for path in strays(folder):
                warn(f"no checkpoint, passed over @ {path}")
            before = {path.name for path in folder.iterdir()} if _nothing_made(folder) else None
            try:
                yield open_run(spec)
            except BaseException:
                if before is not None and _nothing_made(folder):
                    for name in {SPEC, VERSIONS, MODEL} - before:
                        (folder / name).unlink(missing_ok=True)
                raise
    finally:
        if not was_there:
            with suppress(OSError):  # results exist
                folder.rmdir()


def open_run(spec: Spec) -> Path:
    """Create the run folder of `spec` if it is missing and write spec.json (the resolved spec) and versions.json.

    Raises SpecError, naming every key that differs, when the folder holds the run of another spec. A folder without
    results may be taken over.
    """
    folder, resolved = Path(spec.run.folder), _plain(spec)
    _refuse_other(folder, resolved)
    if _read(folder / SPEC) != resolved:
        write_atomic(folder / SPEC, json.dumps(resolved, indent=2) + "\n")
    now = versions()
    before = _read(folder / VERSIONS)
    if before != now:
        if before is not None:
            both = sorted(before.keys() | now.keys())
            changed = [f"{key} {before.get(key)} -> {now.get(key)}" for key in both if before.get(key) != now.get(key)]
            warn(f"{folder} was begun with other versions: {', '.join(changed)}")
        write_atomic(folder / VERSIONS, json.dumps(now, indent=2) + "\n")
    return folder


def clear_run(folder: Path) -> None:
    """Remove unfinished files of killed processes from a locked run folder."""
    clear_unfinished(folder, r"[\w.]+\.(?:json|jsonl|html|toml)")
    clear_unfinished(folder / "checkpoints", r"step_\d+")
    clear_unfinished(folder / "takes", r".+?")
    for cache in ("cache", "anchors"):
        for part in (folder / cache).glob("[0-9a-f][0-9a-f]"):
            clear_unfinished(part, r"[0-9a-f]+\.npy")


def borrow_model(run: Path, model: Path, step: int | None = None) -> None:
    """Let `run` play the model that is trained in the run folder `model`. The two may be moved together.

    step: of the checkpoint, in place of the one that plays there.
    """
    relative = Path(os.path.relpath(model.resolve(), run.resolve()))
    borrowed = {"run": relative.as_posix()} | ({} if step is None else {"step": step})
    write_atomic(run / MODEL, json.dumps(borrowed) + "\n")


def model_folder(run: Path) -> Path:
    """Return the run folder whose model plays in `run`: itself, unless it has borrowed one.

    Raises CheckpointError where the other folder does not exist any more.
    """
    return model_and_step(run)[0]


def model_and_step(run: Path) -> tuple[Path, int | None]:
    """Return `model_folder`, and the step of its checkpoint that plays in `run`; None where the run names none."""
    if not (run / MODEL).exists():
        return run, None
    try:
        record = json.loads((run / MODEL).read_text(encoding="utf-8"))
        model, step = (run / record["run"]).resolve(), record.get("step")
        step = None if step is None else int(step)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read whose model plays here: {error} @ {run / MODEL}") from error
    if not model.is_dir():
        raise CheckpointError(f"this run plays the model of {model}, which is gone; copy the two together @ {run}")
    return model, step


def versions() -> dict[str, str]:
    """Return the versions of python, of the main libraries and of the code itself, and the platform."""
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
    """Return the commit of the checkout at `root`, with "+changes" for modified files; None elsewhere."""
    git = shutil.which("git")
    if not git or not (root / ".git").exists():
        return None

    def ask(*words: str) -> str | None:
        answer = subprocess.run([git, "-C", str(root), *words], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return f"{commit}+changes" if commit and ask("status", "--porcelain", "--untracked-files=no") else commit


def _plain(spec: Spec) -> dict[str, Any]:
    plain_spec: dict[str, Any] = json.loads(json.dumps(resolve(spec)))
    return plain_spec


def _refuse_other(folder: Path, resolved: Mapping[str, Any]) -> None:
    stored = _read(folder / SPEC)
    if stored is None or not (differences := list(_differences(stored, resolved))) or _nothing_made(folder):
        return
    raise SpecError(
        *(f"{text} @ {folder / SPEC}" for text in differences),
        f"the folder {folder} holds the run of another spec; give this one a run.folder of "
        "its own (on the command line: --run NEW)",
    )


def _nothing_made(folder: Path) -> bool:
    """Test that a run folder holds no results and nothing that a command could resume."""
    return not any(
        path.name not in (SPEC, VERSIONS, MODEL, *BEFORE_ANYTHING) and not path.name.startswith(".")
        and not (path.is_dir() and not any(path.iterdir()))
        for path in (folder.iterdir() if folder.is_dir() else ())
    )  # fmt: skip


def _leads() -> bool:
    """Test that this is the first of the processes that Lightning, torchrun or Slurm start for one command."""
    return all(os.environ.get(name, "0") in ("", "0") for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def _read(path: Path) -> dict[str, Any] | None:
    return read_record(path, "move the folder away to begin anew", error=SpecError) if path.exists() else None


def _differences(stored: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line per key that must not change and does."""
    once = {"pairs": plain(PairRules())}  # behaviour of runs that began before this section existed
    before, after = dict(_leaves({**once, **stored})), dict(_leaves(new))
    for key, value in _leaves({"objective": plain(AheadKeys())}):  # or such keys
        if key in after:
            before.setdefault(key, value)
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
