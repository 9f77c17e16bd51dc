"""The section [runner] of a spec: processes or machines for work that consists of independent tasks.

[runner] engine = "ray" cpus = 4 ray = { address = "auto" }
"""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen
from attrs import validators as v


@frozen
class RaySpec:
    """Address of a Ray cluster: "auto" for the one that this machine belongs to, "HOST:PORT", "ray://HOST:10001".

    "" starts Ray on this machine for the duration of the work.
    """

    address: str = ""


@frozen
class SlurmSpec:
    """Request to Slurm. The cluster's defaults apply where a value is absent.

    Attributes:
        folder: for the jobs' files and logs; every node must have it under this path.
        partition: partition of the jobs.
        minutes: time limit of a job; a job that exceeds it is requeued and resumes.
        memory: of a job (GB).
        tasks_per_job: successive tasks of one job: more for short ones, such as songs.
        options: further options of sbatch, by name: { account = "x", constraint = "a100" }.
    """

    folder: str = field(default="runs/slurm", validator=v.min_len(1))
    partition: str | None = None
    minutes: int = field(default=24 * 60, validator=v.ge(1))
    memory: float | None = field(default=None, validator=v.optional(v.gt(0.0)))
    tasks_per_job: int = field(default=1, validator=v.ge(1))
    options: dict[str, str] = field(factory=dict)


def _whole_beyond_one(_: object, attribute: object, gpus: float) -> None:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(f"gpus is {gpus}; a task gets a share of one GPU (0.5), or whole ones (2)")


@frozen
class RunnerSpec:
    """Settings of independent tasks: songs of an ingest, cells of a grid. They never change results.

    Attributes:
        engine: processes of this machine, a Ray cluster (the extra `ray`), or jobs of a Slurm cluster (`slurm`).
        workers: concurrent tasks. Absent: one on this machine, as many as fit into a Ray cluster, all of them as jobs.
        cpus: CPU threads of a task; absent: this machine's cores, divided among the workers; elsewhere 1.
        gpus: GPUs of a task; 0.5 lets two tasks share one. 0 on this machine: every task may use all of them.
        retries: number of further attempts of a failed task.
    """

    engine: Literal["local", "ray", "slurm"] = "local"
    workers: int | None = field(default=None, validator=v.optional(v.ge(1)))
    cpus: int | None = field(default=None, validator=v.optional(v.ge(1)))
    gpus: float = field(default=0.0, validator=v.and_(v.ge(0.0), _whole_beyond_one))
    retries: int = field(default=1, validator=v.ge(0))
    ray: RaySpec = RaySpec()
    slurm: SlurmSpec = SlurmSpec()
