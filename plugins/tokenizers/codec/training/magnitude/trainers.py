"""Which trainer trains what `only` names."""

from __future__ import annotations

from typing import Any

from accomp.plugins.tokenizers.codec.training.magnitude.rare_codes import RareCodesTrainer
from accomp.plugins.tokenizers.codec.training.magnitude.trainer import MagnitudeTrainer, MagnitudeTrainSpec
from accomp.plugins.tokenizers.codec.training.magnitude.tuner_trainer import TunerTrainer

_KINDS = {"tuner": TunerTrainer, "rare_codes": RareCodesTrainer}


def trainer_of(network: Any, spec: MagnitudeTrainSpec, *rest: Any, **timing: Any) -> MagnitudeTrainer:
    """The trainer of what `spec.only` names."""
    return _KINDS.get(spec.only, MagnitudeTrainer)(network, spec, *rest, **timing)
