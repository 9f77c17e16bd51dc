"""Live sessions: one that plays along with a stream of blocks, and many that advance together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from attrs import frozen
from numpy.typing import ArrayLike, NDArray

from accomp.arguments import checked_samples, whole
from accomp.core.compute.devices import number_of
from accomp.core.errors import UserError
from accomp.core.interfaces import CausalSampler, DenoisedSampler
from accomp.core.runs.player import check_streams, prepare_codec
from accomp.core.runs.run import live_session
from accomp.core.streaming.audio_batch import AudioSessionBatch
from accomp.player import RunPlayer

RECENT = 10_000
"""Pushes of which a session keeps the times."""


@frozen
class Stats:
    """Counts of a session.

    Attributes:
        seconds_in, seconds_out: Of audio.
        pushes: How often `push` was called.
        busy: Seconds of computing.
        median_ms: Of the last 10,000 pushes.
        max_ms: Of a push.
    """

    seconds_in: float
    seconds_out: float
    pushes: int
    busy: float
    median_ms: float
    max_ms: float

    @property
    def real_time_factor(self) -> float:
        """Computing per second of input, below 1 where the machine keeps up."""
        return self.busy / self.seconds_in if self.seconds_in else 0.0


class Session:
    """A live session of a run; made by `Run.session`. Its state is its own.

    Output sample n accompanies input sample n; how much later it comes is `latency`.

    Attributes:
        sample_rate: Of input and output, in Hz.
        latency: Seconds by which the output lags behind the input, computing time apart; negative: it runs ahead, and
            `push` gives it in time with the input.
    """

    def __init__(
        self,
        player: RunPlayer,
        *,
        classes: Mapping[str, int],
        seed: int,
        controls: Mapping[str, float] | None,
        metronome: str,
        chart: str,
    ):
        self.sample_rate, self.latency = player.sample_rate, player.latency
        self._player, self._classes, self._seed, self._controls = player, classes, seed, controls
        self._metronome, self._chart = metronome, chart
        self._begin()

    def _begin(self) -> None:
        with self._player.computing():
            self._live = live_session(
                self._player.core,
                labels=self._classes,
                seed=self._seed,
                session=number_of("stream"),
                timelines=self._player.timelines(self._metronome, self._chart),
                controls=self._controls,
            )
            self._live.pull()  # what the model plays before any input is computed now
        self._times: deque[float] = deque(maxlen=RECENT)
        self._pushes, self._busy, self._longest = 0, 0.0, 0.0
        self._in = self._out = 0

    def push(self, block: ArrayLike) -> NDArray[np.float32]:
        """Take a block of input and return the output that is ready.

        Args:
            block: Samples [n] or [1, n] in [-1, 1] at `sample_rate`, any n.

        Returns:
            Samples of the same shape but for their number: at most as many as came in so far and were not yet given.

        Raises:
            UserError: The samples have another shape or type, or the session has ended.
        """
        if self._live.closed:
            raise UserError("the session has ended; begin another with run.session(...), or this one anew with reset()")
        sound, row = _block(block)
        began = time.perf_counter()
        with self._player.computing():
            self._live.push(torch.from_numpy(sound)[None].to(self._player.core.device))
            out = self._live.pull()[0].float().cpu().numpy()
        self._count(time.perf_counter() - began)
        self._in, self._out = self._in + len(sound), self._out + len(out)
        return out[None] if row else out

    def _count(self, seconds: float) -> None:
        self._times.append(seconds)
        self._pushes, self._busy, self._longest = self._pushes + 1, self._busy + seconds, max(self._longest, seconds)

    def finish(self) -> NDArray[np.float32]:
        """End the input and the session.

        Returns:
            The rest of the output [n], so that as many samples came out as went in. Input after the end
            is silence. Empty where the session has ended before.
        """
        if self._live.closed:
            return np.zeros(0, dtype=np.float32)
        with self._player.computing():
            rest: NDArray[np.float32] = self._live.close()[0].float().cpu().numpy()
        self._out += len(rest)
        return rest

    def reset(self) -> None:
        """Restart the session without its past: the same input gives the same output again."""
        self.close()
        self._begin()

    def close(self) -> None:
        """End the session; what it would still play is not computed."""
        self._live.end()

    @property
    def stats(self) -> Stats:
        """What came in and went out, and how long it took."""
        return Stats(
            self._in / self.sample_rate,
            self._out / self.sample_rate,
            self._pushes,
            self._busy,
            1000 * float(np.median(self._times or [0.0])),
            1000 * self._longest,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "ended" if self._live.closed else f"latency {1000 * self.latency:.0f} ms"
        return f"<Session of {self._player.folder}: {self.stats.seconds_in:.2f} s in, {state}>"


class Batch:
    """Many live sessions that advance together, one frame chunk at a time; made by `Run.batch`.

    What a session plays depends on no other one.

    Attributes:
        sample_rate: Of input and output, in Hz.
        block: Samples that every session hears at a step.
        slots: How many sessions there can be.
    """

    def __init__(self, player: RunPlayer, slots: int, temperature: float):
        core = player.core
        check_streams(core)
        assert isinstance(core.sampler, CausalSampler | DenoisedSampler), "the other kind has no clock"
        with player.computing():
            prepare_codec(core.tokenizer, core.runtime, core.device, slots)
            self._batch = AudioSessionBatch(
                core.tokenizer,
                core.model,
                core.sampler,
                slots,
                window=core.window,
                guidance=core.guidance,
                temperature=temperature,
                runtime=core.runtime,
            )
        self._player, self.sample_rate, self.block, self.slots = player, player.sample_rate, self._batch.hop, slots

    @property
    def playing(self) -> list[int]:
        """The slots in which a session plays."""
        return self._batch.taken

    def join(
        self,
        *,
        instrument: str | None = None,
        seed: int = 0,
        temperature: float | None = None,
        metronome: str = "auto",
        chart: str = "auto",
        **labels: str,
    ) -> int:
        """Begin a session.

        Args:
            instrument, seed, temperature, metronome, chart, **labels: As for `Run.session`.

        Returns:
            Its slot.

        Raises:
            UserError: All slots are taken, or an argument is not known.
        """
        if not self._batch.free:
            raise UserError(f"all {self.slots} slots are taken; end a session with leave(slot), or make a larger batch")
        classes = self._player.classes(instrument, labels)
        self._player.controls(temperature)
        with self._player.computing():
            return self._batch.join(
                session=number_of("stream"), seed=whole("seed", seed), labels=classes, temperature=temperature,
                timelines=self._player.timelines(metronome, chart),
            )  # fmt: skip

    def step(self, blocks: Mapping[int, ArrayLike]) -> dict[int, NDArray[np.float32]]:
        """Advance all sessions by one block.

        Args:
            blocks: Slot -> samples [block]. A session without one hears silence.

        Returns:
            Slot -> samples [block] that it plays, of the sessions that have begun to.

        Raises:
            UserError: A block has another shape, or belongs to no session.
        """
        heard = {self._playing(slot): _block(block)[0] for slot, block in blocks.items()}
        for slot, sound in heard.items():
            if len(sound) != self.block:
                raise UserError(f"slot {slot}: {len(sound)} samples; a step takes {self.block} of each session")
        with self._player.computing():
            return {slot: sound for slot, (_, sound) in self._batch.step(heard).items()}

    def place(self, slot: int) -> int | None:
        """The sample of the input that the next output of a session belongs to; None before its first output."""
        return self._batch.places[self._playing(slot)]

    def leave(self, slot: int) -> None:
        """End the session of a slot. Raises UserError where none plays."""
        self._batch.leave(self._playing(slot))

    def _playing(self, slot: int) -> int:
        if slot not in self._batch.taken:
            taken = ", ".join(map(str, self._batch.taken)) or "in none"
            raise UserError(f"no session plays in slot {slot!r}; sessions play in {taken}")
        return slot

    def __repr__(self) -> str:
        return f"<Batch of {self._player.folder}: {len(self.playing)} of {self.slots} slots taken>"


def _block(block: Any) -> tuple[NDArray[np.float32], bool]:
    """Samples [n], and whether they came as [1, n]."""
    given = block.detach().cpu().numpy() if isinstance(block, torch.Tensor) else np.asarray(block)
    row = given.ndim == 2 and len(given) == 1
    return checked_samples(given[0] if row else given), row
