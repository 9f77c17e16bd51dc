"""Playing along: input goes in as it comes, output comes out as soon as the clock allows.

Offline generation is the same session, pushed once: every row of the sequence is a computation of its own, and random
numbers belong to a frame, so it does not matter how the input was cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from accomp.core.interfaces import CausalSampler, State, Tokenizer
from accomp.core.keyed_random import KeyedRandom
from accomp.core.model.accompanist import Accompanist
from accomp.core.model.guidance import UNGUIDED, Guidance
from accomp.core.model.model import Model
from accomp.core.music.timelines import Source
from accomp.core.spec.runtime import EAGER, Runtime
from accomp.core.streaming.conductor import Conductor
from accomp.core.streaming.step import Sessions, Step


class TokenSession:
    """B sessions of one model, in step: input latents in, output codes out. The model keeps nothing of them.

    The chunk that starts at step s is drawn once the row of step s has its input, which is absorbed together with the
    k - 1 rows before it. Its first step is drawn from that row, each other from a row without input; these are then
    forgotten, to be absorbed again together with their input.
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
        """window: how many frames back the model looks, at most the length of its training clips. guidance: its G
        variants of each session run side by side. runtime: a compiled step is compiled here. The rest is as in `begin`.

        Raises ValueError for a model in training mode or without a clock, and for what `begin` refuses; UserError for a
        step that cannot be compiled here.
        """
        self.model, self.layout, self.guidance, self.sampler = model, model.layout, guidance, sampler
        self.batch = len(sessions)
        self.device, self._dtype = model.device, model.dtype
        self._dialled = controls is not None
        who = self._checked(sessions, seed, labels, controls)
        with torch.inference_mode():
            self._step = self._made(window, who, runtime)
            self._begin(who, sessions, prompt, timelines)

    def _made(self, window: int, who: Sessions, runtime: Runtime) -> Any:
        """What moves the sessions on."""
        return Step(self.model, self.sampler, self.guidance, window=window, sessions=who, runtime=runtime)

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
        """End all sessions and begin B others, as if all were new. What was not pulled is gone.

        sessions [B] int64 tell these sessions' randomness from that of others with the same `seed`, a number for all or
        [B]. labels: name -> classes [B] int64, -1 where withheld. prompt: codes [B, K, P] that the first P frames of
        every session are instead of what is drawn. controls: name -> [B], what the sampler's settings are session by
        session, of these always or never; never: what it was built with. timelines: for each session name -> what it is
        told, by the numbers of its frames; those that are not there are withheld. Raises ValueError for labels,
        classes, codes, controls, timelines or shapes that do not fit.
        """
        self._begin(self._checked(sessions, seed, labels, controls), sessions, prompt, timelines)

    def _begin(
        self,
        who: Sessions,
        sessions: Tensor,
        prompt: Tensor | None,
        timelines: Sequence[Mapping[str, Source]],
    ) -> None:
        self._conductor = Conductor(self.model, self._step, self._checked_timelines(timelines))
        prompt = None if prompt is None else self._checked_prompt(sessions, prompt)
        self._prompt = prompt.to(self.device) if prompt is not None and prompt.shape[2] else None
        self._step.begin(torch.ones(self.batch, dtype=torch.bool, device=self.device), who)
        self._waiting = self._before()  # inputs of rows [G * B, 1, E] that no step has absorbed
        self._groups = 0  # of k rows, absorbed since the beginning
        self._early = self.model.space.levels - 1  # frames to come that lie before the beginning
        self._frames: list[Tensor] = []  # complete frames [B, K, m] that were not pulled

    def _checked(
        self, sessions: Tensor, seed: int | Tensor, labels: Mapping[str, Tensor], controls: Mapping[str, Tensor] | None
    ) -> Sessions:
        """Who plays, on the device. Raises ValueError, with every problem."""
        check_playable(self.model, sessions, labels)
        if len(sessions) != self.batch:
            raise ValueError(f"{len(sessions)} sessions; these are {self.batch} at a time")
        has = set(getattr(self.sampler, "controls", ()))
        if controls is not None and set(controls) != has:
            raise ValueError(f"controls {sorted(controls)} were given to a sampler that has {sorted(has) or 'none'}")
        if (controls is not None) != self._dialled:
            raise ValueError(
                f"controls must be given {'always' if self._dialled else 'from the beginning on'} or never"
            )
        seeds = seed.to(self.device) if isinstance(seed, Tensor) else seed
        return Sessions(
            KeyedRandom.of_sessions(seeds, sessions.to(self.device), self.model.space.levels),
            {name: classes.to(self.device) for name, classes in labels.items()},
            {name: dial.to(self.device, torch.float32) for name, dial in (controls or {}).items()},
        )

    def _checked_timelines(self, timelines: Sequence[Mapping[str, Source]]) -> list[dict[str, Source]]:
        """One for each session. Raises ValueError for another number of them, and for names that the model lacks."""
        told = [dict(one) for one in timelines] or [{} for _ in range(self.batch)]
        if len(told) != self.batch:
            raise ValueError(f"timelines of {len(told)} sessions; these are {self.batch}")
        if unknown := sorted({name for one in told for name in one} - set(self.model.timelines)):
            raise ValueError(no_timeline(unknown, self.model))
        return told

    def tell(self, row: int, name: str, source: Source | None) -> None:
        """From the next group of frames on, tell the session in a row something else, or nothing of it (None).

        Raises ValueError for a timeline that the model does not take.
        """
        if name not in self.model.timelines:
            raise ValueError(no_timeline([name], self.model))
        self._conductor.tell(row, name, source)

    @torch.inference_mode()
    def set_control(self, row: int, name: str, value: float) -> None:
        """Another setting of the sampler for the session in a row, written in place: from its next step on.

        Raises ValueError where it has no such dial, or was given none at the beginning.
        """
        if name not in self._step.controls:
            raise ValueError(f"no dial {name!r}; these sessions have {sorted(self._step.controls) or 'none'}")
        self._step.controls[name][row] = value

    def listen(self, audio: Tensor, rows: Sequence[int] | None = None) -> None:
        """What the sessions hear next, audio [B, n] at the codec's rate, before its latents are pushed.

        Needed by timelines that are followed in the input; an AudioSession does it. rows: the B sessions that hear it,
        where it is not all.
        """
        self._conductor.listen(audio, rows)

    @property
    def state(self) -> State:
        """What the backbone remembers of these sessions."""
        return self._step.state

    @torch.inference_mode()
    def push(self, x: Tensor) -> None:
        """x [B, m, E]: the next m input frames. Nothing is computed yet. Raises ValueError for another shape."""
        expected = (self.batch, x.shape[1] if x.ndim > 1 else "m", self.model.space.latent_dim)
        if x.shape != expected:
            raise ValueError(f"input latents have shape {tuple(x.shape)}, expected [B, m, E] = {expected}")
        heard = self.guidance.spread_context(x.to(self.device, self._dtype))
        self._waiting.extend(frame[:, None].clone() for frame in heard.unbind(1))

    @torch.inference_mode()
    def pull(self) -> Tensor:
        """Codes [B, K, m] of the frames that became complete; m = 0 where there is none. Never waits for input.

        -1 only after a reset, while the row's new session has no frame yet.
        """
        self._advance()
        frames, self._frames = self._frames, []
        return torch.cat([self._nothing(), *frames], dim=2)

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
        """End the sessions of the rows where the bool mask [B] is true and begin new ones; the others go on unchanged.

        What was pushed before belongs to the old sessions; who the new ones are is said as in `begin`, for all B, of
        which those of other rows are ignored; without `sessions` the same begin again. Returns codes [B, K, m]: the
        frames that the new sessions put out ahead of any input, -1 in the other rows; their next ones come with those
        of the others. Raises ValueError in the middle of a chunk, while a prompt is played, and as `begin` does.
        """
        who = None if sessions is None else self._checked(sessions, seed, labels or {}, controls)
        self._advance()
        new = rows.tolist() if self.model.timelines else []
        k, step, rows = self.layout.clock.k, self._step, rows.to(self.device)
        before = self._before()
        if len(self._waiting) != len(before) % k:
            raise ValueError(f"a reset must come between chunks of k = {k} input frames")
        if self._prompt is not None:
            raise ValueError("a reset must come after the prompt")
        anew, kept = self.guidance.repeat(rows), self._kept()
        step.begin(rows, who)
        self._conductor.begin(new, None if sessions is None else self._checked_timelines(timelines))
        ahead = self._ahead(before, rows, new, kept)
        self._waiting = deque(
            torch.where(anew[:, None, None], new, old) for new, old in zip(before, self._waiting, strict=True)
        )
        return ahead[:, :, self.model.space.levels - 1 :]

    def _kept(self) -> Any:
        """What of the sessions must be as it was when others have begun."""
        return self._step.state.position.clone(), self._step.steps.clone()

    def _ahead(self, before: deque[Tensor], rows: Tensor, new: list[bool], kept: Any) -> Tensor:
        """What the new sessions in the rows of the mask put out before any input, -1 in the others: [B, K, m]."""
        (others, steps), step, k = kept, self._step, self.layout.clock.k
        frames = [
            torch.where(rows[:, None, None], self._chunk(before, keep=(self.guidance.repeat(rows), others, new)), -1)
            for _ in range(len(before) // k)
        ]
        step.steps.copy_(torch.where(rows[:, None, None], step.steps, steps))
        return torch.cat([self._nothing(), *frames], dim=2)

    def _nothing(self) -> Tensor:
        """No frame [B, K, 0]."""
        return self._step.steps[:, :, :0]

    def _checked_prompt(self, sessions: Tensor, prompt: Tensor) -> Tensor:
        return checked_prompt(self.model, sessions, prompt)

    def _advance(self) -> None:
        """Absorb every group whose input is there."""
        k, first = self.layout.clock.k, self.layout.start // self.layout.clock.k  # the group that ends with step 0
        while len(self._waiting) >= k:
            if self._groups < first:
                self._conductor.group()
                self._before_output(self._group(self._waiting))
                self._conductor.done()
            else:
                frames = self._chunk(self._waiting)
                self._frames.append(frames[:, :, self._early :])
                self._early = max(0, self._early - k)
            self._groups += 1
            played = (self._groups - first) * k
            if self._prompt is not None and played >= self._prompt.shape[2] + self.model.space.levels - 1:
                self._prompt = None  # all levels are past it

    def _before_output(self, x: Tensor) -> None:
        """Absorb a group [G * B, k, E] before the first that puts something out."""
        self._step.heard(x)

    def _chunk(self, waiting: deque[Tensor], keep: tuple[Tensor, Tensor, list[bool]] | None = None) -> Tensor:
        """Absorb the next group and draw its chunk -> frames [B, K, k].

        keep: of the rows where its mask is false, the position is held at these numbers; and which sessions move on.
        """
        step, moving = self._step, None if keep is None else keep[2]

        def hold() -> None:
            if keep is not None:
                step.state.rollback(torch.where(keep[0], step.state.position, keep[1]))

        def settle(frames: Tensor) -> Tensor:
            hold()
            return frames if self._prompt is None else step.overrule(self._prompt)

        self._conductor.group(moving)
        frames = settle(step.heard(self._group(waiting)))
        for number in range(1, self.layout.clock.k):
            self._conductor.alone(number, moving)
            frames = settle(step.alone())
        self._conductor.done(moving)
        step.rewind()
        hold()
        return frames.clone()

    def _group(self, waiting: deque[Tensor]) -> Tensor:
        """The inputs of the next k rows [G * B, k, E]."""
        return torch.cat([waiting.popleft() for _ in range(self.layout.clock.k)], dim=1)

    def _before(self) -> deque[Tensor]:
        """The inputs [G * B, 1, E] of a session's rows before its first: blanks, then the learned ones."""
        blank = self.model.input_padding.new_zeros(self.model.space.latent_dim)
        inputs = [*[blank] * self._step.blanks, *self.model.input_padding]
        return deque(x.repeat(self._step.rows, 1, 1) for x in inputs)


def check_playable(model: Accompanist, sessions: Tensor, labels: Mapping[str, Tensor]) -> None:
    """Raises ValueError for a model in training mode and, with every problem, for labels that it does not take.

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
    """What is said of timelines that a model does not take."""
    return f"the model takes no timeline {' or '.join(names)}; it takes {', '.join(model.timelines) or 'none'}"


def checked_prompt(model: Model, sessions: Tensor, prompt: Tensor) -> Tensor:
    """The codes [B, K, P] that sessions [B] begin with. Raises ValueError for another shape or what is no code."""
    expected = (len(sessions), model.space.codebooks, prompt.shape[2] if prompt.ndim == 3 else "P")
    if prompt.shape != expected:
        raise ValueError(f"prompt has shape {tuple(prompt.shape)}, expected [B, K, P] = {expected}")
    if not bool(((prompt >= 0) & (prompt < model.space.codebook_size)).all()):
        raise ValueError(f"prompt holds what is no code; expected 0..{model.space.codebook_size - 1}")
    return prompt


class AudioSession:
    """The same with sound: audio in, audio out, through the streams of a tokenizer.

    Output sample n accompanies input sample n: where t_f > 0 it comes later, where t_f < 0 it can be had before. How
    much is LatencyBudget.algorithmic.
    """

    def __init__(self, tokenizer: Tokenizer, tokens: TokenSession):
        """Takes over a TokenSession that has not begun. Raises ValueError where its model was made for other codes."""
        if tokenizer.space != tokens.model.space:
            raise ValueError(f"tokenizer {tokenizer.name!r} has {tokenizer.space}, the model {tokens.model.space}")
        self.tokenizer, self.tokens = tokenizer, tokens
        self._encoder, self._decoder = tokenizer.encoder(tokens.batch), tokenizer.decoder(tokens.batch)
        self._heard = self._played = 0  # samples pushed, samples pulled
        self._ready: list[Tensor] = []  # audio [B, n] that was not pulled
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the input has ended."""
        return self._closed

    @torch.inference_mode()
    def push(self, audio: Tensor) -> None:
        """audio [B, n] float in [-1, 1], any n. Raises ValueError for another shape and for a closed session."""
        if self._closed:
            raise ValueError("the session is closed; begin a new one")
        if audio.ndim != 2 or len(audio) != self.tokens.batch:
            raise ValueError(f"audio has shape {tuple(audio.shape)}, expected [B, n] with B = {self.tokens.batch}")
        self._heard += audio.shape[1]
        self.tokens.listen(audio)
        self._listen(self._encoder.push(audio))

    @torch.inference_mode()
    def pull(self, *, ahead: bool = False) -> Tensor:
        """Audio [B, n] that is ready: at most as much as was pushed, or, `ahead`, all of it. Never waits.

        To play live at t_f < 0 pull ahead: the sound is there before its input is.
        """
        if not self._closed:  # afterwards its token session may belong to another
            self._play()
        return self._take(None if ahead else max(0, self._heard - self._played))

    @torch.inference_mode()
    def close(self) -> Tensor:
        """End the input; the rest [B, n] of the audio, so that as many samples came out as went in.

        What the clock or the codec looks ahead for is silence. Nothing is left where more was pulled ahead.
        """
        if self._closed:
            raise ValueError("the session is closed already")
        space, clock = self.tokenizer.space, self.tokens.layout.clock
        frames = space.frames(self._heard + space.delay)
        needed = clock.inputs_needed(frames, space.levels) * space.hop
        silence = torch.zeros(self.tokens.batch, max(0, needed - self._heard))
        begun = -(self._heard + silence.shape[1]) % space.hop  # what the encoder fills its last frame with
        self.tokens.listen(torch.cat([silence, torch.zeros(self.tokens.batch, begun)], dim=1))
        self._listen(self._encoder.push(silence.to(self.tokens.device)))
        self._listen(self._encoder.flush())
        self._closed = True
        self._play()
        self._ready.append(self._decoder.flush())
        rest = self._take(max(0, self._heard - self._played))
        if self._played < self._heard:
            raise ValueError(
                f"{self._heard} samples in, {self._played} out: the streams of tokenizer {self.tokenizer.name!r} come "
                f"later than its lookahead {space.lookahead} and delay {space.delay} say"
            )
        return rest

    def end(self) -> None:
        """Close the session without its rest: another one may use the token session."""
        self._closed = True

    def _listen(self, codes: Tensor) -> None:
        if codes.shape[2]:
            self.tokens.push(self.tokenizer.embed(codes))

    def _play(self) -> None:
        codes = self.tokens.pull()
        if codes.shape[2]:
            self._ready.append(self._decoder.push(codes))

    def _take(self, samples: int | None) -> Tensor:
        """The first `samples` of what is ready, or all of it."""
        ready = torch.cat([torch.zeros(self.tokens.batch, 0, device=self.tokens.device), *self._ready], dim=1)
        out = ready[:, :samples]
        self._ready = [ready[:, out.shape[1] :]]
        self._played += out.shape[1]
        return out
