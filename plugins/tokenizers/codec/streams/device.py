"""Parsing of device options."""

from __future__ import annotations

import torch

from accomp.core.errors import DataError


def device_named(name: str) -> torch.device:
    """ "auto" takes a GPU if there is one. Raises DataError for an unavailable device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DataError(
            f"device {name!r} cannot be used here: {str(error).splitlines()[0]}; give --device cpu"
        ) from error
    return device
