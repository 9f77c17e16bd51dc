"""A trained model at work: a recording fed to it piece by piece, as if live, or given to it whole."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from attrs import define, field, frozen
from torch import Tensor

from accomp.core.clock import Clock
from accomp.core.console import warn
from accomp.core.errors import CheckpointError, CombinationError, PluginError, UserError
from accomp.core.interfaces import CausalSampler, DenoisedSampler, MaskedSampler, Stream, Tokenizer
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.model.model import Model
from accomp.core.music.timelines import NOT_TOLD, Source
from accomp.core.names import nearest
from accomp.core.offline.compose import compose
from accomp.core.offline.framewise import Framewise
from accomp.core.registry import Registry
from accomp.core.runs.checkpoint import WEIGHTS, Checkpoint, latest_checkpoint, load_run, read_checkpoint
from accomp.core.runs.checkpoint_folders import checkpoint_folder
from accomp.core.runs.folder import model_folder
from accomp.core.runs.history import best_step
from accomp.core.spec.build import build_sampler, check_combination
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.spec.sections import PluginSpec
from accomp.core.streaming.latent_session import session_of
from accomp.core.streaming.precision import prepared
from accomp.core.streaming.session import AudioSession, TokenSession


@define(eq=False)
class PooledTokens:
    """A token session of a player, and the audio session that uses it; free once that one is closed or gone."""

    tokens: TokenSession
    controlled: bool
    user: Callable[[], AudioSession | None] = lambda: None

    @property
    def free(self) -> bool:
        """Whether another audio session may begin on it."""
        user = self.user()
        return user is None or user.closed


@frozen(eq=False)
class Player:
    """A trained model with all it needs to play.

    Attributes:
        window: frames that it may look back, the length of its training clips.
        step, weights: the checkpoint's optimizer steps, and the hash of its weights.
        objective: what it was trained for, by name.
        guidance: how closely it heeds what it is told.
        runtime: whether it is compiled; the model is in that precision already.
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
        """Where it computes."""
        return self.model.device

    @property
    def clocked(self) -> bool:
        """Whether it plays by a clock, so that it can stream; otherwise it hears the whole clip first."""
        return self.model.clock is not None


def playing_checkpoint(run: Path) -> Checkpoint:
    """The checkpoint that plays: the best on validation, or the newest where that one is not there any more.

    A run that has borrowed a model plays that one's. Raises CheckpointError where nothing is trained yet.
    """
    run = model_folder(run)
    best = best_step(run)
    if best is not None and checkpoint_folder(run, best).is_dir():
        return read_checkpoint(checkpoint_folder(run, best))
    newest = latest_checkpoint(run)
    if newest is None:
        raise CheckpointError(f"nothing is trained yet; run `accomp train SPEC` first @ {run / 'checkpoints'}")
    return newest


def load_player(
    run: Path,
    registry: Registry,
    device: torch.device,
    *,
    sampler: PluginSpec | None = None,
    guidance: Mapping[str, float] | None = None,
    runtime: Runtime | None = None,
) -> Player:
    """The model of a run folder, from its `playing_checkpoint`; `sampler`, `guidance` and `runtime` stand in for the
    run's own.

    Raises CombinationError for a sampler or a guidance that does not fit the model.
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


def weights_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 of a checkpoint's weights."""
    return str(checkpoint.files[WEIGHTS]["sha256"])


@define(eq=False)
class Played:
    """What came out, and how long each piece took (s); a recording given whole is one piece.

    Attributes:
        start: from the session's birth until it can hear something.
        whole, encode, decode: from a piece in to its sound out, and the codec's shares of that.
        frames: how many frames of codes came with each piece.
        audio: the stem [N], as long as the input.
        codes: [K, T] int64, or latents [E, T], all frames.
    """

    start: float
    whole: list[float] = field(factory=list)
    encode: list[float] = field(factory=list)
    decode: list[float] = field(factory=list)
    frames: list[int] = field(factory=list)
    audio: np.ndarray = field(factory=lambda: np.zeros(0, dtype=np.float32))
    codes: np.ndarray = field(factory=lambda: np.zeros((0, 0), dtype=np.int64))


def perform(
    player: Player,
    sound: np.ndarray,
    *,
    labels: Mapping[str, int],
    seed: int,
    session: int,
    prompt: np.ndarray | None = None,
    told: Mapping[str, Source] = NOT_TOLD,
) -> Played:
    """sound [N] -> what the model plays to it, whatever its kind: a whole clip in, a whole stem out.

    A model with a clock sees of it what the clock allows, as in `play`, which also tells the meaning of the arguments.
    """
    if player.clocked:
        return play(player, sound, [len(sound)], labels=labels, seed=seed, session=session, prompt=prompt, told=told)
    tokenizer, space, device = player.tokenizer, player.tokenizer.space, player.device
    if not len(sound):
        return Played(0.0, codes=np.zeros((space.codebooks, 0), dtype=np.int64))
    assert isinstance(player.sampler, CausalSampler | MaskedSampler), "latents are played by a clock"
    times = [_now(device)]
    with torch.inference_mode():
        heard = F.pad(torch.from_numpy(sound)[None].to(device), (0, space.delay))  # for what the decoder's end needs
        x = tokenizer.embed(tokenizer.encode(heard))
        times.append(_now(device))
        codes = compose(
            player.model,
            player.sampler,
            x,
            sessions=torch.tensor([session]),
            labels=_classes(player.model, labels),
            window=player.window,
            seed=seed,
            guidance=player.guidance,
            prompt=None if prompt is None else torch.from_numpy(prompt)[None],
            timelines={name: torch.from_numpy(source(0, x.shape[1]))[None] for name, source in told.items()},
            framewise=_framewise(player),
        )
        times.append(_now(device))
        audio = tokenizer.decode(codes)[0, : len(sound)].cpu().numpy()
        times.append(_now(device))
    began, encoded, composed, done = times
    whole, encode, decode = [done - began], [encoded - began], [done - composed]
    return Played(0.0, whole, encode, decode, [codes.shape[2]], audio, codes[0].cpu().numpy())


def play(
    player: Player,
    sound: np.ndarray,
    pieces: Iterable[int],
    *,
    labels: Mapping[str, int],
    seed: int,
    session: int,
    prompt: np.ndarray | None = None,
    told: Mapping[str, Source] = NOT_TOLD,
    controls: Mapping[str, float] | None = None,
    listener: Callable[[np.ndarray], None] | None = None,
) -> Played:
    """sound [N] in pieces of so many samples, and what they leave over as a last one -> what the model plays to it.

    labels: name -> class; those that the model has and are not given are withheld. `seed` and `session` decide what is
    sampled. prompt: codes [K, P] that the stem begins with. controls: setting of the sampler -> its value, instead of
    that of its Config, all of them or none. told: timeline -> what it says of the frames; those
    that the model has and are not given are withheld. listener: gets what is played, [n] each time, as it comes; an
    interruption comes between two pieces. Raises CombinationError for a model that cannot stream.
    """
    device = player.device
    tokenizer = _TimedTokenizer(player.tokenizer, device)
    began = _now(device)
    pooled = pooled_tokens(
        player, labels=labels, seed=seed, session=session, prompt=prompt, told=told, controls=controls
    )
    tokens = _Remembering(pooled.tokens)
    live = AudioSession(tokenizer, tokens)  # type: ignore[arg-type]  # both stand for what they wrap
    pooled.user = weakref.ref(live)
    heard: list[Tensor] = []

    def hear(sound: Tensor) -> None:
        heard.append(sound.cpu())
        if listener is not None:
            listener(heard[-1][0].float().numpy())

    hear(live.pull())  # what comes before any input is computed now
    start = _now(device) - began
    played = Played(start)
    for piece in _cut(torch.from_numpy(sound)[None], pieces):
        tokenizer.encode_time = tokenizer.decode_time = 0.0
        before, began = tokens.count, _now(device)
        live.push(piece.to(device))
        hear(live.pull())
        played.whole.append(_now(device) - began)
        played.encode.append(tokenizer.encode_time)
        played.decode.append(tokenizer.decode_time)
        played.frames.append(tokens.count - before)
    hear(live.close())
    played.audio = torch.cat(heard, dim=1)[0].numpy()
    played.codes = torch.cat(tokens.codes, dim=2)[0].cpu().numpy()
    return played


def live_session(
    player: Player,
    *,
    labels: Mapping[str, int],
    seed: int,
    session: int,
    told: Mapping[str, Source] = NOT_TOLD,
    controls: Mapping[str, float] | None = None,
) -> AudioSession:
    """Begin a session of any length with a state of its own. The arguments are those of `play`."""
    pooled = pooled_tokens(player, labels=labels, seed=seed, session=session, told=told, controls=controls)
    live = AudioSession(player.tokenizer, pooled.tokens)
    pooled.user = weakref.ref(live)
    return live


def pooled_tokens(
    player: Player,
    *,
    labels: Mapping[str, int],
    seed: int,
    session: int,
    prompt: np.ndarray | None = None,
    told: Mapping[str, Source] = NOT_TOLD,
    controls: Mapping[str, float] | None = None,
) -> PooledTokens:
    """A free token session of the player, begun anew; another one is built, and compiled, where all are in use.

    The arguments are those of `play`. Raises CombinationError for a model that cannot stream, UserError for labels
    and classes that it does not have.
    """
    check_streams(player)
    sessions, classes = torch.tensor([session]), _classes(player.model, labels)
    given = None if prompt is None else torch.from_numpy(prompt)[None]
    settings = None if controls is None else {name: torch.tensor([value]) for name, value in controls.items()}
    free = (pooled for pooled in player.pool if pooled.free and pooled.controlled == (controls is not None))
    pooled = next(free, None)
    if pooled is None:
        prepare_codec(player.tokenizer, player.runtime, player.device)
        tokens = session_of(
            player.model,
            player.sampler,
            sessions=sessions,
            labels=classes,
            window=player.window,
            guidance=player.guidance,
            controls=settings,
            runtime=player.runtime,
        )
        pooled = PooledTokens(tokens, controls is not None)
        player.pool.append(pooled)
    pooled.tokens.begin(sessions, labels=classes, seed=seed, prompt=given, controls=settings, timelines=[told])
    return pooled


def prepare_codec(tokenizer: Tokenizer, runtime: Runtime, device: torch.device, batch: int = 1) -> None:
    """Compile what the codec's streams of `batch` rows compute, where it offers that.

    "auto" does where it is a matter of seconds, or on a GPU. "on" warns where it cannot be.
    """
    quick = device.type == "cuda" or getattr(tokenizer, "prepares_quickly", False)
    if runtime.compile == "off" or (runtime.compile == "auto" and not quick) or not hasattr(tokenizer, "prepare"):
        return
    try:
        tokenizer.prepare(batch)
    except PluginError as error:
        if runtime.compile == "on":
            warn(f"the codec plays uncompiled: {error}")


def _framewise(player: Player) -> Framewise:
    if not player.offline:
        player.offline.append(Framewise(player.model, player.guidance, player.runtime))
    return player.offline[0]


@torch.inference_mode()
def codes_of(tokenizer: Tokenizer, sound: np.ndarray, device: torch.device) -> np.ndarray:
    """sound [N] -> its codes [K, T], T = ceil(N / hop)."""
    return tokenizer.encode(torch.from_numpy(sound)[None].to(device))[0].cpu().numpy()


def check_streams(player: Player) -> Clock:
    """The model's clock. Raises CombinationError, saying what to do instead, where it cannot play while it listens."""
    if player.model.clock is None:
        raise CombinationError(
            f"the model was trained with objective {player.objective!r}: it hears a whole clip before it plays and "
            f"cannot stream; `accomp generate` and `accomp layer` give it whole recordings"
        )
    return player.model.clock


def within_full_scale(sound: np.ndarray) -> tuple[np.ndarray, float]:
    """A decoded stem as a file can hold it, and the factor it was scaled with. Raises ValueError for NaN and Inf."""
    if not np.isfinite(sound).all():
        raise ValueError("the decoded stem holds NaN or Inf")
    gain = min(1.0, 0.99 / max(float(np.abs(sound).max(initial=0.0)), 1e-9))
    return sound * np.float32(gain), gain


def _classes(model: Model, labels: Mapping[str, int]) -> dict[str, Tensor]:
    """The labels that the model takes, each [1]; -1 where one is not given.

    Raises UserError, with every problem, for a label that the model does not take and what is no class of one.
    """
    problems = []
    for name, number in labels.items():
        if name not in model.classes:
            problems.append(f"the model has no label {name!r}{nearest(name, model.classes, what='its labels')}")
        elif not isinstance(number, Integral) or not -1 <= number < model.classes[name]:
            problems.append(
                f"label {name!r} is {number!r}; expected the number of a class, 0 to {model.classes[name] - 1}, or -1 "
                f"to withhold it"
            )
    if problems:
        raise UserError(*problems)
    return {name: torch.tensor([labels.get(name, -1)]) for name in model.classes}


def _now(device: torch.device) -> float:
    """The time (s), once all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _cut(sound: Tensor, pieces: Iterable[int]) -> Iterator[Tensor]:
    begin = 0
    for size in pieces:
        if begin >= sound.shape[1]:
            return
        yield sound[:, begin : begin + size]
        begin += size
    if begin < sound.shape[1]:
        yield sound[:, begin:]


class _Remembering:
    """A session that keeps the codes it gave, and counts their frames."""

    def __init__(self, tokens: TokenSession):
        self._tokens = tokens
        self.codes: list[Tensor] = []
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokens, name)

    def pull(self) -> Tensor:
        codes = self._tokens.pull()
        self.codes.append(codes)
        self.count += codes.shape[2]
        return codes


class _TimedTokenizer:
    """A tokenizer that adds up how long its streams work (s)."""

    def __init__(self, tokenizer: Tokenizer, device: torch.device):
        self._tokenizer, self._device = tokenizer, device
        self.encode_time = self.decode_time = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encoder(self, batch: int = 1) -> Stream:
        return _TimedStream(self._tokenizer.encoder(batch), self._encoded)

    def decoder(self, batch: int = 1) -> Stream:
        return _TimedStream(self._tokenizer.decoder(batch), self._decoded)

    def _encoded(self, began: float) -> None:
        self.encode_time += self._since(began)

    def _decoded(self, began: float) -> None:
        self.decode_time += self._since(began)

    def _since(self, began: float) -> float:
        return _now(self._device) - began


class _TimedStream:
    def __init__(self, stream: Stream, done: Callable[[float], None]):
        self._stream, self._done = stream, done

    def push(self, chunk: Tensor) -> Tensor:
        began = time.perf_counter()
        out = self._stream.push(chunk)
        self._done(began)
        return out

    def flush(self) -> Tensor:
        return self._stream.flush()

    def reset(self, rows: Tensor) -> None:
        self._stream.reset(rows)
