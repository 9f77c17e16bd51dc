"""Sessions: what comes out is what the whole clip says, once, in time, however the input comes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Constant, Recorder, latents, session_of, small_model, space_with
from torch import Tensor

from accomp.core.clock import Clock, LatencyBudget
from accomp.core.keyed_random import KeyedRandom
from accomp.core.streaming.audio_session import AudioSession
from accomp.core.streaming.session import TokenSession
from accomp.plugins.samplers.top_k import TopK

FRAMES = 16
times = st.integers(-8, 8)
cuts = st.lists(st.integers(0, FRAMES), max_size=6)


def pieces(whole: Tensor, cuts: list[int]) -> list[Tensor]:
    """`whole` [B, n, ...] cut at these places; some pieces may be empty."""
    n = whole.shape[1]
    return [whole[:, a:b] for a, b in pairwise([0, *sorted(min(cut, n) for cut in cuts), n])]


def generate(session: TokenSession, x: Tensor, cuts: list[int]) -> Tensor:
    """All codes of an input that comes in pieces."""
    codes = [session.pull()]
    for piece in pieces(x, cuts):
        session.push(piece)
        codes.append(session.pull())
    return torch.cat(codes, dim=2)


@settings(max_examples=10, deadline=None)
@given(times, st.integers(1, 5), st.sampled_from([2, 4]))
def test_a_session_s_logits_are_the_teacher_forced_ones(t_f, codebooks, kv_heads):
    model = small_model(t_f, space=space_with(codebooks), kv_heads=kv_heads)
    recorder = Recorder(model)
    codes = generate(session_of(model, sampler=recorder), latents(FRAMES), [])
    T = codes.shape[2]
    padded = torch.nn.functional.pad(codes, (0, FRAMES))[:, :, :FRAMES]
    logits = model(latents(FRAMES), model.layout.inputs_of(padded), {"instrument": torch.tensor([0, 1])})
    logits = logits[:, :, model.layout.start :, model.vocabulary.first_code :]
    compared = min(T, logits.shape[2], len(recorder.logits))
    assert compared >= FRAMES - abs(t_f) - codebooks
    for step in range(compared):
        assert torch.allclose(recorder.logits[step], logits[:, :, step], atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(times, st.integers(1, 5), st.integers(1, 4), cuts)
def test_every_frame_comes_out_once_as_soon_as_the_clock_allows(t_f, codebooks, k, cuts):
    model = small_model(t_f, k, space=space_with(codebooks))
    session = session_of(model)
    pushed = pulled = 0
    for piece in [latents(0), *pieces(latents(FRAMES), cuts)]:
        session.push(piece)
        codes = session.pull()
        pushed, pulled = pushed + piece.shape[1], pulled + codes.shape[2]
        assert codes.dtype == torch.int64
        assert ((codes >= 0) & (codes < 10)).all()
        assert pulled == model.clock.frames_complete(pushed, codebooks)
        assert session.pull().shape == (2, codebooks, 0), "nothing comes twice"


@settings(max_examples=10, deadline=None)
@given(times, st.integers(1, 4), cuts)
def test_the_same_tokens_however_the_input_was_cut(t_f, k, cuts):
    model = small_model(t_f, k)
    whole, cut = (generate(session_of(model), latents(FRAMES), c) for c in ([], cuts))
    assert torch.equal(whole, cut)


@pytest.mark.parametrize(("t_f", "k"), [(-3, 1), (0, 1), (4, 1), (-4, 2), (2, 3)])
def test_no_code_depends_on_input_that_its_chunk_does_not_see(t_f, k):
    model = small_model(t_f, k)
    x = latents(FRAMES)
    before = generate(session_of(model), x, [])
    for changed in (0, 2, 5, 9):
        other = x.clone()
        other[:, changed:] *= -1
        after = generate(session_of(model), other, [])
        blind = [s for s in range(before.shape[2]) if model.clock.visible(s // k * k) <= changed]
        assert torch.equal(before[:, 0, blind], after[:, 0, blind])
        assert not torch.equal(before, after), "but what is heard matters"


def test_a_session_is_the_same_alone_and_in_a_batch():
    model = small_model(-2)
    x = latents(FRAMES, batch=3)
    together = generate(session_of(model, [4, 5, 6]), x, [])
    for row, number in enumerate((4, 5, 6)):
        alone = generate(session_of(model, [number]), x[row : row + 1], [7])
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize(("t_f", "k"), [(-3, 1), (2, 1), (0, 4)])
def test_noise_belongs_to_seed_session_level_and_frame(t_f, k):
    model = small_model(t_f, k)
    recorder = Recorder(model)
    generate(session_of(model, [4, 9], seed=7, sampler=recorder), latents(FRAMES), [3])
    for step, key in enumerate(recorder.keys):
        for row, session in enumerate((4, 9)):
            for level in range(3):
                expected = KeyedRandom.seeded(7).fold(session).fold(level).fold(step - level)
                assert key[row, level] == expected.key


def test_seed_session_number_and_label_each_matter():
    model = small_model(labels={"instrument": 5})
    x = latents(FRAMES, batch=1).expand(2, -1, -1)
    codes = generate(session_of(model, [3, 8]), x, [])  # class 3 both
    assert not torch.equal(codes[0], codes[1]), "two sessions of one seed draw their own noise"
    assert torch.equal(codes, generate(session_of(model, [3, 8]), x, []))
    assert not torch.equal(codes, generate(session_of(model, [3, 8], seed=1), x, []))
    greedy = TopK(TopK.Config(temperature=0.0), model.space)
    labelled = generate(session_of(model, [3, 4], sampler=greedy), x, [])
    assert not torch.equal(labelled[0], labelled[1]), "two instruments play differently"


@pytest.mark.parametrize(("t_f", "k"), [(-6, 1), (-1, 1), (0, 1), (3, 1), (-6, 2), (4, 3)])
def test_reset_begins_one_row_anew_and_leaves_the_others(t_f, k):
    model = small_model(t_f, k)
    x, y = latents(12), latents(FRAMES, seed=1)
    session = session_of(model, [0, 1])
    whole = generate(session_of(model, [0, 1]), torch.cat([x, y], dim=1), [])
    old = generate(session, x, [5])
    ahead = session.reset(torch.tensor([False, True]))
    rest = generate(session, y, [1, 9])
    assert torch.equal(torch.cat([old, rest], dim=2)[0], whole[0]), "row 0 went on unchanged"
    assert torch.equal(old[1], whole[1, :, : old.shape[2]]), "row 1 had been itself until then"

    fresh = generate(session_of(model, [0, 1]), y, [])[1]
    assert (ahead[0] == -1).all()
    renewed = torch.cat([ahead[1], rest[1]], dim=1)
    silent = renewed[0] == -1
    assert torch.equal(silent, (renewed == -1).any(dim=0)), "a frame is there on all levels or on none"
    assert torch.equal(renewed[:, ~silent], fresh), "row 1 played what a new session plays, every frame once"
    assert not silent[: ahead.shape[2]].any()


def test_what_is_complete_before_a_reset_belongs_to_the_old_session():
    model = small_model(-2)
    session = session_of(model)
    session.push(latents(10))
    session.reset(torch.tensor([True, True]))
    assert torch.equal(session.pull(), generate(session_of(model), latents(10), []))


def test_a_reset_within_a_chunk_is_refused():
    session = session_of(small_model(0, 4))
    session.push(latents(6))
    with pytest.raises(ValueError, match="between chunks of k = 4 input frames"):
        session.reset(torch.tensor([True, False]))


def test_memory_does_not_grow_and_a_long_session_keeps_going():
    model = small_model(-1)
    session = session_of(model, window=5)
    codes = generate(session, latents(40), list(range(0, 24)))
    assert codes.shape[2] == model.clock.frames_complete(40, 3)
    assert session._step.state.keys[0].data.shape[2] == 5 + 1, "a window and the start row"
    assert not session._waiting
    assert not session._frames


def test_the_start_row_stays_visible_beyond_the_window():
    model, greedy = small_model(), TopK(TopK.Config(temperature=0.0), space_with())
    x = latents(1, batch=1).expand(2, 60, -1)
    recorder = Recorder(model)
    recorder.inner = greedy
    generate(session_of(model, [0, 3], window=4, sampler=recorder), x, [])
    late = torch.stack(recorder.logits[-20:])
    assert not torch.allclose(late[:, 0], late[:, 1], atol=1e-3), "the label is still heard after 60 frames"


def test_sessions_take_no_part_in_training():
    model = small_model(-1)
    session = session_of(model)
    session.push(latents(FRAMES).requires_grad_())
    assert session.pull().is_inference()
    audio = play(AudioSession(Constant(), session_of(model)), torch.rand(2, 50), [9])
    assert not audio.requires_grad
    assert all(weight.grad is None for weight in model.parameters())


def test_reduced_precision_plays_too():
    for model in (small_model(-2).bfloat16(), small_model(-2)):
        with torch.autocast("cpu", torch.bfloat16):
            codes = generate(session_of(model), latents(FRAMES), [])
        assert codes.shape == (2, 3, model.clock.frames_complete(FRAMES, 3))


def test_wrong_calls_say_what_is_wrong():
    model = small_model()
    session = session_of(model)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 5\), expected \[B, m, E\] = \(2, 3, 6\)"):
        session.push(torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"shape \(2, 6\)"):
        session.push(torch.zeros(2, 6))
    with pytest.raises(ValueError, match="training mode"):
        session_of(small_model().train())

    def start(**labels):
        return TokenSession(model, TopK(TopK.Config(), model.space), sessions=torch.arange(2), labels=labels, window=8)

    with pytest.raises(
        ValueError, match=r"(?s)label 'instrument' is missing; give -1 .*unknown label 'mood'; the model"
    ):
        start(mood=torch.zeros(2))
    with pytest.raises(ValueError, match=r"classes 0\.\.4, -1 to withhold it; got \[0, 5\]"):
        start(instrument=torch.tensor([0, 5]))
    with pytest.raises(ValueError, match=r"has shape \(1,\), sessions \(2,\)"):
        start(instrument=torch.tensor([0]))
    start(instrument=torch.tensor([-1, 4]))
    with pytest.raises(ValueError, match="window 0"):
        session_of(model, window=0)
    with pytest.raises(ValueError, match=r"tokenizer 'constant' has TokenSpace.*codebooks=2.*the model.*codebooks=3"):
        AudioSession(Constant(Constant.Config(codebooks=2)), session)
    live = AudioSession(Constant(), session)
    with pytest.raises(ValueError, match=r"audio has shape \(50,\), expected \[B, n\] with B = 2"):
        live.push(torch.zeros(50))
    live.close()
    for call in (lambda: live.push(torch.zeros(2, 3)), live.close):
        with pytest.raises(ValueError, match="closed"):
            call()


codecs = st.builds(Constant.Config, st.just(3), st.integers(0, 20), st.integers(0, 20))


def play(session: AudioSession, audio: Tensor, cuts: list[int], *, ahead: bool = False) -> Tensor:
    """All audio of an input that comes in pieces."""
    out = []
    for piece in pieces(audio, cuts):
        session.push(piece)
        out.append(session.pull(ahead=ahead))
    return torch.cat([*out, session.close()], dim=1)


def sound(samples: int) -> Tensor:
    return torch.rand(2, samples, generator=torch.Generator().manual_seed(0)) * 2 - 1


@settings(max_examples=10, deadline=None)
@given(times, codecs, st.integers(0, 100), st.lists(st.integers(0, 100), max_size=6))
def test_as_much_sound_comes_out_as_goes_in_and_it_is_the_offline_one(t_f, config, samples, cuts):
    codec = Constant(config)
    model = small_model(t_f, space=codec.space)
    audio = sound(samples)
    out = play(AudioSession(codec, session_of(model)), audio, cuts)
    assert out.shape == audio.shape

    # offline: encode with silence to come, let the tokens out, decode, and cut to the input's length
    x = codec.embed(codec.encode(torch.cat([audio, torch.zeros(2, 130)], dim=1)))
    expected = codec.decode(generate(session_of(model), x, []))[:, :samples]
    assert torch.equal(out, expected)


@settings(max_examples=6, deadline=None)
@given(times, codecs)
def test_sound_is_never_ahead_of_the_input_unless_asked_for(t_f, config):
    codec = Constant(config)
    model = small_model(t_f, space=codec.space)
    shy, bold = (AudioSession(codec, session_of(model)) for _ in range(2))
    heard = played = ahead = 0
    for piece in sound(100).split(5, dim=1):
        for session in (shy, bold):
            session.push(piece)
        heard += piece.shape[1]
        played += shy.pull().shape[1]
        ahead += bold.pull(ahead=True).shape[1]
        assert played == min(heard, ahead)


@settings(max_examples=10, deadline=None)
@given(times, codecs)
def test_the_algorithmic_latency_is_the_longest_that_a_sample_is_waited_for(t_f, config):
    codec = Constant(config)
    model = small_model(t_f, space=codec.space)
    session = AudioSession(codec, session_of(model))
    available, lags = session.pull(ahead=True).shape[1], []
    for heard, sample in enumerate(sound(200).split(1, dim=1), start=1):
        session.push(sample)
        new = session.pull(ahead=True).shape[1]
        lags += [heard - n for n in range(available, available + new)]
        available += new
    budget = LatencyBudget(Clock(t_f), codec.space, encode=0, first=0, chunk=0, decode=0)
    assert max(lags) == round(budget.algorithmic * codec.space.sample_rate)


def test_a_codec_that_comes_later_than_it_says_is_told():
    class Late(Constant):
        def decoder(self, batch=1):
            decoder = super().decoder(batch)
            decoder.early, decoder.flush = 40, lambda: torch.zeros(batch, 0)
            return decoder

    codec = Late(Constant.Config(delay=4))
    session = AudioSession(codec, session_of(small_model(space=codec.space)))
    session.push(sound(80))
    with pytest.raises(ValueError, match=r"samples in, .* out: the streams of tokenizer 'constant' come later than"):
        session.close()


@pytest.mark.parametrize(("t_f", "k"), [(-2, 1), (3, 1), (-2, 4)])
def test_a_step_stays_on_its_device_and_never_looks_at_a_value(t_f, k):
    """On the meta device there are no values: looking at one raises, and so does a tensor made elsewhere."""
    model = small_model(t_f, k).to("meta")
    session = session_of(model)
    session.push(latents(FRAMES))
    codes = session.pull()
    assert codes.device.type == "meta"
    assert codes.shape == (2, 3, model.clock.frames_complete(FRAMES, 3))
    if k == 1:
        session.reset(torch.tensor([True, False]))


@settings(max_examples=8, deadline=None)
@given(times, st.integers(1, 3), st.integers(1, 4), st.integers(0, FRAMES), cuts)
def test_a_prompt_is_played_and_what_follows_is_as_if_the_model_had_played_it(t_f, codebooks, k, prompted, cuts):
    """Given what it plays anyway, it plays the same; given something else, that comes out, however the input is cut."""
    model = small_model(t_f, k, space=space_with(codebooks))
    free = generate(session_of(model), latents(FRAMES), [])
    prompted = min(prompted, free.shape[2])
    same = generate(session_of(model, prompt=free[:, :, :prompted]), latents(FRAMES), cuts)
    assert torch.equal(same, free)
    other = (free[:, :, :prompted] + 1) % model.space.codebook_size
    changed = generate(session_of(model, prompt=other), latents(FRAMES), cuts)
    assert torch.equal(changed[:, :, :prompted], other)
    assert torch.equal(changed, generate(session_of(model, prompt=other), latents(FRAMES), []))


def test_what_is_no_prompt_is_refused():
    model = small_model(0)
    with pytest.raises(ValueError, match=r"prompt has shape \(2, 5, 4\), expected \[B, K, P\]"):
        session_of(model, prompt=torch.zeros(2, 5, 4, dtype=torch.int64))
    levels = model.space.codebooks
    with pytest.raises(ValueError, match="no codes; expected"):
        session_of(model, prompt=torch.full((2, levels, 4), model.space.codebook_size))
