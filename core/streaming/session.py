"""Streaming sessions: input in blocks of any size, output as soon as the clock allows.

Offline generation is the same session, pushed once: every row of the sequence is a computation of its own, and random
numbers belong to a frame, so that the block sizes of the input do not matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from accomp.core.interfaces import CausalSampler, State
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.model.model import Model
from accomp.core.music.timelines import Source
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.streaming.buckets import Buckets
from accomp.core.streaming.checks import check_playable, check_prompt, check_timelines, no_timeline
from accomp.core.streaming.step import Sessions, Step
from accomp.core.streaming.timeline_feed import TimelineFeed


class TokenSession:
    """B streaming sessions of one model, advanced in lockstep. Latents go in, codes come out; all state is held here,
    none in the model.

    The chunk that starts at step s is drawn once the row of step s has its input, which is absorbed together with the
    k - 1 rows before it (prefill). Its first step is drawn from that row, each other from a row without input (decode);
    these are then rewound, to be absorbed again together with their input.
    """

    def __init__(
        self,
        model: Model,
        sampler: CausalSampler,
        *,
        sessions: Tensor,
        labels: Mapping[str, Tensor],
        window: int,
        seed: int = 0,
        guidance: Guidance = UNGUIDED,
        prompt: Tensor | None = None,
        controls: Mapping[str, Tensor] | None = None,
        timelines: Sequence[Mapping[str, Source]] = (),
        runtime: Runtime = EAGER,
    ):
        """window: number of past frames that the model attends to, at most the length of its training clips. guidance:
        its G variants of each session run side by side. runtime: a compiled step is compiled here. The rest is as in
        `begin`.

        Raises ValueError for a model in training mode or without a clock, and for arguments that `begin` refuses;
        UserError for a step that cannot be compiled here.
        """
        self.model, self.layout, self.guidance, self.sampler = model, model.layout, guidance, sampler
        self.batch = len(sessions)
        self.device, self._dtype = model.device, model.dtype
        self._has_controls = controls is not None
        settings = self._check_settings(sessions, seed, labels, controls)
        with torch.inference_mode():
            self._step = self._make_step(window, settings, runtime)
            self._begin(settings, sessions, prompt, timelines)

    def _make_step(self, window: int, settings: Sessions, runtime: Runtime) -> Any:
        """Make the step that advances the sessions."""
        return Step(self.model, self.sampler, self.guidance, window=window, sessions=settings, runtime=runtime)

    @torch.inference_mode()
    def begin(
        self,
        sessions: Tensor,
        *,
        labels: Mapping[str, Tensor],
        seed: int | Tensor = 0,
        prompt: Tensor | None = None,
        controls: Mapping[str, Tensor] | None = None,
        timelines: Sequence[Mapping[str, Source]] = (),
    ) -> None:
        """End all sessions and start B new ones. Output that was not pulled is lost.

        sessions [B] int64 select the random numbers of these sessions under `seed`, one for all or [B]. labels: name ->
        classes [B] int64, -1 where withheld. prompt: codes [B, K, P] in place of the first P frames of every session.
        controls: name -> [B], the sampler's parameters for each session, given always or never; never: those it was
        built with. timelines: for each session name -> source, by frame numbers; missing ones are withheld. Raises
        ValueError for labels, classes, codes, controls, timelines or shapes that do not fit.
        """
        self._begin(self._check_settings(sessions, seed, labels, controls), sessions, prompt, timelines)

    def _begin(
        self,
        settings: Sessions,
        sessions: Tensor,
        prompt: Tensor | None,
        timelines: Sequence[Mapping[str, Source]],
    ) -> None:
        self._timeline_feed = TimelineFeed(self.model, self._step, check_timelines(self.model, self.batch, timelines))
        prompt = None if prompt is None else self._check_prompt(sessions, prompt)
        self._prompt = prompt.to(self.device) if prompt is not None and prompt.shape[2] else None
        self._step.begin(torch.ones(self.batch, dtype=torch.bool, device=self.device), settings)
        self._waiting = self._before()  # inputs of rows [G * B, 1, E] that no step has absorbed
        self._groups = 0  # of k rows, absorbed since the beginning
        self._early = self.model.space.levels - 1  # frames to come that lie before the beginning
        self._frames: list[Tensor] = []  # complete frames [B, K, m] that were not pulled

    def _check_settings(
        self, sessions: Tensor, seed: int | Tensor, labels: Mapping[str, Tensor], controls: Mapping[str, Tensor] | None
    ) -> Sessions:
        """The sessions' settings on the device. Raises ValueError, with every problem."""
        check_playable(self.model, sessions, labels)
        if len(sessions) != self.batch:
            raise ValueError(f"{len(sessions)} sessions; these are {self.batch} at a time")
        has = set(getattr(self.sampler, "controls", ()))
        if controls is not None and set(controls) != has:
            raise ValueError(f"controls {sorted(controls)} were given to a sampler that has {sorted(has) or 'none'}")
        if (controls is not None) != self._has_controls:
            raise ValueError(f"controls must be given {'always' if self._has_controls else 'from the start'} or never")
        seeds = seed.to(self.device) if isinstance(seed, Tensor) else seed
        return Sessions(
            KeyedRandom.of_sessions(seeds, sessions.to(self.device), self.model.space.levels),
            {name: classes.to(self.device) for name, classes in labels.items()},
            {name: control.to(self.device, torch.float32) for name, control in (controls or {}).items()},
        )

    def set_timeline(self, row: int, name: str, source: Source | None) -> None:
        """Set or withhold (None) a timeline of the session in a row, from the next group of frames on.

        Raises ValueError for a timeline that the model does not take.
        """
        if name not in self.model.timelines:
            raise ValueError(no_timeline([name], self.model))
        self._timeline_feed.set_timeline(row, name, source)

    @torch.inference_mode()
    def set_control(self, row: int, name: str, value: float) -> None:
        """Set a parameter of the sampler for the session in a row, in place: from its next step on.

        Raises ValueError for a control that the sampler lacks, or if none were given at the start.
        """
        if name not in self._step.controls:
            raise ValueError(f"no control {name!r}; these sessions have {sorted(self._step.controls) or 'none'}")
        self._step.controls[name][row] = value

    def listen(self, audio: Tensor, rows: Sequence[int] | None = None) -> None:
        """Feed the next input audio [B, n], at the codec's rate, before its latents are pushed.

        Needed by timelines that follow the input; an AudioSession does it. rows: the B sessions of the audio, if not
        all.
        """
        self._timeline_feed.listen(audio, rows)

    @torch.inference_mode()
    def buckets(self, sizes: Sequence[int], *, compiled: bool) -> Buckets:
        """Steps of the first rows alone, for each size; see Buckets."""
        return Buckets(self._step, sizes, compiled=compiled)

    @property
    def state(self) -> State:
        """The backbone's KV cache of these sessions."""
        return self._step.state

    @torch.inference_mode()
    def push(self, x: Tensor) -> None:
        """x [B, m, E]: the next m input frames. Nothing is computed yet. Raises ValueError for another shape."""
        expected = (self.batch, x.shape[1] if x.ndim > 1 else "m", self.model.space.latent_dim)
        if x.shape != expected:
            raise ValueError(f"input latents have shape {tuple(x.shape)}, expected [B, m, E] = {expected}")
        inputs = self.guidance.spread_context(x.to(self.device, self._dtype))
        self._waiting.extend(frame[:, None].clone() for frame in inputs.unbind(1))

    @torch.inference_mode()
    def pull(self) -> Tensor:
        """Codes [B, K, m] of the frames that became complete; m = 0 without any. Never waits for input.

        -1 only after a reset, while the row's new session has no frame yet.
        """
        self._advance()
        frames, self._frames = self._frames, []
        return torch.cat([self._no_frames(), *frames], dim=2)

    @torch.inference_mode()
    def reset(
        self,
        rows: Tensor,
        *,
        sessions: Tensor | None = None,
        labels: Mapping[str, Tensor] | None = None,
        seed: int | Tensor = 0,
        controls: Mapping[str, Tensor] | None = None,
        timelines: Sequence[Mapping[str, Source]] = (),
    ) -> Tensor:
        """End the sessions of the rows where the bool mask [B] is true and start new ones; the others go on unchanged.

        Input pushed before belongs to the old sessions; the new ones are given as in `begin`, for all B, of which those
        of other rows are ignored; without `sessions` the same start again. Returns codes [B, K, m]: the frames that the
        new sessions output before any input, -1 in the other rows; their next ones come with those of the others.
        Raises ValueError in the middle of a chunk, during a prompt, and as `begin` does.
        """
        settings = None if sessions is None else self._check_settings(sessions, seed, labels or {}, controls)
        self._advance()
        new = rows.tolist() if self.model.timelines else []
        k, step, rows = self.layout.clock.k, self._step, rows.to(self.device)
        before = self._before()
        if len(self._waiting) != len(before) % k:
            raise ValueError(f"a reset must come between chunks of k = {k} input frames")
        if self._prompt is not None:
            raise ValueError("a reset must come after the prompt")
        variants, snapshot = self.guidance.repeat(rows), self._snapshot()
        step.begin(rows, settings)
        self._timeline_feed.begin(new, None if sessions is None else check_timelines(self.model, self.batch, timelines))
        ahead = self._output_before_input(before, rows, new, snapshot)
        self._waiting = deque(
            torch.where(variants[:, None, None], new, old) for new, old in zip(before, self._waiting, strict=True)
        )
        return ahead[:, :, self.model.space.levels - 1 :]

    def _snapshot(self) -> Any:
        """Snapshot of the state that must survive the start of other sessions."""
        return self._step.state.position.clone(), self._step.steps.clone()

    def _output_before_input(self, before: deque[Tensor], rows: Tensor, new: list[bool], snapshot: Any) -> Tensor:
        """Output of the new sessions in the rows of the mask before any input, -1 in the others: [B, K, m]."""
        (others, steps), step, k = snapshot, self._step, self.layout.clock.k
        frames = [
            torch.where(rows[:, None, None], self._chunk(before, keep=(self.guidance.repeat(rows), others, new)), -1)
            for _ in range(len(before) // k)
        ]
        step.steps.copy_(torch.where(rows[:, None, None], step.steps, steps))
        return torch.cat([self._no_frames(), *frames], dim=2)

    def _no_frames(self) -> Tensor:
        """No frame [B, K, 0]."""
        return self._step.steps[:, :, :0]

    def _check_prompt(self, sessions: Tensor, prompt: Tensor) -> Tensor:
        return check_prompt(self.model, sessions, prompt)

    def _advance(self) -> None:
        """Absorb every group whose input is complete."""
        k, first = self.layout.clock.k, self.layout.start // self.layout.clock.k  # the group that ends with step 0
        while len(self._waiting) >= k:
            if self._groups < first:
                x = self._group(self._waiting)
                self._timeline_feed.prefill()
                self._before_output(x)
                self._timeline_feed.advance()
            else:
                frames = self._chunk(self._waiting)
                self._frames.append(frames[:, :, self._early :])
                self._early = max(0, self._early - k)
            self._groups += 1
            played = (self._groups - first) * k
            if self._prompt is not None and played >= self._prompt.shape[2] + self.model.space.levels - 1:
                self._prompt = None  # all levels are past it

    def _before_output(self, x: Tensor) -> None:
        """Absorb a group [G * B, k, E] before the first with output."""
        self._step.prefill(x)

    def _chunk(self, waiting: deque[Tensor], keep: tuple[Tensor, Tensor, list[bool]] | None = None) -> Tensor:
        """Absorb the next group and draw its chunk -> frames [B, K, k].

        keep: mask of rows that advance, positions to which the others are reset, and the sessions that advance.
        """
        step, advancing = self._step, None if keep is None else keep[2]

        def hold_others() -> None:
            if keep is not None:
                step.state.rollback(torch.where(keep[0], step.state.position, keep[1]))

        def finish(frames: Tensor) -> Tensor:
            hold_others()
            return frames if self._prompt is None else step.overrule(self._prompt)

        x = self._group(waiting)
        self._timeline_feed.prefill(advancing)
        frames = finish(step.prefill(x))
        for number in range(1, self.layout.clock.k):
            self._timeline_feed.decode(number, advancing)
            frames = finish(step.decode())
        self._timeline_feed.advance(advancing)
        step.rewind()
        hold_others()
        return frames.clone()

    def _group(self, waiting: deque[Tensor]) -> Tensor:
        """Inputs of the next k rows [G * B, k, E]."""
        return torch.cat([waiting.popleft() for _ in range(self.layout.clock.k)], dim=1)

    def _before(self) -> deque[Tensor]:
        """Inputs [G * B, 1, E] of a session's rows before its first: blanks, then the learned ones."""
        blank = self.model.input_padding.new_zeros(self.model.space.latent_dim)
        inputs = [*[blank] * self._step.blanks, *self.model.input_padding]
        return deque(x.repeat(self._step.rows, 1, 1) for x in inputs)
