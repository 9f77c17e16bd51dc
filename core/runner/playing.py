"""A recording fed to a session piece by piece, as if live, with a clock beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from attrs import define, field, frozen
from torch import Tensor

from accomp.core.build import build_sampler
from accomp.core.checkpoint import WEIGHTS, Checkpoint, checkpoint_folder, latest_checkpoint, load_run, read_checkpoint
from accomp.core.errors import CheckpointError, CombinationError
from accomp.core.interfaces import CausalSampler, Stream, Tokenizer
from accomp.core.model import Model
from accomp.core.registry import Registry
from accomp.core.runner.losses import best_step
from accomp.core.spec import PluginSpec
from accomp.core.streaming.clock import Clock, LatencyBudget
from accomp.core.streaming.session import AudioSession, TokenSession
from accomp.core.types import TokenSpace


@frozen(eq=False)
class Player:
    """A trained model with all it needs to play.

    Attributes:
        window: frames that it may look back, the length of its training clips.
        step, weights: the checkpoint's optimizer steps, and the hash of its weights.
    """

    tokenizer: Tokenizer
    model: Model
    sampler: CausalSampler
    window: int
    step: int
    weights: str

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.table.weight.device


def playing_checkpoint(run: Path) -> Checkpoint:
    """The checkpoint that plays: the best on validation, or the newest where that one is not there any more.

    Raises CheckpointError where nothing is trained yet.
    """
    best = best_step(run)
    if best is not None and checkpoint_folder(run, best).is_dir():
        return read_checkpoint(checkpoint_folder(run, best))
    newest = latest_checkpoint(run)
    if newest is None:
        raise CheckpointError(f"nothing is trained yet; run `accomp train SPEC` first @ {run / 'checkpoints'}")
    return newest


def load_player(run: Path, registry: Registry, device: torch.device, *, sampler: PluginSpec | None = None) -> Player:
    """The model of a run folder, from its `playing_checkpoint`; `sampler` stands in for the run's own.

    Raises CombinationError for a model that does not decode causally, which cannot stream.
    """
    checkpoint = playing_checkpoint(run)
    loaded = load_run(run, registry, device, step=checkpoint.step)
    chosen = loaded.sampler
    if sampler is not None:
        chosen = build_sampler(attrs.evolve(loaded.spec, sampler=sampler), loaded.tokenizer.space, registry)
    if not isinstance(chosen, CausalSampler) or loaded.objective.decoding != "causal":
        raise CombinationError(
            f"objective {loaded.spec.objective.plugin!r} decodes {loaded.objective.decoding!r}, sampler "
            f"{(sampler or loaded.spec.sampler).plugin!r} {chosen.decoding!r}; only causal decoding can stream @ {run}"
        )
    weights = weights_hash(checkpoint)
    return Player(loaded.tokenizer, loaded.model, chosen, loaded.spec.train.frames, loaded.step, weights)


def weights_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 of a checkpoint's weights."""
    return str(checkpoint.files[WEIGHTS]["sha256"])


@define(eq=False)
class Played:
    """What came out, and how long each piece took (s).

    Attributes:
        start: from the session's birth until it can hear something.
        whole, encode, decode: from a piece in to its sound out, and the codec's shares of that.
        frames: how many frames of codes came with each piece.
        audio: the stem [N], as long as the input.
        codes: [K, T] int64, all frames.
    """

    start: float
    whole: list[float] = field(factory=list)
    encode: list[float] = field(factory=list)
    decode: list[float] = field(factory=list)
    frames: list[int] = field(factory=list)
    audio: np.ndarray = field(factory=lambda: np.zeros(0, dtype=np.float32))
    codes: np.ndarray = field(factory=lambda: np.zeros((0, 0), dtype=np.int64))


def play(
    player: Player, sound: np.ndarray, pieces: Iterable[int], *, labels: Mapping[str, int], seed: int, session: int
) -> Played:
    """sound [N] in pieces of so many samples, and what they leave over as a last one -> what the model plays to it.

    labels: name -> class; those that the model has and are not given are withheld. `seed` and `session` decide what is
    sampled.
    """
    device = player.device
    tokenizer = _TimedTokenizer(player.tokenizer, device)
    began = time.perf_counter()
    tokens = _Remembering(
        player.model,
        player.sampler,
        sessions=torch.tensor([session]),
        labels={name: torch.tensor([labels.get(name, -1)]) for name in player.model.vocabulary.classes},
        window=player.window,
        seed=seed,
    )
    live = AudioSession(tokenizer, tokens)
    heard = [live.pull().cpu()]  # what comes before any input is computed now
    start = time.perf_counter() - began
    played = Played(start)
    for piece in _cut(torch.from_numpy(sound)[None], pieces):
        tokenizer.encode_time = tokenizer.decode_time = 0.0
        before, began = tokens.count, time.perf_counter()
        live.push(piece.to(device))
        heard.append(live.pull().cpu())
        played.whole.append(time.perf_counter() - began)
        played.encode.append(tokenizer.encode_time)
        played.decode.append(tokenizer.decode_time)
        played.frames.append(tokens.count - before)
    heard.append(live.close().cpu())
    played.audio = torch.cat(heard, dim=1)[0].numpy()
    played.codes = torch.cat(tokens.codes, dim=2)[0].cpu().numpy()
    return played


def budget_of(
    clock: Clock, space: TokenSpace, times: Sequence[Mapping[str, float]], *, piece: float = 0.0
) -> LatencyBudget:
    """The budget from what `part_times` gave for one or more recordings: the worst of each.

    A frame that is complete early in a `piece` (s) waits for its end.
    """
    worst = {name: max(one[name] for one in times) for name in times[0]}
    return LatencyBudget(clock, space, **worst, input=max(0.0, piece - 1 / space.frame_rate))


def within_full_scale(sound: np.ndarray) -> tuple[np.ndarray, float]:
    """A decoded stem as a file can hold it, and the factor it was scaled with. Raises ValueError for NaN and Inf."""
    if not np.isfinite(sound).all():
        raise ValueError("the decoded stem holds NaN or Inf")
    gain = min(1.0, 0.99 / max(float(np.abs(sound).max(initial=0.0)), 1e-9))
    return sound * np.float32(gain), gain


def told(budget: LatencyBudget) -> list[dict[str, Any]]:
    """A budget's lines for people: {"name", "ms"}."""
    space, frame = budget.space, budget.frame
    lines = {
        f"delay between codebooks ({space.codebooks - 1} frames)": (space.codebooks - 1) * frame,
        "codec lookahead and delay": (space.lookahead + space.delay) / space.sample_rate,
        "wait for the end of a piece": budget.input,
        "encode a frame": budget.encode,
        "generate" if budget.clock.k == 1 else f"generate a chunk of {budget.clock.k} frames": budget.first,
        "decode a frame": budget.decode,
        "jitter (99.9th percentile over the median)": budget.jitter,
        "needed": budget.required,
        f"left by t_f = {budget.clock.t_f} frames": budget.available,
    }
    return [{"name": name, "ms": 1000 * s} for name, s in lines.items() if s or not name.startswith("wait")]


def part_times(played: Played, clock: Clock) -> dict[str, float]:
    """`encode`, `decode`, `first`, `chunk` as LatencyBudget wants them (s), however the sound was cut.

    `jitter`: by how much the slowest piece in a thousand exceeds the median, among those with which frames came.
    """
    whole, encode, decode = (np.asarray(times) for times in (played.whole, played.encode, played.decode))
    tokens = np.maximum(whole - encode - decode, 0.0)
    frames = np.asarray(played.frames)
    busy = frames > 0 if frames.any() else frames == 0
    chunks = np.maximum(1, frames / clock.k)
    total = max(1, played.codes.shape[1])
    return {
        "encode": float(encode.sum() / total),
        "decode": float(decode.sum() / total),
        "first": float(np.median((tokens / chunks)[busy])),
        "chunk": float(tokens.sum() / total) * clock.k,
        "jitter": float(np.quantile(whole[busy], 0.999) - np.median(whole[busy])),
    }


def _cut(sound: Tensor, pieces: Iterable[int]) -> Iterator[Tensor]:
    begin = 0
    for size in pieces:
        if begin >= sound.shape[1]:
            return
        yield sound[:, begin : begin + size]
        begin += size
    if begin < sound.shape[1]:
        yield sound[:, begin:]


class _Remembering(TokenSession):
    """A session that keeps the codes it gave, and counts their frames."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.codes: list[Tensor] = []
        self.count = 0

    def pull(self) -> Tensor:
        codes = super().pull()
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
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began


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
