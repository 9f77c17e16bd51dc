"""Keys of objectives that predict further steps in training."""

from __future__ import annotations

from attrs import field, frozen
from attrs import validators as v

MOST_AHEAD = 16
"""Further steps that are predicted in training, each by a head of its own."""


@frozen
class AheadKeys:
    """Keys of [objective].

    Attributes:
        ahead: n, how many steps beyond the predicted one are predicted as well in training; 0 for none.
        ahead_weight: how much the mean loss of those heads counts beside the loss.
    """

    ahead: int = field(default=0, validator=[v.ge(0), v.le(MOST_AHEAD)], kw_only=True)
    ahead_weight: float = field(default=0.3, validator=v.gt(0.0), kw_only=True)
