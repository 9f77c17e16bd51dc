"""What an objective that looks ahead in training may be told."""

from __future__ import annotations

from attrs import field, frozen
from attrs import validators as v

from accomp.core.limits import MOST_AHEAD, at_most


@frozen
class AheadKeys:
    """Keys of [objective].

    Attributes:
        ahead: n, how many steps beyond the predicted one are predicted as well in training; 0 for none.
        ahead_weight: how much the mean loss of those heads counts beside the loss.
    """

    ahead: int = field(default=0, validator=v.ge(0), metadata=at_most(MOST_AHEAD), kw_only=True)
    ahead_weight: float = field(default=0.3, validator=v.gt(0.0), kw_only=True)
