"""What the steps since the last log line came to, kept on the device, so that no step waits to be told of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

STEPS = "steps of "


class LossMeter:
    """Sums of losses over steps, and the first step whose loss or gradient was no number.

    Adding starts work on the device and waits for nothing; reading waits for all that was started.

    Attributes:
        fault: [3] on the device, the first step that was no number: which one, counted from 1, its loss, the norm of
            its gradient. Zeros while all were.
    """

    def __init__(self, device: torch.device, *, rescaled: bool = False):
        """`rescaled`: gradients overflow now and then and such steps are skipped, as precision "16-mixed" does."""
        self._rescaled = rescaled
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._odd: dict[str, Tensor] = {}  # whether a number was none in the step of the fault
        self._device = device
        self._norm = torch.zeros((), device=device)
        self.fault = torch.zeros(3, device=device)

    @torch.no_grad()
    def add(self, step: int, losses: Mapping[str, Tensor], norm: Tensor) -> None:
        """Step `step`, counted from 1: its numbers, scalars, "loss" among them, and the norm of its gradient.

        Not every step has to have all of them: a mean is one over the steps that have it.
        """
        for name, value in losses.items():
            value = value.float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._norm = norm.float()
        loss = losses["loss"].float()
        fine = loss.isfinite() if self._rescaled else loss.isfinite() & self._norm.isfinite()
        now = torch.stack([torch.full_like(loss, step), loss, self._norm])
        first = ~fine & (self.fault[0] == 0)
        for name, value in losses.items():
            self._odd[name] = self._odd.get(name, torch.zeros_like(first)) | (first & ~value.isfinite())
        self.fault = torch.where((self.fault[0] > 0) | fine, self.fault, now)

    def take(self) -> tuple[dict[str, float], float]:
        """The means over the steps since the last time, and the norm of the last one's gradient; then begin anew."""
        sums, counts = self._parts(), self._counts
        self._sums, self._counts = {}, {}
        return {name: value / counts[name] for name, value in sums.items()}, float(self._norm)

    def no_numbers(self) -> str:
        """Words for the parts of the loss that were none in the step of the fault; "" where all were."""
        names = [name for name, odd in self._odd.items() if name != "loss" and bool(odd)]
        return f" (in {', '.join(names)})" if names else ""

    def state_dict(self) -> dict[str, float]:
        """The sums by name, and for each over how many "steps of" it; none after `take`.

        Loaded again they are the same to a bit.
        """
        return {**self._parts(), **{f"{STEPS}{name}": float(count) for name, count in self._counts.items()}}

    def load_state_dict(self, sums: Mapping[str, float]) -> None:
        """Go on from these sums; those of earlier versions tell the "steps" of all alike."""
        names = [name for name in sums if not name.startswith(STEPS) and name != "steps"]
        self._counts = {name: int(sums.get(f"{STEPS}{name}", sums.get("steps", 0))) for name in names}
        self._sums = {name: torch.tensor(sums[name], dtype=torch.float32, device=self._device) for name in names}

    def _parts(self) -> dict[str, float]:
        """The sums; waits for the device once."""
        return dict(zip(self._sums, torch.stack(list(self._sums.values())).tolist(), strict=True)) if self._sums else {}
