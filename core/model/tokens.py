"""Special values among codes: negative numbers in a tensor of codes [B, K, S], each at a position without a code.

The vocabulary maps every negative value to the id PAD_ID; an embedding of CONDITION is replaced by that of the labels.
"""

CONDITION = -1
"""Held by a level from the start of the sequence until its first code: the labels (instrument, ...) of the item."""

PADDING = -2
"""Held by every level before the start and after the end, where no code exists; a target that does not count."""

MASK = -3
"""Held by a level of a masked model where its code is not known yet."""
