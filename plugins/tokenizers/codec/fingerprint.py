"""Fingerprints of codecs: hashes of their settings and weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def fingerprint_of(settings: Any, tensors: Mapping[str, Tensor]) -> str:
    """Return a hash (16 hexadecimal digits) of JSON data and of tensors as float32."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().to(torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
