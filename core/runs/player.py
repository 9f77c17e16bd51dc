"""A trained model prepared for playing: checkpoint, sampler, guidance, runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import torch
from attrs import define, field, frozen

from accomp.core.clock import Clock
from accomp.core.console import warn
from accomp.core.errors import CheckpointError, CombinationError, PluginError
from accomp.core.interfaces import CausalSampler, DenoisedSampler, MaskedSampler, Tokenizer
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.model.model import Model
from accomp.core.offline.framewise import Framewise
from accomp.core.registry import Registry
from accomp.core.runs.checkpoint import WEIGHTS, Checkpoint, latest_checkpoint, load_run, read_checkpoint
from accomp.core.runs.checkpoint_folders import checkpoint_folder
from accomp.core.runs.choice import chosen_step
from accomp.core.runs.compiled import use as use_compiled
from accomp.core.runs.folder import model_and_step, model_folder
from accomp.core.runs.history import best_step
from accomp.core.spec.build import build_sampler, check_combination
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.spec.sections import PluginSpec
from accomp.core.streaming.audio_session import AudioSession
from accomp.core.streaming.precision import prepared
from accomp.core.streaming.session import TokenSession


@define(eq=False)
class PooledTokens:
    """A token session of a player and the audio session that uses it; free once that one is closed or gone."""

    tokens: TokenSession
    controlled: bool
    user: Callable[[], AudioSession | None] = lambda: None

    @property
    def free(self) -> bool:
        """True where another audio session may use the tokens."""
        user = self.user()
        return user is None or user.closed


@frozen(eq=False)
class Player:
    """A trained model prepared for playing.

    Attributes:
        window: frames of attention, the length of its training clips.
        step, weights: optimizer steps of the checkpoint, and the hash of its weights.
        objective: name of the training objective.
        guidance: scale of classifier-free guidance for each condition.
        runtime: compilation and precision; the model is in that precision already.
        pool: the token sessions that were built, each compiled once, with the audio session that uses it.
        offline: the compiled pass of a model without a clock; empty before its first use.
    """

    tokenizer: Tokenizer
    model: Model
    sampler: CausalSampler | MaskedSampler | DenoisedSampler
    window: int
    step: int
    weights: str
    objective: str
    guidance: Guidance = UNGUIDED
    runtime: Runtime = EAGER
    pool: list[PooledTokens] = field(factory=list, init=False, repr=False)
    offline: list[Framewise] = field(factory=list, init=False, repr=False)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.device

    @property
    def clocked(self) -> bool:
        """True for a model with a clock, which can stream; False for a model of whole clips."""
        return self.model.clock is not None


def load_player(
    run: Path,
    registry: Registry,
    device: torch.device,
    *,
    sampler: PluginSpec | None = None,
    guidance: Mapping[str, float] | None = None,
    runtime: Runtime | None = None,
) -> Player:
    """Load the model of a run folder from its `playing_checkpoint`.

    `sampler`, `guidance` and `runtime` override those of the run. Where its steps are compiled, those that are kept
    beside it are used (compiled.py). Raises CombinationError for a sampler or a guidance
    that does not fit the model.
    """
    checkpoint = playing_checkpoint(run)
    loaded = load_run(model_folder(run), registry, device, step=checkpoint.step)
    spec = attrs.evolve(
        loaded.spec,
        sampler=loaded.spec.sampler if sampler is None else sampler,
        guidance=loaded.spec.guidance if guidance is None else dict(guidance),
    )
    check_combination(spec, registry)
    runtime = loaded.spec.runtime if runtime is None else runtime
    if runtime.compile == "on" or (runtime.compile == "auto" and device.type == "cuda"):
        use_compiled(run, device)
    return Player(
        tokenizer=loaded.tokenizer,
        model=prepared(loaded.model, runtime),
        sampler=build_sampler(spec, loaded.tokenizer.space, registry),
        window=spec.train.frames,
        step=loaded.step,
        weights=weights_hash(checkpoint),
        objective=spec.objective.plugin,
        guidance=Guidance(spec.guidance),
        runtime=runtime,
    )


def playing_checkpoint(run: Path) -> Checkpoint:
    """Return the chosen checkpoint (choice.py), else that of the lowest validation loss, else the newest.

    The newest plays also where the chosen or best one has been removed. A run that has borrowed a model uses that
    one's, or the checkpoint of it that it names. Raises CheckpointError where nothing is trained yet, or that one is
    gone.
    """
    run, named = model_and_step(run)
    if named is not None:
        return read_checkpoint(checkpoint_folder(run, named))
    step = chosen_step(run)
    if step is None:
        step = best_step(run)
    if step is not None and checkpoint_folder(run, step).is_dir():
        return read_checkpoint(checkpoint_folder(run, step))
    newest = latest_checkpoint(run)
    if newest is None:
        raise CheckpointError(f"nothing is trained yet; run `accomp train SPEC` first @ {run / 'checkpoints'}")
    return newest


def weights_hash(checkpoint: Checkpoint) -> str:
    """Return the SHA-256 of a checkpoint's weights."""
    return str(checkpoint.files[WEIGHTS]["sha256"])


def check_streams(player: Player) -> Clock:
    """Return the model's clock. Raises CombinationError, with the alternatives, for a model that cannot stream."""
    if player.model.clock is None:
        raise CombinationError(
            f"the model was trained with objective {player.objective!r}: it needs the whole clip before it plays and "
            f"cannot stream; `accomp generate` and `accomp layer` give it whole recordings"
        )
    return player.model.clock


def prepare_codec(tokenizer: Tokenizer, runtime: Runtime, device: torch.device, batch: int = 1) -> None:
    """Compile the codec's streams of `batch` rows, where the codec supports that.

    "auto" compiles where it takes seconds only, or on a GPU. "on" warns where compilation is impossible.
    """
    quick = device.type == "cuda" or getattr(tokenizer, "prepares_quickly", False)
    if runtime.compile == "off" or (runtime.compile == "auto" and not quick) or not hasattr(tokenizer, "prepare"):
        return
    try:
        tokenizer.prepare(batch)
    except PluginError as error:
        if runtime.compile == "on":
            warn(f"the codec plays uncompiled: {error}")
