"""Marks of tests that stay out of `make test`."""

import os

import pytest

COMPILES = pytest.mark.skipif(
    not os.environ.get("ACCOMP_COMPILE"), reason="compiles for minutes; `make test-compile` runs it"
)
