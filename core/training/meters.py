"""Running sums of training losses, kept on the device so that logging never synchronises."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

STEPS = "steps of "


class LossMeter:
    """Sums of losses over steps, and the first step whose loss or gradient was not finite.

    Adding enqueues work on the device without synchronising; reading synchronises.

    Attributes:
        fault: [3] on the device, the first step that was not finite: its number, counted from 1, its loss, its gradient
            norm. Zeros where there is none.
    """

    def __init__(self, device: torch.device, *, rescaled: bool = False):
        """`rescaled`: gradients overflow occasionally and such steps are skipped, as precision "16-mixed" does."""
        self._rescaled = rescaled
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._odd: dict[str, Tensor] = {}  # True for a scalar that was not finite in the step of the fault
        self._device = device
        self._norm = torch.zeros((), device=device)
        self.fault = torch.zeros(3, device=device)

    @torch.no_grad()
    def add(self, step: int, losses: Mapping[str, Tensor], norm: Tensor) -> None:
        """Add step `step`, counted from 1: its scalars, "loss" among them, and its gradient norm.

        A scalar may be absent in some steps: its mean is over the steps that have it.
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
        """Return the means over the steps since the last call and the gradient norm of the last step; then reset."""
        sums, counts = self._parts(), self._counts
        self._sums, self._counts = {}, {}
        return {name: value / counts[name] for name, value in sums.items()}, float(self._norm)

    def no_numbers(self) -> str:
        """Describe the parts of the loss that were not finite in the step of the fault; "" where all were."""
        names = [name for name, odd in self._odd.items() if name != "loss" and bool(odd)]
        return f" (in {', '.join(names)})" if names else ""

    def state_dict(self) -> dict[str, float]:
        """Return the sums by name, and for each the number of steps as "steps of" it; empty after `take`.

        Loading restores them exactly.
        """
        return {**self._parts(), **{f"{STEPS}{name}": float(count) for name, count in self._counts.items()}}

    def load_state_dict(self, sums: Mapping[str, float]) -> None:
        """Load the sums; those of earlier versions have one "steps" for all."""
        names = [name for name in sums if not name.startswith(STEPS) and name != "steps"]
        self._counts = {name: int(sums.get(f"{STEPS}{name}", sums.get("steps", 0))) for name in names}
        self._sums = {name: torch.tensor(sums[name], dtype=torch.float32, device=self._device) for name in names}

    def _parts(self) -> dict[str, float]:
        """Return the sums; synchronises once."""
        return dict(zip(self._sums, torch.stack(list(self._sums.values())).tolist(), strict=True)) if self._sums else {}
