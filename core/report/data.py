"""The records of a run folder, read for its page. A stage that has not run yet is empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import field, frozen

from accomp.core.console import warn
from accomp.core.errors import DataError
from accomp.core.files import read_record
from accomp.core.generation.take_files import identity_of_takes, takes_of
from accomp.core.runs.folder import model_folder
from accomp.core.runs.history import read_losses, unit_of


@frozen
class RunData:
    """The records of a run, as its stages wrote them.

    Attributes:
        name: the run folder's own name.
        spec: the resolved spec.
        versions: versions of python, libraries and code that made the run.
        losses: records of losses.jsonl, of the run whose model plays.
        takes: take.json of every take whose files are complete, in order; `folder` is added.
        made: takes.json (settings, checkpoint, failed clips), None before `accomp generate`.
        metrics: metrics.json, None before `accomp evaluate`.
    """

    name: str
    spec: dict[str, Any]
    versions: dict[str, str]
    losses: list[dict[str, Any]] = field(factory=list)
    takes: list[dict[str, Any]] = field(factory=list)
    made: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None

    def losses_of(self, kind: str) -> list[dict[str, Any]]:
        """Records of "train", "validation" or "unigram"."""
        return [record for record in self.losses if record["kind"] == kind]

    @property
    def unit(self) -> str:
        """The unit of the losses."""
        return unit_of(self.losses)

    @property
    def streams(self) -> bool:
        """True for a model with a clock, False for one that needs a whole clip before it plays."""
        return "clock" in self.spec

    @property
    def playing(self) -> dict[str, Any]:
        """The sections `sampler` and `guidance` that the takes were made with; before there are any, those of the spec.

        A run that is older than guidance has none.
        """
        settings = (self.made or {}).get("settings", self.spec)
        return {"sampler": settings["sampler"], "guidance": settings.get("guidance", {})}

    @property
    def frames_a_step(self) -> int:
        """k of a model that streams."""
        k: int = self.spec["clock"]["k"]
        return k

    @property
    def step_limit(self) -> float:
        """Milliseconds of the frames that a step plays."""
        frame: float = self.takes[0]["timings"]["frame_ms"]
        return self.frames_a_step * frame

    @property
    def step_times(self) -> list[float]:
        """Milliseconds that each step of each take took, of a model that streams."""
        return [time for take in self.takes for time in take["timings"]["step_ms"]]


def read_run(run: Path) -> RunData:
    """Raises DataError for a folder that holds no run, or a record that is not JSON, WorkError for damaged takes."""
    if not (run / "spec.json").is_file():
        raise DataError(f"no run here: spec.json is missing; `accomp train SPEC` makes one @ {run}")
    made = _read(run / "takes.json")
    takes = takes_of(run, made) if made else []
    metrics = _read(run / "metrics.json")
    if made and metrics and metrics.get("takes", "") not in ("", identity_of_takes(made)):
        warn(f"the scores are those of other takes and left out; run `accomp evaluate SPEC` @ {run / 'metrics.json'}")
        metrics = None
    return RunData(
        name=run.resolve().name,
        spec=_read(run / "spec.json") or {},
        versions=_read(run / "versions.json") or {},
        losses=read_losses(model_folder(run)),
        takes=takes,
        made=made,
        metrics=metrics,
    )


def _read(path: Path) -> dict[str, Any] | None:
    return read_record(path, "remove the file and run its stage again") if path.exists() else None
