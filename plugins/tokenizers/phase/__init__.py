"""Rules that turn STFT magnitudes into sound: what a codec that codes magnitudes only puts behind its decoder.

heap: phases integrated over a heap, in machine code on the CPU; the better sound. peaks: phases that follow spectral
peaks, in torch, for many rows at once and for GPUs.
"""

from __future__ import annotations

from typing import Any

from accomp.core.errors import PluginError
from accomp.plugins.tokenizers.phase.rule import PhaseRule

NAMES = ("heap",)

__all__ = ["NAMES", "PhaseRule", "phase_rule"]


def phase_rule(name: str, **options: Any) -> PhaseRule:
    """The rule of that name; options are those of its class. Raises PluginError where there is none, or no numba."""
    if name == "heap":
        try:
            from accomp.plugins.tokenizers.phase.heap import HeapPhases
        except ImportError as error:
            raise PluginError(
                f"phase rule 'heap' is compiled by numba, which could not be imported ({error}); "
                "run: pip install 'accomp[codec]'"
            ) from error
        return HeapPhases(**options)
    raise PluginError(f"no phase rule '{name}'; there are: {', '.join(NAMES)}")
