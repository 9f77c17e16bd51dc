"""The names of the regimes, which a spec is checked against without torch."""

from __future__ import annotations

from typing import Literal

Regime = Literal["block_causal", "enc_dec"]
