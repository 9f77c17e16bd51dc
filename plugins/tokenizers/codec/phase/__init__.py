"""Rules that turn STFT magnitudes into sound: what a codec that codes magnitudes only puts behind its decoder."""

from __future__ import annotations

from typing import Any

import torch

from accomp.plugin import PluginError
from accomp.plugins.tokenizers.codec.phase.rule import PhaseRule

NAMES = ("peaks", "heap")

__all__ = ["NAMES", "PhaseRule", "phase_rule"]


def phase_rule(name: str, device: torch.device | str = "cpu", **options: Any) -> PhaseRule:
    """The rule of that name for streams on a device; options are those of its class.

    peaks: bins follow the peak whose slope they are on. Machine code on the CPU, torch elsewhere: the same rule, but in
    float64 and float32, so that sound differs. heap: heap integration, on the CPU wherever the magnitudes are.
    Raises PluginError where there is no such rule, or no numba for machine code; ValueError as the rule's class does.
    """
    if name not in NAMES:
        raise PluginError(f"no phase rule '{name}'; there are: {', '.join(NAMES)}")
    if name == "peaks" and torch.device(device).type != "cpu":
        from accomp.plugins.tokenizers.codec.phase.peaks import TensorPhases

        return TensorPhases(**options)
    try:
        from accomp.plugins.tokenizers.codec.phase.machine_phases import MachinePhases
    except ImportError as error:
        raise PluginError(
            f"phase rule '{name}' is compiled by numba, which could not be imported ({error}); "
            "run: pip install 'accomp[codec]'"
        ) from error
    return MachinePhases(heap=name == "heap", **options)
