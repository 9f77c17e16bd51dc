"""Initial weights from another run: `train.start` of a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accomp.core.console import say
from accomp.core.errors import CheckpointError
from accomp.core.interfaces import Tokenizer
from accomp.core.model.model import Model
from accomp.core.runs.checkpoint import Checkpoint, load_weights
from accomp.core.runs.player import playing_checkpoint
from accomp.core.spec.schema import Spec, resolve


def load_initial_weights(folder: Path, model: Model, spec: Spec, tokenizer: Tokenizer) -> Checkpoint:
    """Load the weights of the checkpoint that plays in a run folder into a new model.

    Only one of the two models may have an ear (core/model/ear.py): it is then new, or left out.
    Raises CheckpointError for another model or codec, and for latents also for another clock or regime, since the same
    weights would compute something else then.
    """
    start = playing_checkpoint(folder)
    problems = _differing(start.spec, resolve(spec)) if tokenizer.space.continuous else []
    if start.fingerprint != tokenizer.fingerprint:
        problems += [
            f"train.start was trained on the codes of {start.tokenizer} {start.fingerprint} @ {start.folder}",
            f"but the spec's codec is {tokenizer.name} {tokenizer.fingerprint}; name that one",
        ]
    if problems:
        raise CheckpointError(*problems)
    if load_weights(start, model, optional="ear"):
        if model.ear is None:
            say(
                f"the ear is left out; [conditions] metronome = {{ drop = 0.3, heard = 0.8 }} keeps it @ {start.folder}"
            )
        else:
            say(f"begins without an ear, which it learns anew @ {start.folder}")
    return start


def _differing(trained: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """List the differences in t_f, k and regime between two resolved specs of models of latents."""
    lines = []
    for section, key, usual in (("clock", "t_f", 0), ("clock", "k", 1), ("model", "regime", "block_causal")):
        then, now = (spec.get(section, {}).get(key, usual) for spec in (trained, asked))
        if then != now:
            lines.append(f"train.start was trained with {section}.{key} = {then}, the spec has {key} = {now}; set that")
    return lines
