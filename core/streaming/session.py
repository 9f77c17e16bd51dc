"""Playing along: input goes in as it comes, output comes out as soon as the clock allows.

Offline generation is the same session, pushed once: every row of the sequence is a computation of its own, and random
numbers belong to a frame, so it does not matter how the input was cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor

from accomp.core.guidance import UNGUIDED, Guidance
from accomp.core.interfaces import CausalSampler, Tokenizer
from accomp.core.model import Model
from accomp.core.streaming.layout import LABELS
from accomp.core.streaming.noise import Noise


class TokenSession:
    """B sessions of one model, in step: input latents in, output codes out. The model keeps nothing of them.

    The chunk that starts at step s is drawn once the row of step s is absorbed: its first step from that row, each
    other from a row without input; these are then forgotten, to be absorbed again together with their input.
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
    ):
        """sessions [B] int64 tell these sessions' randomness from that of others with the same `seed`.

        labels: name -> classes [B] int64, -1 where withheld. window: how many frames back the model looks, at most the
        length of its training clips. guidance: its G variants of each session run side by side. prompt: codes
        [B, K, P] that the first P frames of every session are instead of what is drawn. Raises ValueError for a model
        in training mode or without a clock, and for labels, classes, codes or shapes that do not fit it.
        """
        check_playable(model, sessions, labels)
        self.model, self.sampler, self.layout, self.guidance = model, sampler, model.layout, guidance
        self.batch = len(sessions)
        self.device, self._dtype = model.table.weight.device, model.table.weight.dtype
        with torch.inference_mode():
            here = {name: classes.to(self.device) for name, classes in labels.items()}
            self._start = model.start(guidance.spread_labels(here))
            self._noise = Noise.of_sessions(seed, sessions.to(self.device), model.space.codebooks)
            pinned = range(self.layout.start, self.layout.start + 1)
            rows = self.batch * len(guidance.variants)
            self._state = model.backbone.new_state(rows, window, chunk=self.layout.clock.k, pinned=pinned)
            self._nothing = torch.full_like(self._noise.key, LABELS)
            self._prompt = None if prompt is None else checked_prompt(model, sessions, prompt).to(self.device)

        self._queue: deque[Tensor] = deque()  # input frames [B, 1, E] that no row has absorbed
        self._rows = 0  # rows absorbed since the beginning
        self._chunk = self._blank_chunk()  # what the last k steps put out, for the rows to come to hold
        self._steps: list[Tensor] = []  # what steps put out [B, K], from the first frame on that is not complete
        self._frames: list[Tensor] = []  # complete frames [B, K, m] that were not pulled

    @torch.inference_mode()
    def push(self, x: Tensor) -> None:
        """x [B, m, E]: the next m input frames. Nothing is computed yet. Raises ValueError for another shape."""
        expected = (self.batch, x.shape[1] if x.ndim > 1 else "m", self.model.space.latent_dim)
        if x.shape != expected:
            raise ValueError(f"input latents have shape {tuple(x.shape)}, expected [B, m, E] = {expected}")
        frames = x.to(self.device, self._dtype).unbind(1)
        self._queue.extend(frame[:, None].clone(memory_format=torch.contiguous_format) for frame in frames)

    @torch.inference_mode()
    def pull(self) -> Tensor:
        """Codes [B, K, m] of the frames that became complete; m = 0 where there is none. Never waits for input.

        -1 only after a reset, while the row's new session has no frame yet.
        """
        self._advance()
        frames, self._frames = self._frames, []
        return torch.cat([self._nothing[..., None][..., :0], *frames], dim=2)

    @torch.inference_mode()
    def reset(self, rows: Tensor) -> Tensor:
        """End the sessions of the rows where the bool mask [B] is true and begin new ones; the others go on unchanged.

        What was pushed before belongs to the old sessions. Returns codes [B, K, m]: the frames that the new sessions
        put out ahead of any input, -1 in the other rows; their next ones come with those of the others. Raises
        ValueError in the middle of a chunk.
        """
        self._advance()
        clock, rows = self.layout.clock, rows.to(self.device)
        if (self._rows - clock.input_padding) % clock.k:
            raise ValueError(f"a reset must come between chunks of k = {clock.k} input frames")
        anew = self.guidance.repeat(rows)
        self._state.reset(anew)
        chunk, steps = self._blank_chunk(), []
        for row in range(clock.input_padding):
            others = self._state.position.clone()
            steps += self._absorb(self._padding(row), row - self.layout.start, chunk)
            self._state.rollback(torch.where(anew, self._state.position, others))

        def renewed(old: Tensor, new: Tensor) -> Tensor:
            return torch.where(rows[:, None], new, old)

        self._chunk.extend([renewed(*pair) for pair in zip(self._chunk, chunk, strict=True)])
        ahead = self._take_frames(steps)
        missing = len(self._steps) - len(steps)
        steps = [self._nothing] * missing + steps[max(0, -missing) :]
        self._steps = [renewed(*pair) for pair in zip(self._steps, steps, strict=True)]
        return torch.where(rows[:, None, None], ahead, -1)

    def _advance(self) -> None:
        """Absorb every row whose input is there."""
        padding = self.layout.clock.input_padding
        while self._rows < padding or self._queue:
            ahead = self._rows < padding
            x = self._padding(self._rows) if ahead else self.guidance.spread_context(self._queue.popleft())
            self._steps += self._absorb(x, self._rows - self.layout.start, self._chunk)
            self._rows += 1
        self._frames.append(self._take_frames(self._steps))

    def _absorb(self, x: Tensor, step: int, chunk: deque[Tensor]) -> list[Tensor]:
        """Absorb the row of a step with its input x [G * B, 1, E]; what the chunk starting there puts out, if any.

        `chunk` holds what the last k steps put out, and is brought up to date.
        """
        k = self.layout.clock.k
        logits = self._row(x, chunk[(step - 1) % k - k])
        if step < 0 or step % k:
            return []
        chunk.append(self._pick(logits))
        if k > 1:
            here = self._state.position.clone()
            for _ in range(k - 1):
                chunk.append(self._pick(self._row(None, chunk[-1])))
            self._state.rollback(here)
        return list(chunk)

    def _row(self, x: Tensor | None, before: Tensor) -> Tensor:
        """One row of the sequence, x [G * B, 1, E] or none, after `before` [B, K] was put out -> logits [B, K, C]."""
        step = self._state.position - self.layout.start
        held = self.layout.held(step[:, None], self.guidance.repeat(before))
        logits = self.model.rows(x, held[..., None], self._start, self._state)
        return self.guidance.combine(logits[:, :, 0, self.model.vocabulary.first_code :])

    def _pick(self, logits: Tensor) -> Tensor:
        """What the step of the last absorbed row puts out [B, K]: codes, LABELS where level q has no frame yet."""
        frame = self.layout.frame(self._state.position[: self.batch] - 1 - self.layout.start)
        picked = self.sampler.pick(logits, self._noise.fold(frame))
        if self._prompt is not None and self._prompt.shape[2]:
            given = self._prompt.gather(2, frame.clamp(0, self._prompt.shape[2] - 1)[..., None])[..., 0]
            picked = torch.where(frame < self._prompt.shape[2], given, picked)
        return torch.where(frame < 0, LABELS, picked)

    def _take_frames(self, steps: list[Tensor]) -> Tensor:
        """Remove from `steps` what is complete: frames [B, K, m]. The last K - 1 steps stay."""
        frames = max(0, len(steps) - self.layout.codebooks + 1)
        complete = self.layout.align(torch.stack(steps, dim=2)) if frames else self._nothing[..., None][..., :0]
        del steps[:frames]
        return complete

    def _padding(self, row: int) -> Tensor:
        """The learned input frame of a row before the first input, [G * B, 1, E]."""
        return self.model.input_padding[row].repeat(len(self._state.position), 1, 1)

    def _blank_chunk(self) -> deque[Tensor]:
        return deque([self._nothing] * self.layout.clock.k, maxlen=self.layout.clock.k)


def check_playable(model: Model, sessions: Tensor, labels: Mapping[str, Tensor]) -> None:
    """Raises ValueError for a model in training mode and, with every problem, for labels that it does not take.

    sessions [B]; labels: name -> classes [B] int64, -1 where withheld.
    """
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() first")
    classes = model.vocabulary.classes
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

    @torch.inference_mode()
    def push(self, audio: Tensor) -> None:
        """audio [B, n] float in [-1, 1], any n. Raises ValueError for another shape and for a closed session."""
        if self._closed:
            raise ValueError("the session is closed; begin a new one")
        if audio.ndim != 2 or len(audio) != self.tokens.batch:
            raise ValueError(f"audio has shape {tuple(audio.shape)}, expected [B, n] with B = {self.tokens.batch}")
        self._heard += audio.shape[1]
        self._listen(self._encoder.push(audio))

    @torch.inference_mode()
    def pull(self, *, ahead: bool = False) -> Tensor:
        """Audio [B, n] that is ready: at most as much as was pushed, or, `ahead`, all of it. Never waits.

        To play live at t_f < 0 pull ahead: the sound is there before its input is.
        """
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
        needed = clock.inputs_needed(frames, space.codebooks) * space.hop
        silence = torch.zeros(self.tokens.batch, max(0, needed - self._heard))
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
