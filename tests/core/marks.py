"""Marks of tests that not every machine or run has: those that compile."""

import os

import pytest
import torch

from accomp.core.compute.compilers import lacking

COMPILES = pytest.mark.skipif(
    not os.environ.get("ACCOMP_COMPILE"), reason="compiles for minutes; `make test-compile` runs it"
)
NEEDS_COMPILER = pytest.mark.skipif(bool(why := lacking(torch.device("cpu"))), reason=why)
