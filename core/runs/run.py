"""Playing of a trained model to a recording, in blocks as if live, or as a whole."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from attrs import define, field
from torch import Tensor

from accomp.core.errors import UserError
from accomp.core.interfaces import CausalSampler, MaskedSampler, Tokenizer
from accomp.core.model.model import Model
from accomp.core.music.timelines import NO_TIMELINES, Source
from accomp.core.names import nearest
from accomp.core.offline.compose import compose
from accomp.core.offline.framewise import Framewise
from accomp.core.runs.player import Player, PooledTokens, check_streams, prepare_codec
from accomp.core.runs.timing import CodeRecorder, TimedTokenizer, now
from accomp.core.streaming.audio_session import AudioSession
from accomp.core.streaming.latent_session import session_of


@define(eq=False)
class Played:
    """The output of a model, with the time (s) each block took; a recording given as a whole is one block.

    Attributes:
        start: from the creation of the session until it can take input.
        whole, encode, decode: from a block in to its audio out, and the codec's shares of that.
        frames: number of frames of codes for each block.
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
    timelines: Mapping[str, Source] = NO_TIMELINES,
) -> Played:
    """Play to a whole recording [N] with a model of any kind, and return a stem of the same length.

    A model with a clock sees no more of the input than its clock allows, as in `play`, which documents the arguments.
    """
    if player.clocked:
        return play(
            player, sound, [len(sound)], labels=labels, seed=seed, session=session, prompt=prompt, timelines=timelines
        )
    tokenizer, space, device = player.tokenizer, player.tokenizer.space, player.device
    if not len(sound):
        return Played(0.0, codes=np.zeros((space.codebooks, 0), dtype=np.int64))
    assert isinstance(player.sampler, CausalSampler | MaskedSampler), "latents are played by a clock"
    times = [now(device)]
    with torch.inference_mode():
        padded = F.pad(
            torch.from_numpy(sound)[None].to(device), (0, space.delay)
        )  # the last output samples need this lookahead
        x = tokenizer.embed(tokenizer.encode(padded))
        times.append(now(device))
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
            timelines={name: torch.from_numpy(source(0, x.shape[1]))[None] for name, source in timelines.items()},
            framewise=_framewise(player),
        )
        times.append(now(device))
        audio = tokenizer.decode(codes)[0, : len(sound)].cpu().numpy()
        times.append(now(device))
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
    timelines: Mapping[str, Source] = NO_TIMELINES,
    controls: Mapping[str, float] | None = None,
    listener: Callable[[np.ndarray], None] | None = None,
) -> Played:
    """Stream a recording [N] in blocks of the given sizes; the remainder is a last block.

    labels: name -> class; labels of the model that are not given are withheld. `seed` and `session` are the keys of the
    random numbers. prompt: codes [K, P] with which the stem begins. controls: the sampler's parameters, all of them or
    none. timelines: name -> source of its values; timelines that are not given are withheld. listener: called with each
    new audio [n]; an interruption takes effect between two blocks. Raises CombinationError for a model that cannot
    stream.
    """
    device = player.device
    tokenizer = TimedTokenizer(player.tokenizer, device)
    began = now(device)
    pooled = pooled_tokens(
        player, labels=labels, seed=seed, session=session, prompt=prompt, timelines=timelines, controls=controls
    )
    tokens = CodeRecorder(pooled.tokens)
    live = AudioSession(tokenizer, tokens)  # type: ignore[arg-type]  # both stand for what they wrap
    pooled.user = weakref.ref(live)
    outputs: list[Tensor] = []

    def emit(sound: Tensor) -> None:
        outputs.append(sound.cpu())
        if listener is not None:
            listener(outputs[-1][0].float().numpy())

    emit(live.pull())  # output that precedes the first input
    start = now(device) - began
    played = Played(start)
    for piece in _cut(torch.from_numpy(sound)[None], pieces):
        tokenizer.encode_time = tokenizer.decode_time = 0.0
        before, began = tokens.count, now(device)
        live.push(piece.to(device))
        emit(live.pull())
        played.whole.append(now(device) - began)
        played.encode.append(tokenizer.encode_time)
        played.decode.append(tokenizer.decode_time)
        played.frames.append(tokens.count - before)
    emit(live.close())
    played.audio = torch.cat(outputs, dim=1)[0].numpy()
    played.codes = torch.cat(tokens.codes, dim=2)[0].cpu().numpy()
    return played


def live_session(
    player: Player,
    *,
    labels: Mapping[str, int],
    seed: int,
    session: int,
    timelines: Mapping[str, Source] = NO_TIMELINES,
    controls: Mapping[str, float] | None = None,
) -> AudioSession:
    """Open a session of unlimited length with a state of its own. The arguments are those of `play`."""
    pooled = pooled_tokens(player, labels=labels, seed=seed, session=session, timelines=timelines, controls=controls)
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
    timelines: Mapping[str, Source] = NO_TIMELINES,
    controls: Mapping[str, float] | None = None,
) -> PooledTokens:
    """Restart a free token session of the player; another one is built, and compiled, where all are in use.


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
    pooled.tokens.begin(sessions, labels=classes, seed=seed, prompt=given, controls=settings, timelines=[timelines])
    return pooled


@torch.inference_mode()
def codes_of(tokenizer: Tokenizer, sound: np.ndarray, device: torch.device) -> np.ndarray:
    """Encode a sound [N] to codes [K, T], T = ceil(N / hop)."""
    return tokenizer.encode(torch.from_numpy(sound)[None].to(device))[0].cpu().numpy()


def _framewise(player: Player) -> Framewise:
    if not player.offline:
        player.offline.append(Framewise(player.model, player.guidance, player.runtime))
    return player.offline[0]


def _classes(model: Model, labels: Mapping[str, int]) -> dict[str, Tensor]:
    """Return the classes of the model's labels, each [1]; -1 where not given.

    Raises UserError, with every problem, for a label or a class that the model does not have.
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


def _cut(sound: Tensor, pieces: Iterable[int]) -> Iterator[Tensor]:
    begin = 0
    for size in pieces:
        if begin >= sound.shape[1]:
            return
        yield sound[:, begin : begin + size]
        begin += size
    if begin < sound.shape[1]:
        yield sound[:, begin:]
