"""The section [runner] of a spec: on which processes or machines the work is done that falls into tasks of their own.

[runner]
engine = "ray"
cpus = 4
ray = { address = "auto" }
"""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen
from attrs import validators as v


@frozen
class RaySpec:
    """`address`: of a Ray cluster ("auto" for the one this machine belongs to, "HOST:PORT", "ray://HOST:10001").

    "" starts Ray on this machine, for as long as the work takes.
    """

    address: str = ""


@frozen
class SlurmSpec:
    """What Slurm is asked for. Where a value is absent, the cluster's own default holds.

    Attributes:
        folder: for the jobs' files and logs; every node must see it under this path.
        partition: where jobs run.
        minutes: the longest that a job may take; one that takes longer is put into the queue again, to go on.
        memory: of a job (GB).
        tasks_per_job: tasks that one job does one after another: more for short ones, such as songs.
        options: anything else that sbatch takes, by name: { account = "x", constraint = "a100" }.
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
    """Who does the work that falls into tasks: songs of an ingest, cells of a grid. It never changes what comes out.

    Attributes:
        engine: processes of this machine, a Ray cluster (the extra `ray`), or jobs of a Slurm cluster (`slurm`).
        workers: tasks at a time. Absent: one on this machine, as many as fit into a Ray cluster, all of them as jobs.
        cpus: CPU threads of a task; absent: this machine's cores, divided among the workers; elsewhere 1.
        gpus: GPUs of a task; 0.5 lets two tasks share one. 0 on this machine: every task may use what is there.
        retries: how often a task that failed is tried again.
    """

    engine: Literal["local", "ray", "slurm"] = "local"
    workers: int | None = field(default=None, validator=v.optional(v.ge(1)))
    cpus: int | None = field(default=None, validator=v.optional(v.ge(1)))
    gpus: float = field(default=0.0, validator=v.and_(v.ge(0.0), _whole_beyond_one))
    retries: int = field(default=1, validator=v.ge(0))
    ray: RaySpec = RaySpec()
    slurm: SlurmSpec = SlurmSpec()
