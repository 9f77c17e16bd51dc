"""Teacher-forced losses of a trained model on the recorded stems, with their own context and another song's."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from accomp.core.audio import io as audio
from accomp.core.compute.devices import device_of, number_of
from accomp.core.interfaces import Objective
from accomp.core.music.annotations import read_annotations
from accomp.core.music.timelines import KINDS, frame_times
from accomp.core.registry import Registry
from accomp.core.runs.player import Player, load_player
from accomp.core.runs.run import codes_of
from accomp.core.spec.build import build_objective
from accomp.core.spec.schema import Spec
from accomp.core.training.validation import nothing_withheld, other_songs
from accomp.core.types import Batch, Loss


class Teacher:
    """Teacher-forced losses of a run's model on its takes' clips; the model is loaded at the first use.

    A clip is cut into pieces as long as the model's training clips; the last may be shorter. Random draws of the
    objective (which codes it masks) are keyed by the clip: the same with either context.
    """

    def __init__(self, spec: Spec, registry: Registry, run: Path, takes: list[str]):
        """takes: ids of those in the run folder."""
        self._spec, self._registry, self._run = spec, registry, run
        self._takes = takes

    def losses(self, id: str) -> dict[str, Loss]:
        """Return "own", and "swapped" where there is a take of another song. Raises DataError for a missing file."""
        own = self._codes(id, "context")
        found = {"own": self._loss(id, own)}
        if (other := self._others[id]) is not None:
            found["swapped"] = self._loss(id, self._codes(other, "context"))
        return found

    @cached_property
    def _player(self) -> Player:
        return load_player(self._run, self._registry, device_of(self._spec.run.accelerator))

    @cached_property
    def _objective(self) -> Objective:
        return build_objective(self._spec, self._player.tokenizer.space, self._registry)

    @cached_property
    def _records(self) -> dict[str, dict[str, Any]]:
        return {id: json.loads((self._run / "takes" / id / "take.json").read_text("utf-8")) for id in self._takes}

    @cached_property
    def _others(self) -> dict[str, str | None]:
        """Return take -> the next one of another song, whose context is substituted."""
        partners = other_songs([record["track"] for record in self._records.values()])
        return {id: None if i is None else self._takes[i] for id, i in zip(self._takes, partners, strict=True)}

    def _codes(self, id: str, name: str) -> Tensor:
        """Return the codes [K, T] of a sound of a take."""
        tokenizer = self._player.tokenizer
        sound = audio.read(self._run / "takes" / id / f"{name}.wav", tokenizer.space.sample_rate)
        return torch.from_numpy(codes_of(tokenizer, sound, self._player.device))

    def _loss(self, id: str, context: Tensor) -> Loss:
        player = self._player
        model, device = player.model, player.device
        context, target, valid = _pieces(context, self._codes(id, "true"), player.window)
        given = self._records[id]["made_from"].get("labels", {})
        labels = {name: torch.full((len(target),), given.get(name, -1)).to(device) for name in model.conditions.labels}
        with torch.no_grad(), nothing_withheld(model):
            x = player.tokenizer.embed(context.to(device)).clone().to(model.dtype)
            batch = Batch(x, target.to(device), valid.to(device), labels, self._timelines(id, target))
            rng = torch.Generator().manual_seed(number_of(self._spec.seed, "teacher", id))
            return self._objective.loss(model, batch, model.clock, rng)

    def _timelines(self, id: str, target: Tensor) -> dict[str, Tensor]:
        """Return the timelines of the take's pieces [n, K, frames]; zeros where they were withheld."""
        player, known = self._player, self._records[id]["made_from"].get("told", {})
        annotations, _ = read_annotations(known)
        pieces, _, frames = target.shape
        rate, start = player.tokenizer.space.frame_rate, float(known.get("start", 0.0))
        timelines = {
            name: KINDS[name].of(annotations, frame_times(0, pieces * frames, rate, start))
            for name in player.model.timelines
        }
        return {
            name: torch.from_numpy(one).view(pieces, frames, -1).to(player.device) for name, one in timelines.items()
        }


def _pieces(context: Tensor, target: Tensor, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut codes [K, T] into context and target [n, K, frames], with valid [n, frames] bool."""
    missing = -target.shape[1] % frames

    def cut(codes: Tensor) -> Tensor:
        return F.pad(codes, (0, missing)).unflatten(1, (-1, frames)).transpose(0, 1)

    valid = F.pad(torch.ones(target.shape[1], dtype=torch.bool), (0, missing)).view(-1, frames)
    return cut(context[:, : target.shape[1]]), cut(target), valid
