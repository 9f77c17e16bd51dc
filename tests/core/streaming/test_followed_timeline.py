"""Timelines that are followed in the input: told of what was heard by then, however the input comes, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import session_of, small_model, space_with

from accomp.core.clock import Clock
from accomp.core.music.annotations import NOTHING, Annotations, Beats
from accomp.core.music.timelines import metronome
from accomp.core.streaming.audio_session import AudioSession
from accomp.core.streaming.followed_timeline import CHUNKS_KEPT, FollowedTimeline

SPACE = space_with(2)  # 8 samples a frame, 50 frames a second
FRAMES = 24


class Loudest:
    """Beats as long as the loudest sample so far says, from where that was; a sound that is not loud tells nothing."""

    follows, fingerprint, provenance = "metronome", "loudest", "a test"

    def __init__(self):
        self.begin()

    def begin(self):
        self.samples, self.best, self.at = 0, 0.3, None

    def push(self, audio):
        for sample in audio:
            if abs(sample) > self.best:
                self.best, self.at = float(abs(sample)), self.samples
            self.samples += 1

    def known(self):
        if self.at is None:
            return NOTHING
        at = self.at / SPACE.sample_rate
        return Annotations(Beats((at, at + self.best)))


def followed(t_f: int = 0, k: int = 1, space=SPACE) -> FollowedTimeline:
    return FollowedTimeline("metronome", Loudest(), Clock(t_f, k), space)


def sound(frames: int = FRAMES, rows: int = 1, seed: int = 0) -> torch.Tensor:
    """[rows, samples], quiet at first."""
    noise = torch.rand(rows, frames * SPACE.hop, generator=torch.Generator().manual_seed(seed))
    return noise * torch.linspace(0, 1, frames * SPACE.hop)


class Plain:
    """A codec of the space that hears each frame's first sample, and is heard as silence."""

    name, fingerprint, space = "plain", "plain", SPACE

    def embed(self, codes):
        return codes.float().mean(1, keepdim=True).mT.repeat(1, 1, SPACE.latent_dim)

    def encoder(self, batch=1):
        return Frames(lambda held: (held[:, None, ::8] * 9).long().repeat(1, 2, 1).clamp(0, 9), SPACE.hop, batch)

    def decoder(self, batch=1):
        return Frames(lambda codes: torch.zeros(len(codes), codes.shape[2] * SPACE.hop), 1, batch)


class Frames:
    """A stream of whole frames of `size` samples."""

    def __init__(self, of, size, batch):
        self._of, self._size, self._held = of, size, torch.zeros(batch, 0)

    def push(self, chunk):
        if self._size == 1:
            return self._of(chunk)
        held = torch.cat([self._held, chunk], dim=1)
        whole = held.shape[1] // self._size * self._size
        self._held = held[:, whole:]
        return self._of(held[:, :whole])

    def flush(self):
        if self._size == 1:
            return torch.zeros(len(self._held), 0)
        missing = -self._held.shape[1] % self._size
        return self.push(torch.zeros(len(self._held), missing))


@pytest.mark.parametrize(("t_f", "k"), [(-3, 1), (0, 1), (2, 1), (-4, 2), (1, 4)])
def test_a_frame_is_told_what_was_heard_in_the_input_that_its_chunk_is_drawn_from(t_f, k):
    source, audio = followed(t_f, k), sound()[0].numpy()
    source.begin()
    source.listen(audio)
    follower = Loudest()
    for frame in range(FRAMES - max(0, t_f)):
        follower.begin()
        follower.push(audio[: max(0, frame // k * k + t_f) * SPACE.hop])
        told = metronome(follower.known(), np.array([frame / SPACE.frame_rate]))
        np.testing.assert_array_equal(source(frame, 1), told)
    assert told.any()


@settings(max_examples=15, deadline=None)
@given(st.integers(-4, 3), st.sampled_from([1, 2, 3]), st.lists(st.integers(0, FRAMES * SPACE.hop), max_size=5))
def test_however_the_input_is_cut_the_same_is_told_and_played(t_f, k, cuts):
    model = small_model(t_f, k, space=SPACE, timelines=("metronome",))
    audio, codes, told = sound(rows=2), [], []
    for where in ([], sorted(cuts)):
        asked: list[np.ndarray] = []

        class Noted(FollowedTimeline):
            def __call__(self, first, frames, asked=asked):
                asked.append(super().__call__(first, frames))
                return asked[-1]

        sources = [{"metronome": Noted("metronome", Loudest(), Clock(t_f, k), SPACE)} for _ in range(2)]
        tokens = session_of(model, timelines=sources)
        kept, pull = [], tokens.pull
        tokens.pull = lambda kept=kept, pull=pull: kept.append(pull()) or kept[-1]
        session = AudioSession(Plain(), tokens)
        for piece in torch.tensor_split(audio, where, dim=1):
            session.push(piece)
            session.pull()
        session.close()
        codes.append(torch.cat(kept, dim=2))
        told.append(np.concatenate(asked))
    assert torch.equal(*codes)
    np.testing.assert_array_equal(*(np.sort(one, axis=0) for one in told))
    assert told[0].any()


def test_each_row_follows_its_own_input_and_a_new_session_its_own_from_its_beginning():
    model = small_model(-2, space=SPACE, timelines=("metronome",))
    audio, clock = sound(2 * FRAMES, rows=2, seed=3), Clock(-2)
    sources = [FollowedTimeline("metronome", Loudest(), clock, SPACE) for _ in range(3)]
    tokens = session_of(model, timelines=[{"metronome": source} for source in sources[:2]])
    session = AudioSession(Plain(), tokens)
    half = FRAMES * SPACE.hop
    session.push(audio[:, :half])
    session.pull()
    assert sources[0].known(FRAMES + 1) != sources[1].known(FRAMES + 1)
    tokens.reset(
        torch.tensor([False, True]),
        sessions=torch.tensor([0, 1]),
        labels={"instrument": torch.tensor([0, 1])},
        timelines=[{}, {"metronome": sources[2]}],
    )
    session.push(audio[:, half:])
    session.pull()
    for row, source, begun in ((0, sources[0], 0), (1, sources[2], half)):
        alone = Loudest()
        alone.push(audio[row, begun:].numpy())
        last = (audio.shape[1] - begun) // SPACE.hop + 2  # the last frame drawn has heard all of it
        assert source.known(last) == alone.known()


def test_one_that_comes_while_playing_counts_from_the_session_s_beginning():
    model = small_model(-1, space=SPACE, timelines=("metronome",))
    tokens = session_of(model, 1)
    session = AudioSession(Plain(), tokens)
    audio = sound(2 * FRAMES)
    half = FRAMES * SPACE.hop
    session.push(audio[:, :half])
    session.pull()
    source = followed(-1)
    tokens.set_timeline(0, "metronome", source)
    session.push(audio[:, half:])
    session.pull()
    alone = Loudest()
    alone.push(audio[0, half:].numpy())
    later = tuple(time + half / SPACE.sample_rate for time in alone.known().beats.times)
    assert source.known(2 * FRAMES + 1).beats.times == pytest.approx(later)


def test_the_same_again_follows_from_the_start_and_one_that_comes_later_from_the_new_session_s():
    model = small_model(-1, space=SPACE, timelines=("metronome",))
    audio, last, source = sound(), FRAMES + 1, followed(-1)
    tokens = session_of(model, 1, timelines=[{"metronome": source}])
    session = AudioSession(Plain(), tokens)
    session.push(1 - audio)
    session.pull()
    before = source.known(last)
    tokens.reset(torch.tensor([True]))
    session.push(audio)
    session.pull()
    alone = Loudest()
    alone.push(audio[0].numpy())
    assert source.known(last) == alone.known() != before
    later = followed(-1)
    tokens.set_timeline(0, "metronome", later)
    session.push(audio)
    session.pull()
    assert later.known(2 * FRAMES + 1) == alone.known().later(FRAMES * SPACE.hop / SPACE.sample_rate)


def test_hours_take_no_more_room_and_stay_in_phase():
    source = followed(-2)
    source.begin()
    hit = np.zeros(SPACE.hop, np.float32)
    hit[0] = 0.5
    source.listen(hit)
    source._feed(SPACE.hop, 0)
    hours = 8 * 3600
    source._samples = source._samples + hours * SPACE.sample_rate - SPACE.hop  # as if silence had been heard
    frame = hours * 50 + 2
    values = source(frame, 1)
    np.testing.assert_allclose(values, metronome(Annotations(Beats((0.0, 0.5))), np.array([2 / 50])), atol=1e-5)
    for step in range(frame + 1, frame + 50):
        source.listen(np.zeros(SPACE.hop, np.float32))
        source(step, 1)
    assert len(source._known) <= CHUNKS_KEPT
    assert not source._pending


def test_what_was_found_is_told_at_the_end():
    source = followed()
    source.begin()
    assert source.summary().since is None
    source.listen(sound()[0].numpy())
    source(0, FRAMES)
    listened = source.summary()
    assert 0 < listened.since < listened.seconds
    assert listened.last == source.known(FRAMES - 1)


def test_input_that_nobody_gave_and_frames_of_long_ago_are_named():
    source = followed()
    source.begin()
    source.listen(np.zeros(5 * SPACE.hop, np.float32))
    with pytest.raises(ValueError, match="40 samples of input are there, frame 6 is played after 48"):
        source(0, 7)
    source.begin()
    source.listen(np.zeros(50 * SPACE.hop, np.float32))
    source(0, 40)
    with pytest.raises(ValueError, match="frame 3 is too long ago"):
        source(3, 1)
