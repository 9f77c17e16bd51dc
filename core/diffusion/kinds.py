"""Names of the regimes, without torch, for checks of a spec."""

from __future__ import annotations

from typing import Literal

Regime = Literal["block_causal", "enc_dec"]
