"""Broken plugins: metric."""

import numpy as np
from attrs import frozen

from accomp.core.errors import EmptyClip
from broken_plugins.register import breaks


class Likeness:
    """A good metric: mean squared difference."""

    best = {"difference": 0.0}  # noqa: RUF012
    sample_rate = 8000

    @frozen
    class Config:
        pass

    def __init__(self, config, space):
        self.takes = {}

    def fresh(self):
        return type(self)(self.Config(), None)

    def update(self, take):
        if not take.stem.any():
            raise EmptyClip("a silent stem")
        self.takes[take.id] = {"difference": float(np.mean((take.context - take.stem) ** 2))}

    def result(self, takes=None):
        chosen = list(self.takes) if takes is None else takes
        if not chosen:
            raise ValueError("no take was given")
        return {"difference": float(np.mean([self.takes[id]["difference"] for id in chosen]))}

    def per_take(self):
        return self.takes


class Spread(Likeness):
    """A good metric of sets: it judges silence, needs losses, and wants two takes at least."""

    needs = frozenset({"losses"})
    best = {}  # noqa: RUF012

    def update(self, take):
        self.takes[take.id] = float(take.losses["own"].total)

    def result(self, takes=None):
        values = [self.takes[id] for id in (self.takes if takes is None else takes)]
        if len(values) < 2:
            raise ValueError("two takes at least")
        return {"spread": float(np.std(values))}

    def per_take(self):
        return {id: {} for id in self.takes}


@breaks("metric", "is built by cls(config, space) and states sample_rate and best: sample_rate is 0")
class NoRate(Likeness):
    sample_rate = 0


@breaks("metric", "no take at all is a ValueError that says so: gave {'difference': 0.0}")
class ZeroOfNothing(Likeness):
    def result(self, takes=None):
        return super().result(takes) if self.takes else {"difference": 0.0}


@breaks("metric", "no take at all is a ValueError that says so: raised ZeroDivisionError")
class DividesByZero(Likeness):
    def result(self, takes=None):
        values = [self.takes[id]["difference"] for id in (self.takes if takes is None else takes)]
        return {"difference": sum(values) / len(values)}


@breaks("metric", "update(take) and result() -> finite numbers by name: result() is {'difference': nan}")
class NanResult(Likeness):
    def result(self, takes=None):
        return {key: value * float("nan") for key, value in super().result(takes).items()}


@breaks("metric", "update(take) and result() -> finite numbers by name: update changed")
class Scales(Likeness):
    def update(self, take):
        take.stem[:] *= 0.5
        super().update(take)


@breaks("metric", "per_take: take id -> finite numbers, {} in metrics of sets: ids []")
class NoTakes(Likeness):
    def per_take(self):
        return {}


@breaks("metric", "fresh() holds no take, and leaves the takes of the one it came from: gave {'difference'")
class SharesTakes(Likeness):
    def fresh(self):
        other = super().fresh()
        other.takes = self.takes
        return other


@breaks("metric", "the order of takes does not matter")
class LastCounts(Likeness):
    def result(self, takes=None):
        super().result(takes)
        return self.takes[(list(self.takes) if takes is None else takes)[-1]]


@breaks("metric", "result(takes) equals a metric that saw only these")
class Everything(Likeness):
    def result(self, takes=None):
        return super().result()


@breaks("metric", "result(takes) counts an id that comes twice twice")
class Once(Likeness):
    def result(self, takes=None):
        return super().result(takes and sorted(set(takes)))


@breaks("metric", "a silent stem is judged, or raises EmptyClip and counts nowhere: raised ValueError: too quiet")
class FailsOnSilence(Likeness):
    def update(self, take):
        if not take.stem.any():
            raise ValueError("too quiet")
        super().update(take)


@breaks("metric", "a silent stem is judged, or raises EmptyClip and counts nowhere: per_take() tells of ['early', 'on")
class CountsSilence(Likeness):
    def update(self, take):
        self.takes[take.id] = {"difference": float(np.mean((take.context - take.stem) ** 2))}
        super().update(take)


@breaks(
    "metric", "a silent stem is judged, or raises EmptyClip and counts nowhere: per_take() gives {'difference': nan}"
)
class NanOfSilence(Likeness):
    def update(self, take):
        share = np.float64(take.stem.std()) / take.stem.std() if take.stem.any() else float("nan")
        self.takes[take.id] = {"difference": float(share * np.mean((take.context - take.stem) ** 2))}


@breaks("metric", "a stem that is the context itself gives the stated best: {'difference': 0.0}, stated")
class WrongBest(Likeness):
    best = {"difference": 1.0}  # noqa: RUF012


@breaks("metric", "a stem that is the context itself gives the stated best: result() has no likeness")
class UnknownBest(Likeness):
    best = {"likeness": 1.0}  # noqa: RUF012
