"""Plugins that exist to be named in specs: nothing but their Config, as a third-party package would provide them."""

from enum import Enum
from pathlib import Path
from typing import Literal

from attrs import field, frozen
from attrs import validators as v

from accomp.core.component import Component
from accomp.core.hooks import hookimpl
from accomp.core.spec.durations import Frames
from accomp.core.types import TokenSpace


class Folder:
    @frozen
    class Config:
        root: str


class Codec:
    """32 kHz, 20 ms frames; `rate` changes that."""

    @frozen
    class Config:
        rate: int = 32_000

    @staticmethod
    def space_of(config):
        return TokenSpace(config.rate, 640, codebooks=4, codebook_size=1024, latent_dim=8)


class Timeless:
    """A tokenizer that does not say how long its frames are."""

    @frozen
    class Config:
        pass


class Plain:
    @frozen
    class Config:
        pass


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@frozen
class Layer:
    width: int = field(validator=v.gt(0))


class Rich:
    """Every type that a Config may use, and validators that compare fields."""

    @frozen
    class Config:
        temperature: float = field(default=1.0, validator=v.ge(0.0))
        steps: tuple[int, ...] = (128, 64)
        pair: tuple[int, str] = (1, "a")
        layers: tuple[Layer, ...] = ()
        mode: Literal["fast", "slow"] = "fast"
        colour: Colour = Colour.RED
        weights: Path | None = None
        either: int | str = 0
        table: dict[str, float] = field(factory=dict)
        flag: bool = False
        window: Frames = 50
        low: int = 0
        high: int = field(default=10)

        @high.validator
        def _above_low(self, attribute, value):
            if value <= self.low:
                raise ValueError(f"'high' {value} must be above 'low' {self.low}")


class NoConfig:
    pass


@hookimpl
def accomp_components():
    rows = {
        ("corpus", "shelf"): Folder,
        ("tokenizer", "codec"): Codec,
        ("tokenizer", "timeless"): Timeless,
        ("fuser", "plain"): Plain,
        ("backbone", "plain"): Plain,
        ("objective", "plain"): Plain,
        ("sampler", "rich"): Rich,
        ("sampler", "plain"): Plain,
        ("sampler", "no_config"): NoConfig,
        ("metric", "plain"): Plain,
        ("metric", "rich"): Rich,
    }
    return [Component(kind, name, f"{__name__}:{cls.__name__}") for (kind, name), cls in rows.items()]
