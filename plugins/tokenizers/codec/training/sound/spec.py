"""Keys of training with losses on audio."""

from __future__ import annotations

import attrs
from attrs import field, frozen
from attrs import validators as v

from accomp.plugins.tokenizers.codec.training.sound.spectral_losses import WINDOWS
from accomp.plugins.tokenizers.codec.training.trainer import CodecTrainSpec, share


@frozen(kw_only=True)
class SoundTrainSpec(CodecTrainSpec):
    """[train] with losses on audio; precision "bfloat16" is tf32 with discriminators in bfloat16.

    Attributes:
        log, linear, energy, low: weights of the distances of SpectralDistance.
        windows: window lengths of the distances (samples), including 1024 and 2048.
        adversarial: weight of dac's discriminators; 0 disables them. They multiply the time per step: for a GPU.
        adversary_periods, adversary_windows: periods and STFT windows (samples) of the discriminators.
        adversary_from: share of the training before the discriminators are active.
        adversary_lr: their learning rate, on the schedule of the codec's.
        adversary_seconds: random part of every clip for them (s); 0: the whole clip.
    """

    log: float = field(default=1.0, validator=v.ge(0.0))
    linear: float = field(default=1.0, validator=v.ge(0.0))
    energy: float = field(default=0.5, validator=v.ge(0.0))
    low: float = field(default=0.5, validator=v.ge(0.0))
    windows: tuple[int, ...] = field(default=WINDOWS)
    adversarial: float = field(default=0.0, validator=v.ge(0.0))
    adversary_periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    adversary_windows: tuple[int, ...] = (2048, 1024, 512)
    adversary_from: float = field(default=0.0, validator=share)
    adversary_lr: float = field(default=1e-4, validator=v.gt(0.0))
    adversary_seconds: float = field(default=0.0, validator=v.ge(0.0))

    @windows.validator
    def _complete(self, attribute: attrs.Attribute, value: tuple[int, ...]) -> None:
        if not {1024, 2048} <= set(value):
            raise ValueError(f"windows {list(value)}; 1024 and 2048 must be among them")
