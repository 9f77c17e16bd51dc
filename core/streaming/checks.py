"""Checks of the arguments of a session against its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from accomp.core.model.accompanist import Accompanist
from accomp.core.model.model import Model
from accomp.core.music.timelines import Source


def check_playable(model: Accompanist, sessions: Tensor, labels: Mapping[str, Tensor]) -> None:
    """Raise ValueError for a model in training mode and, with every problem, for labels that it does not take.

    sessions [B]; labels: name -> classes [B] int64, -1 where withheld.
    """
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() first")
    classes = model.classes
    problems = [f"label {name!r} is missing; give -1 to withhold it" for name in classes if name not in labels]
    for name, given in labels.items():
        if name not in classes:
            problems.append(f"unknown label {name!r}; the model takes {', '.join(classes) or 'none'}")
        elif given.shape != sessions.shape:
            problems.append(f"label {name!r} has shape {tuple(given.shape)}, sessions {tuple(sessions.shape)}")
        elif not bool(((given >= -1) & (given < classes[name])).all()):
            problems.append(f"label {name!r}: classes 0..{classes[name] - 1}, -1 to withhold it; got {given.tolist()}")
    if problems:
        raise ValueError("\n".join(problems))


def no_timeline(names: Sequence[str], model: Accompanist) -> str:
    """Message about timelines that a model does not take."""
    return f"the model takes no timeline {' or '.join(names)}; it takes {', '.join(model.timelines) or 'none'}"


def check_timelines(
    model: Accompanist, sessions: int, timelines: Sequence[Mapping[str, Source]]
) -> list[dict[str, Source]]:
    """Copy the timelines, one mapping for each session; all are empty when none are given. Raises ValueError for
    another count of them, and for names that the model lacks.
    """
    sources = [dict(one) for one in timelines] or [{} for _ in range(sessions)]
    if len(sources) != sessions:
        raise ValueError(f"timelines of {len(sources)} sessions; these are {sessions}")
    if unknown := sorted({name for one in sources for name in one} - set(model.timelines)):
        raise ValueError(no_timeline(unknown, model))
    return sources


def check_prompt(model: Model, sessions: Tensor, prompt: Tensor) -> Tensor:
    """Check the codes [B, K, P] that sessions [B] begin with. Raises ValueError for another shape or values that are
    no codes.
    """
    expected = (len(sessions), model.space.codebooks, prompt.shape[2] if prompt.ndim == 3 else "P")
    if prompt.shape != expected:
        raise ValueError(f"prompt has shape {tuple(prompt.shape)}, expected [B, K, P] = {expected}")
    if not bool(((prompt >= 0) & (prompt < model.space.codebook_size)).all()):
        raise ValueError(f"prompt holds values that are no codes; expected 0..{model.space.codebook_size - 1}")
    return prompt
