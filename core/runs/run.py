"""A trained model at work: a recording fed to it piece by piece, as if live, or given to it whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from attrs import define, field
from torch import Tensor

from accomp.core.interfaces import CausalSampler, MaskedSampler, Tokenizer
from accomp.core.model.model import Model
from accomp.core.music.timelines import NOT_TOLD, Source
from accomp.core.offline.compose import compose
from accomp.core.offline.framewise import Framewise
from accomp.core.runs.player import Player, check_streams, prepare_codec
from accomp.core.runs.timing import CodeRecorder, TimedTokenizer, now
from accomp.core.streaming.latent_session import session_of
from accomp.core.streaming.session import AudioSession, TokenSession


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
    times = [now(device)]
    with torch.inference_mode():
        heard = F.pad(torch.from_numpy(sound)[None].to(device), (0, space.delay))  # for what the decoder's end needs
        x = tokenizer.embed(tokenizer.encode(heard))
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
            timelines={name: torch.from_numpy(source(0, x.shape[1]))[None] for name, source in told.items()},
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
    told: Mapping[str, Source] = NOT_TOLD,
    listener: Callable[[np.ndarray], None] | None = None,
) -> Played:
    """sound [N] in pieces of so many samples, and what they leave over as a last one -> what the model plays to it.

    labels: name -> class; those that the model has and are not given are withheld. `seed` and `session` decide what is
    sampled. prompt: codes [K, P] that the stem begins with. told: timeline -> what it says of the frames; those
    that the model has and are not given are withheld. listener: gets what is played, [n] each time, as it comes; an
    interruption comes between two pieces. Raises CombinationError for a model that cannot stream.
    """
    device = player.device
    tokenizer = TimedTokenizer(player.tokenizer, device)
    began = now(device)
    tokens = CodeRecorder(tokens_of(player, labels=labels, seed=seed, session=session, prompt=prompt, told=told))
    live = AudioSession(tokenizer, tokens)  # type: ignore[arg-type]  # both stand for what they wrap
    heard: list[Tensor] = []

    def hear(sound: Tensor) -> None:
        heard.append(sound.cpu())
        if listener is not None:
            listener(heard[-1][0].float().numpy())

    hear(live.pull())  # what comes before any input is computed now
    start = now(device) - began
    played = Played(start)
    for piece in _cut(torch.from_numpy(sound)[None], pieces):
        tokenizer.encode_time = tokenizer.decode_time = 0.0
        before, began = tokens.count, now(device)
        live.push(piece.to(device))
        hear(live.pull())
        played.whole.append(now(device) - began)
        played.encode.append(tokenizer.encode_time)
        played.decode.append(tokenizer.decode_time)
        played.frames.append(tokens.count - before)
    hear(live.close())
    played.audio = torch.cat(heard, dim=1)[0].numpy()
    played.codes = torch.cat(tokens.codes, dim=2)[0].cpu().numpy()
    return played


def live_session(
    player: Player, *, labels: Mapping[str, int], seed: int, session: int, told: Mapping[str, Source] = NOT_TOLD
) -> AudioSession:
    """A session of this player, for as long as one likes; the arguments are those of `play`."""
    return AudioSession(player.tokenizer, tokens_of(player, labels=labels, seed=seed, session=session, told=told))


def tokens_of(
    player: Player,
    *,
    labels: Mapping[str, int],
    seed: int,
    session: int,
    prompt: np.ndarray | None = None,
    told: Mapping[str, Source] = NOT_TOLD,
) -> TokenSession:
    """The player's session of codes, begun anew as `play` is told to: it has one, which is compiled once.

    Raises CombinationError for a model that cannot stream.
    """
    check_streams(player)
    sessions, classes = torch.tensor([session]), _classes(player.model, labels)
    given = None if prompt is None else torch.from_numpy(prompt)[None]
    tokens: TokenSession | None = player.kept.get("tokens")
    if tokens is None:
        prepare_codec(player.tokenizer, player.runtime, player.device)
        tokens = player.kept["tokens"] = session_of(
            player.model,
            player.sampler,
            sessions=sessions,
            labels=classes,
            window=player.window,
            guidance=player.guidance,
            runtime=player.runtime,
        )
    tokens.begin(sessions, labels=classes, seed=seed, prompt=given, timelines=[told])
    return tokens


@torch.inference_mode()
def codes_of(tokenizer: Tokenizer, sound: np.ndarray, device: torch.device) -> np.ndarray:
    """sound [N] -> its codes [K, T], T = ceil(N / hop)."""
    return tokenizer.encode(torch.from_numpy(sound)[None].to(device))[0].cpu().numpy()


def _framewise(player: Player) -> Framewise:
    if "framewise" not in player.kept:
        player.kept["framewise"] = Framewise(player.model, player.guidance, player.runtime)
    framewise: Framewise = player.kept["framewise"]
    return framewise


def _classes(model: Model, labels: Mapping[str, int]) -> dict[str, Tensor]:
    """The labels that the model takes, each [1]; -1 where it is not given."""
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
