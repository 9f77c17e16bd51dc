"""A run's model that plays variations of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from accomp.core.audio.loudness import within_full_scale
from accomp.core.compute.devices import number_of
from accomp.core.console import progress, say
from accomp.core.errors import UserError, WorkError
from accomp.core.layering.recipe import Recipe
from accomp.core.layering.tree import Node, Tree
from accomp.core.model.conditions import class_names, class_numbers, parse_conditions
from accomp.core.music.instruments import CLASSES, NOT_TARGETS
from accomp.core.music.labels import INSTRUMENT
from accomp.core.runs.player import Player
from accomp.core.runs.run import perform


@frozen
class Layer:
    """A requested layer: a title, and label -> class for the model."""

    title: str
    conditions: Mapping[str, str]


@frozen(eq=False)
class Band:
    """A model that is ready to play.

    Attributes:
        run: its folder.
        player: with its sampler and guidance.
        spec: the resolved spec of its checkpoint.
        fixed: conditions of every layer, NAME=VALUE.
        seed: of the random numbers.
    """

    run: Path
    player: Player
    spec: Mapping[str, Any]
    fixed: Sequence[str] = ()
    seed: int = 0

    def layer(self, text: str) -> Layer:
        """Parse "Bass", or "category=Melodic" for labels other than the instrument.

        For a model without an instrument label any name is a title. Raises UserError for an unknown label or class.
        """
        labels = self.player.model.conditions.labels
        word = text if "=" in text else f"{INSTRUMENT}={text}"
        words = (*self.fixed, word) if "=" in text or INSTRUMENT in labels else self.fixed
        numbers = parse_conditions(words, labels)
        names = {name: class_names(name, labels[name])[number] for name, number in numbers.items()}
        if names.get(INSTRUMENT) in {CLASSES[number] for number in NOT_TARGETS}:
            raise UserError(f"no model learns to play {names[INSTRUMENT]!r}; it is context only")
        return Layer(names.get(word.partition("=")[0].strip(), text.strip()), names)

    def recipe(self, parent: str, layer: Layer, variation: int) -> Recipe:
        """Recipe of a variation of a layer."""
        player = self.player
        return Recipe(
            parent=parent,
            title=layer.title,
            conditions=layer.conditions,
            seed=self.seed,
            session=number_of("layer", parent, variation),
            variation=variation,
            sampler=self.spec["sampler"],
            guidance=player.guidance.scales,
            weights=player.weights,
            objective=self.spec["objective"],
            clock=self.spec.get("clock"),
            window=player.window,
            tokenizer=player.tokenizer.fingerprint,
        )

    def play(self, tree: Tree, parent: str, layer: Layer, variations: int) -> list[Node]:
        """Play `variations` variations of a layer on the song of `parent`; existing ones are kept.

        Raises WorkError for a stem with NaN or Inf; the variations before it are kept.
        """
        recipes = [self.recipe(parent, layer, number) for number in range(variations)]
        nodes = tree.nodes()
        if missing := [recipe for recipe in recipes if recipe.id not in nodes]:
            rate = self.player.tokenizer.space.sample_rate
            sound = tree.context(parent, rate)
            if not sound.any():
                say("the song is silent so far: the model has no input")
            with progress(layer.title, len(missing)) as advance:
                for recipe in missing:
                    nodes[recipe.id] = self._make(tree, recipe, sound, rate)
                    advance(1, note=recipe.id)
        return [nodes[recipe.id] for recipe in recipes]

    def _make(self, tree: Tree, recipe: Recipe, sound: np.ndarray, rate: int) -> Node:
        labels = class_numbers(recipe.conditions, self.player.model.conditions.labels)
        played = perform(self.player, sound, labels=labels, seed=recipe.seed, session=recipe.session)
        try:
            stem, gain = within_full_scale(played.audio)
        except ValueError as error:
            raise WorkError(f"{recipe.title}, variation {recipe.variation + 1}: {error}; it was not written") from error
        return tree.add(recipe, stem, rate, run=self.run, step=self.player.step, gain=gain)
