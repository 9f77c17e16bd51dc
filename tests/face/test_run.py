"""A run as a notebook uses it: one recording, live sessions, batches, and mistakes that are named."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny
import torch
from fakes import RATE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import accomp
import accomp.run
from accomp.core.errors import UserError
from accomp.core.runs.player import load_player
from accomp.core.runs.run import live_session, play, pooled_tokens


def streamed(run: accomp.Run, sound: np.ndarray, sizes: list[int], **how: Any) -> np.ndarray:
    """What a session gives for the sound in blocks of these sizes, and the rest in one."""
    with run.session(**how) as session:
        out, place = [], 0
        for size in [*sizes, len(sound)]:
            out.append(session.push(sound[place : place + size]))
            place += size
        return np.concatenate([*out, session.finish()])


def test_the_import_is_light():
    code = "import sys, accomp; accomp.__version__; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_playing_uncompiled_does_not_wait_for_the_compiler_to_be_imported():
    """It would take a third of the time until the first note."""
    code = (
        "import sys, accomp, numpy\n"
        "with accomp.load_run('pretrained').session(metronome='off', chart='off') as session:\n"
        "    session.push(numpy.zeros(3200, numpy.float32))\n"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'lightning', 'madmom') if name in sys.modules])\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"


def test_every_public_name_is_there():
    for name in accomp.__all__:
        assert getattr(accomp, name) is not None
    assert set(accomp.__all__) <= set(dir(accomp))
    with pytest.raises(AttributeError, match="loadrun"):
        accomp.loadrun  # noqa: B018


def test_a_run_says_what_it_is(run, made):
    assert run.clock is not None
    assert (run.clock.t_f, run.clock.k) == (2, 1)
    assert run.spec == made.spec()
    assert run.labels["instrument"][4] == "Bass"
    assert not run.model.training
    assert run.sample_rate == RATE
    assert "\n" not in repr(run)
    assert len(repr(run)) < 250


def test_the_latency_is_that_of_clock_and_codec(run):
    space = run.tokenizer.space
    samples = (space.levels - 1 + 2) * space.hop + space.lookahead + space.delay
    assert run.latency == pytest.approx(samples / RATE)


def test_a_stem_is_what_the_command_writes(run, made, sound, tmp_path, monkeypatch):
    from accomp.core.cli.main import main

    monkeypatch.setattr("accomp.core.cli.main.Registry", tiny.registry)
    soundfile.write(tmp_path / "in.wav", sound, RATE, subtype="FLOAT")
    words = ["stream", str(made.run), "--input", str(tmp_path / "in.wav"), "--output", str(tmp_path / "out.wav")]
    assert main([*words, "--instrument", "Bass", "--seed", "3"]) == 0
    take = run.accompany(tmp_path / "in.wav", instrument="Bass", seed=3)
    take.save(tmp_path / "take.wav")
    take.mix().save(tmp_path / "mix.wav")
    assert (tmp_path / "take.wav").read_bytes() == (tmp_path / "out.wav").read_bytes()
    assert (tmp_path / "mix.wav").read_bytes() == (tmp_path / "out-mix.wav").read_bytes()
    again = run.accompany(sound, sample_rate=RATE, instrument="Bass", seed=3, block=1000)
    assert np.allclose(again.audio, take.audio, atol=1e-6)
    assert len(take.audio) == len(sound)
    assert take.codes.shape[0] == run.tokenizer.space.codebooks


def test_samples_of_another_rate_are_resampled(run, sound):
    take = run.accompany(np.repeat(sound, 2), sample_rate=2 * RATE)
    assert abs(len(take.audio) - len(sound)) <= 1
    assert take.sample_rate == RATE


@given(sizes=st.lists(st.integers(0, 3000), max_size=8))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_session_plays_the_same_however_its_input_is_cut(run, sound, sizes):
    whole = run.accompany(sound, sample_rate=RATE, instrument="Bass", seed=1)
    assert np.allclose(streamed(run, sound, sizes, instrument="Bass", seed=1), whole.audio, atol=1e-6)


def test_sessions_share_nothing(run, sound):
    alone = [streamed(run, sound, [500] * 20, instrument="Bass", seed=seed) for seed in (1, 2)]
    assert not np.allclose(*alone)
    with run.session(instrument="Bass", seed=1) as one, run.session(instrument="Bass", seed=2) as other:
        outs: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for place in range(0, len(sound), 500):
            for out, session in zip(outs, (one, other), strict=True):
                out.append(session.push(sound[place : place + 500]))
        for out, session in zip(outs, (one, other), strict=True):
            out.append(session.finish())
    for out, expected in zip(outs, alone, strict=True):
        assert np.allclose(np.concatenate(out), expected, atol=1e-6)


def test_a_recording_leaves_a_session_alone(run, sound):
    expected = streamed(run, sound, [500] * 20, seed=1)
    with run.session(seed=1) as session:
        first = session.push(sound[:4000])
        run.accompany(sound, sample_rate=RATE, seed=9)
        rest = session.push(sound[4000:])
        assert np.allclose(np.concatenate([first, rest, session.finish()]), expected, atol=1e-6)


def test_an_ended_session_gives_its_state_to_the_next_and_plays_no_more(run, sound):
    with run.session(seed=1) as session:
        session.push(sound)
    count = len(run.player.pool)
    with run.session(seed=2):
        with pytest.raises(UserError, match="has ended"):
            session.push(sound)
        assert len(session.finish()) == 0
    assert len(run.player.pool) == count


def test_reset_begins_anew(run, sound):
    with run.session(seed=1) as session:
        first = session.push(sound)
        session.reset()
        assert np.allclose(session.push(sound), first, atol=1e-6)
        assert session.stats.pushes == 1
        assert session.stats.seconds_in == pytest.approx(len(sound) / RATE)
        assert session.stats.real_time_factor > 0


def test_a_long_session_keeps_the_times_of_its_last_pushes_only(run, sound, monkeypatch):
    monkeypatch.setattr("accomp.session.RECENT", 3)
    with run.session(seed=1) as session:
        for _ in range(5):
            session.push(sound[:640])
        stats = session.stats
        assert len(session._times) == 3
        assert stats.pushes == 5
        assert stats.busy > sum(session._times)
        assert stats.max_ms >= 1000 * max(session._times) >= stats.median_ms > 0


def test_a_row_comes_back_as_a_row(run, sound):
    with run.session(seed=1) as session:
        assert session.push(sound[None]).shape[0] == 1


def test_another_temperature_plays_something_else(run, sound):
    takes = [run.accompany(sound, sample_rate=RATE, temperature=t).codes for t in (None, 1.0, 0.0, 0.0)]
    assert np.array_equal(takes[0], takes[1]), "the sampler's own is 1"
    assert np.array_equal(takes[2], takes[3])
    assert not np.array_equal(takes[0], takes[2])


def test_names_of_classes_become_their_numbers(run, sound, monkeypatch):
    seen = []
    real = accomp.run.play
    monkeypatch.setattr(
        "accomp.run.play", lambda *a, labels, **more: seen.append(labels) or real(*a, labels=labels, **more)
    )
    for name in ("Bass", "bass", "Piano", None):
        run.accompany(sound[:2000], sample_rate=RATE, instrument=name)
    assert seen == [{"instrument": 4}, {"instrument": 4}, {"instrument": 0}, {}]


def test_a_batch_plays_what_single_sessions_play(run, sound):
    """Where the decoder has a past: it looks back for less than a frame."""
    batch = run.batch(3)
    slots = {batch.join(instrument=name, seed=seed): (name, seed) for name, seed in (("Bass", 3), ("Piano", 4))}
    outs: dict[int, list[np.ndarray]] = {slot: [] for slot in slots}
    first: dict[int, int] = {}
    for place in range(0, len(sound) - batch.block, batch.block):
        given = batch.step(dict.fromkeys(slots, sound[place : place + batch.block]))
        for slot, out in given.items():
            first.setdefault(slot, (batch.place(slot) or 0) - batch.block)
            outs[slot].append(out)
    for slot, (name, seed) in slots.items():
        alone = run.accompany(sound, sample_rate=RATE, instrument=name, seed=seed).audio
        begin, out = first[slot], np.concatenate(outs[slot])
        skip = max(0, -begin) + batch.block
        assert np.allclose(out[skip:], alone[begin + skip : begin + len(out)], atol=1e-4)
    batch.leave(next(iter(slots)))
    assert len(batch.playing) == 1


# ------------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"instrument": "Bas"}, "did you mean 'Bass'"),
        ({"instrument": 4}, "expected the name of a class, got 4"),
        ({"instrumnt": "Bass"}, "no condition 'instrumnt'; did you mean 'instrument'"),
        ({"genre": 3}, "no condition 'genre'"),
        ({"temprature": 0.5}, "did you mean 'temperature'"),
        ({"temperature": -1.0}, "expected 0 or more"),
        ({"temperature": "hot"}, "expected a number"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"metronome": "fast"}, "takes no metronome.* @ metronome='fast'"),
    ],
)
def test_what_is_not_known_is_named(run, how, message):
    with pytest.raises(UserError, match=message) as refused:
        run.session(**how)
    assert "--" not in str(refused.value), "an option of the command line"
    with pytest.raises(UserError, match=message):
        run.accompany(np.zeros(1000, np.float32), sample_rate=RATE, **how)
    with pytest.raises(UserError, match=message):
        run.batch(1).join(**how)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros((2, 100), np.float32), RATE, r"shape \(2, 100\); expected \[N\]"),
        (np.zeros(100, np.int16), RATE, "int16"),
        (np.array([0.0, np.nan]), RATE, "NaN"),
        (["a", "b"], RATE, "expected float32"),
        (np.zeros(100, np.float32), None, "sample_rate="),
        (np.zeros(100, np.float32), 0, "sample_rate=0"),
        (np.zeros(100, np.float32), 44.1, "sample_rate=44.1"),
        (np.zeros(0, np.float32), RATE, "no samples"),
        ("song.wav", RATE, "a file has one of its own"),
        ("there_is_no_such.wav", None, "there_is_no_such.wav"),
    ],
)
def test_sound_that_cannot_be_used_is_refused(run, audio, rate, message):
    with pytest.raises(UserError, match=message):
        run.accompany(audio, sample_rate=rate)


def test_blocks_of_another_shape_are_refused(run):
    with run.session() as session:
        for block in (np.zeros((2, 100), np.float32), np.zeros(10, np.int32), np.zeros((1, 1, 9), np.float32)):
            with pytest.raises(UserError, match="samples"):
                session.push(block)
        assert session.push(torch.zeros(100)).dtype == np.float32
    batch = run.batch(1)
    slot = batch.join()
    with pytest.raises(UserError, match=f"a step takes {batch.block}"):
        batch.step({slot: np.zeros(3, np.float32)})
    with pytest.raises(UserError, match="no session plays in slot 7"):
        batch.leave(7)
    with pytest.raises(UserError, match="all 1 slots are taken"):
        batch.join()


def test_an_unknown_run_names_the_nearest(parts):
    with pytest.raises(UserError, match="did you mean 'pretrained'"):
        accomp.load_run("pretraind")


def test_an_unknown_precision_or_device_is_named(made):
    with pytest.raises(UserError, match=r"int8.* @ argument weights"):
        accomp.load_run(made.run, weights="int9")
    with pytest.raises(UserError, match="got device='gpx'"):
        accomp.load_run(made.run, device="gpx")


# ------------------------------------------------------------------------------------------------ faults, at their root


def test_core_refuses_labels_it_used_to_drop(made):
    player = load_player(made.run, made.registry, torch.device("cpu"))
    how: dict[str, Any] = {"seed": 0, "session": 0}
    with pytest.raises(UserError, match="no label 'genre'"):
        live_session(player, labels={"genre": 3}, **how)
    with pytest.raises(UserError, match="expected the number of a class, 0 to 17"):
        live_session(player, labels={"instrument": "Bass"}, **how)  # type: ignore[dict-item]
    with pytest.raises(UserError, match="label 'instrument' is 18"):
        play(player, np.zeros(100, np.float32), [100], labels={"instrument": 18}, **how)


def test_a_pool_hands_out_no_state_in_use(made):
    player = load_player(made.run, made.registry, torch.device("cpu"))
    how: dict[str, Any] = {"labels": {}, "seed": 0, "session": 0}
    one, other = live_session(player, **how), live_session(player, **how)
    assert one.tokens is not other.tokens
    one.close()
    assert pooled_tokens(player, **how).tokens is one.tokens


# ------------------------------------------------------------------------------------------------ notebooks


def test_a_take_shows_itself_in_a_notebook(run, sound):
    pytest.importorskip("IPython")
    take = run.accompany(sound, sample_rate=RATE, instrument="Bass")
    assert "<audio" in take.play()._repr_html_()
    assert "<audio" in take._repr_html_()
    assert "<audio" in take.mix()._repr_html_()
    assert repr(take).startswith("<Bass, ")


def test_without_ipython_it_says_what_to_install(run, sound, monkeypatch):
    real = builtins.__import__

    def lacking(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "IPython":
            raise ModuleNotFoundError(name=name)
        return real(name, *rest, **more)

    take = run.accompany(sound, sample_rate=RATE)
    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(UserError, match="pip install ipython"):
        take.play()
    assert take._repr_html_() is None


def test_a_name_that_is_no_sound_is_refused(run, sound, tmp_path):
    with pytest.raises(UserError, match=r"\.wav or \.flac"):
        run.accompany(sound, sample_rate=RATE).save(tmp_path / "a.mp3")
