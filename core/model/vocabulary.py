"""Ids in the model's embedding tables: padding, class labels, codes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from attrs import field, frozen
from attrs import validators as v
from torch import Tensor

from accomp.core.types import TokenSpace

PAD_ID = 0
"""Id of padding: tokens without a code, and withheld labels."""


@frozen
class Vocabulary:
    """Ids 0..V-1 of every level: PAD_ID, then a block for each label's classes, then the C codes.

    With one label of 18 classes: 0 is PAD_ID, 1 + c the class c of the label, 19 + c the code c.

    Attributes:
        codebooks: K, levels; each has a table and a head of its own.
        codebook_size: C, codes a level.
        classes: label name -> number of classes, in the order of their blocks.
    """

    codebooks: int = field(validator=v.ge(1))
    codebook_size: int = field(validator=v.ge(1))
    classes: Mapping[str, int] = field(factory=dict)

    @classmethod
    def of(cls, space: TokenSpace, classes: Mapping[str, int]) -> Vocabulary:
        """The vocabulary of a tokenizer's codes and some labels. Raises ValueError for a space without codebooks."""
        return cls(space.codebooks, space.codebook_size, dict(classes))

    @property
    def first_code(self) -> int:
        """Id of code 0."""
        return 1 + sum(self.classes.values())

    @property
    def size(self) -> int:
        """V, ids a level."""
        return self.first_code + self.codebook_size

    def first_class(self, label: str) -> int:
        """Id of a label's class 0."""
        names = list(self.classes)
        return 1 + sum(self.classes[name] for name in names[: names.index(label)])

    def ids(self, codes: Tensor) -> Tensor:
        """Codes of any shape, negative where there is none -> ids; PAD_ID where there is none."""
        return torch.where(codes < 0, PAD_ID, codes + self.first_code)

    def label_ids(self, labels: Mapping[str, Tensor]) -> Tensor | None:
        """Label name -> classes [B] int64 (-1 where withheld) -> ids [B, L], L the number of labels; None without any.

        Raises ValueError unless `labels` names exactly the labels of this vocabulary.
        """
        if set(labels) != set(self.classes):
            raise ValueError(f"labels {sorted(labels)} were given to a model that takes {sorted(self.classes)}")
        ids = [torch.where(labels[name] < 0, PAD_ID, self.first_class(name) + labels[name]) for name in self.classes]
        return torch.stack(ids, dim=1) if ids else None
