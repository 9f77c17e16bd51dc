"""What the steps since the last log line came to, kept on the device, so that no step waits to be told of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Tally:
    """Sums of losses over steps, and the first step whose loss or gradient was no number.

    Adding starts work on the device and waits for nothing; reading waits for all that was started.

    Attributes:
        fault: [3] on the device, the first step that was no number: which one, counted from 1, its loss, the norm of
            its gradient. Zeros while all were.
    """

    def __init__(self, device: torch.device, *, rescaled: bool = False):
        """`rescaled`: gradients overflow now and then and such steps are skipped, as precision "16-mixed" does."""
        self._rescaled = rescaled
        self._names: tuple[str, ...] = ()
        self._sums = torch.zeros(0, device=device)
        self._norm = torch.zeros((), device=device)
        self.fault = torch.zeros(3, device=device)

    @torch.no_grad()
    def add(self, step: int, losses: Mapping[str, Tensor], norm: Tensor) -> None:
        """Step `step`, counted from 1: its numbers, scalars, "loss" among them, and the norm of its gradient."""
        names = ("steps", *losses)
        if names != self._names:
            assert not self._names, f"{names} after {self._names}"
            self._names, self._sums = names, self._sums.new_zeros(len(names))
        values = [value.float() for value in losses.values()]
        self._sums = self._sums + torch.stack([torch.ones_like(values[0]), *values])
        self._norm = norm.float()
        loss = losses["loss"].float()
        fine = loss.isfinite() if self._rescaled else loss.isfinite() & self._norm.isfinite()
        now = torch.stack([torch.full_like(loss, step), loss, self._norm])
        self.fault = torch.where((self.fault[0] > 0) | fine, self.fault, now)

    def take(self) -> tuple[dict[str, float], float]:
        """The means over the steps since the last time, and the norm of the last one's gradient; then begin anew."""
        sums = self.state_dict()
        self._names = ()
        count = sums.pop("steps")
        return {name: value / count for name, value in sums.items()}, float(self._norm)

    def state_dict(self) -> dict[str, float]:
        """The sums by name, "steps" among them; none after `take`. Loaded again they are the same to a bit."""
        return dict(zip(self._names, self._sums.tolist(), strict=False))

    def load_state_dict(self, sums: Mapping[str, float]) -> None:
        """Go on from these sums."""
        self._names = tuple(sums)
        self._sums = torch.tensor(list(sums.values()), dtype=torch.float32, device=self._sums.device)
