"""Lightning Fabric with the devices and the precision of a spec's [run]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.fabric import Fabric
from lightning.fabric.strategies import ModelParallelStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException

from accomp.core.compute.sharding import shard
from accomp.core.errors import SpecError
from accomp.core.spec.sections import RunSpec


def fabric_of(run: RunSpec, loggers: Sequence[Any] = ()) -> Fabric:
    """Create Lightning Fabric as a spec's [run] configures it. Raises SpecError for unsupported or unavailable
    settings.
    """
    sharded = run.strategy == "fsdp"
    if sharded and run.precision == "16-mixed":
        text = (
            'run.strategy = "fsdp" does not go with run.precision = "16-mixed", which scales gradients in each process'
        )
        raise SpecError(f'{text} by itself; take "bf16-mixed" @ run.precision')
    try:
        return Fabric(
            accelerator=run.accelerator,
            devices=run.devices,
            strategy=ModelParallelStrategy(shard, run.devices, 1) if sharded else run.strategy,
            precision=run.precision,
            loggers=list(loggers),
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        settings = f"accelerator = {run.accelerator!r}, devices = {run.devices}, strategy = {run.strategy!r}, "
        settings += f"precision = {run.precision!r}"
        raise SpecError(f"cannot compute with {settings}: {error} @ run; `accomp doctor` lists the devices") from error
