"""Detection of losses and gradients that are not finite."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from lightning.fabric import Fabric
from torch import Tensor

from accomp.core.errors import WorkError
from accomp.core.runs.checkpoint import latest_checkpoint
from accomp.core.spec.schema import Spec
from accomp.core.training.meters import LossMeter


def check_finite(fabric: Fabric, meter: LossMeter, *, spec: Spec, folder: Path) -> None:
    """Wait for the steps so far. Raises WorkError where one of them was not finite, in any process."""
    faults = cast(Tensor, fabric.all_gather(meter.fault)).view(-1, 3).tolist()
    if not (found := sorted(fault for fault in faults if fault[0])):
        return
    step, loss, norm = found[0]
    last = latest_checkpoint(folder)
    raise WorkError(
        f"training diverged at step {step:g}: loss {loss:g}{meter.no_numbers()}, gradient norm {norm:g}; "
        f"lower train.lr "
        f"({spec.train.lr:g}) or lengthen train.warmup ({spec.train.warmup}), in a new run folder. "
        f"The last good checkpoint is {last.folder if last else 'none: this was the beginning'}"
    )
