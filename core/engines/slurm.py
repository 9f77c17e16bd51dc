"""Jobs of a Slurm cluster, through submitit. Arguments and answers are files in a folder that all nodes share."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accomp.core.engines.attempts import Answer, Attempt, Call, Worker, read
from accomp.core.errors import UserError
from accomp.core.spec.runner import RunnerSpec

CLUSTER = "slurm"
"""submitit's name of the cluster; its "local" runs the same jobs as processes of this machine."""
POLL = 2.0
"""Seconds between two checks of the jobs; submitit queries Slurm less often."""


class SlurmPool:
    """A job for each task, or for each `runner.slurm.tasks_per_job` of them."""

    def __init__(self, runner: RunnerSpec, call: Call, fresh: bool):
        """Raise UserError where there is no Slurm, or for a fraction of a GPU, which Slurm does not support."""
        slurm = runner.slurm
        if runner.gpus != int(runner.gpus):
            raise UserError(f"Slurm gives whole GPUs, got {runner.gpus:g} @ runner.gpus")
        self._executor = _executor(Path(slurm.folder).absolute())
        parameters: dict[str, Any] = {
            "name": "accomp",
            "timeout_min": slurm.minutes,
            "cpus_per_task": runner.cpus or 1,
            "gpus_per_node": int(runner.gpus) or None,
            "mem_gb": slurm.memory,
            "slurm_partition": slurm.partition,
            "slurm_additional_parameters": slurm.options or None,
        }
        self._executor.update_parameters(**{name: value for name, value in parameters.items() if value is not None})
        self._work = _Work(call, runner.cpus or 1)
        self._a_job = 1 if fresh else slurm.tasks_per_job
        self._most = None if runner.workers is None else runner.workers * self._a_job
        self._gathered: list[Attempt] = []
        self._jobs: dict[Any, list[Attempt]] = {}
        self._ended: deque[tuple[Attempt, Answer]] = deque()

    def has_room(self) -> bool:
        """See Pool."""
        under_way = len(self._gathered) + len(self._ended) + sum(map(len, self._jobs.values()))
        return self._most is None or under_way < self._most

    def begin(self, attempt: Attempt) -> None:
        """See Pool. A retry gets a job of its own, so that it affects no other task."""
        if attempt.number > 1:
            self._submit([attempt])
            return
        self._gathered.append(attempt)
        if len(self._gathered) >= self._a_job:
            self._submit_gathered()

    def wait(self) -> tuple[Attempt, Answer]:
        """See Pool."""
        self._submit_gathered()
        while not self._ended:
            for job in [job for job in self._jobs if job.done()]:
                attempts = self._jobs.pop(job)
                self._ended += zip(attempts, _answers(job, len(attempts)), strict=True)
            if not self._ended:
                time.sleep(POLL)
        return self._ended.popleft()

    def close(self) -> None:
        """See Pool."""
        for job in self._jobs:
            job.cancel()
        self._jobs = {}

    def _submit_gathered(self) -> None:
        if self._gathered:
            self._submit(self._gathered)
            self._gathered = []

    def _submit(self, attempts: Sequence[Attempt]) -> None:
        job = self._executor.submit(self._work, [attempt.argument for attempt in attempts])
        self._jobs[job] = list(attempts)


class _Work:
    """The content of a job: successive attempts. A job that exceeds its time limit is requeued and resumes."""

    def __init__(self, call: Call, threads: int):
        self._call, self._threads = call, threads

    def __call__(self, arguments: list[bytes]) -> list[bytes]:
        worker = Worker(self._call, self._threads)
        return [worker.attempt(argument) for argument in arguments]

    def checkpoint(self, arguments: list[bytes]) -> Any:
        """Requeue the job; submitit calls this before Slurm ends or preempts it."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, arguments)


def _executor(folder: Path) -> Any:
    import submitit

    try:
        return submitit.AutoExecutor(folder, cluster=CLUSTER)
    except RuntimeError as error:
        raise UserError(
            f"there is no Slurm here: {error}; run the command on a machine that submits jobs @ runner.engine"
        ) from error


def _answers(job: Any, count: int) -> list[Answer]:
    try:
        return [read(answer) for answer in job.result()]
    except Exception as error:
        text = f"its job {job.job_id} ended without an answer ({job.state}); see {job.paths.stderr}"
        return [Answer(failure=text, trace=str(error))] * count
