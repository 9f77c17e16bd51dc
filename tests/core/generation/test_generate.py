"""Takes: complete, repeatable, resumed, never stale; what fails is named and stops nothing."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from fakes import EnergyTokenizer

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import within_full_scale
from accomp.core.clock import Clock
from accomp.core.errors import CheckpointError, DataError
from accomp.core.generation import play_twice
from accomp.core.generation.generate import generate
from accomp.core.generation.latency import as_records, budget_of, part_times, step_times
from accomp.core.music.instruments import CLASSES
from accomp.core.runs.player import Player, load_player
from accomp.core.runs.run import Played, play
from accomp.core.types import TokenSpace

RATE = 32000


@pytest.fixture
def run(trained: tiny.Trained, tmp_path: Path) -> tiny.Trained:
    """A trained run of this test's own."""
    return trained.copy(tmp_path / "run")


def made(run: Path) -> dict[str, Any]:
    return json.loads((run / "takes.json").read_text())


def take(run: Path, id: str) -> dict[str, Any]:
    return json.loads((run / "takes" / id / "take.json").read_text())


def test_takes_are_complete_and_told(generated: tiny.Trained) -> None:
    found = made(generated.run)
    assert len(found["takes"]) == 3
    assert not found["failed"]
    assert len({take(generated.run, id)["track"] for id in found["takes"]}) == 3
    for id in found["takes"]:
        record = take(generated.run, id)
        assert record["streamed_equals_offline"] is True
        assert record["instrument_name"] == CLASSES[record["instrument"]]
        assert record["licence"] == "CC0"
        assert len(record["timings"]["step_ms"]) == 50
        assert record["checkpoint"] == found["checkpoint"]
        sounds = {
            n: audio.read(generated.run / "takes" / id / f"{n}.wav", RATE) for n in ("context", "stem", "mix", "true")
        }
        assert {len(sound) for sound in sounds.values()} == {RATE}
        song = generated.corpus / "test" / record["track"]
        whole = {path.stem.partition("-")[0]: audio.read(path, RATE) for path in song.iterdir()}
        part = slice(round(record["start"] * RATE), round((record["start"] + 1) * RATE))
        np.testing.assert_allclose(sounds["true"], whole[record["stem"]][part], atol=1e-4)
        others = np.mean([whole[name][part] for name in record["context_stems"]], axis=0)
        np.testing.assert_allclose(sounds["context"], others, atol=1e-4)
        assert {record["stem"], *record["context_stems"]} == set(whole)
        assert np.abs(sounds["mix"]).max() <= 1
    budget = {line["name"]: line["ms"] for line in found["budget"]["items"]}
    assert budget["delay between codebooks (1 frames)"] == pytest.approx(20)
    assert budget["left by t_f = 2 frames"] == pytest.approx(-40)


def test_the_stem_is_what_one_push_gives(generated: tiny.Trained) -> None:
    """Offline, by the session alone, without any of the runner's clocks."""
    from accomp.core.compute.devices import number_of
    from accomp.core.streaming.audio_session import AudioSession
    from accomp.core.streaming.session import TokenSession

    player = load_player(generated.run, generated.registry, torch.device("cpu"))
    id = made(generated.run)["takes"][0]
    record = take(generated.run, id)
    song = generated.corpus / "test" / record["track"]
    whole = {path.stem.partition("-")[0]: audio.read(path, RATE) for path in song.iterdir()}
    part = slice(round(record["start"] * RATE), round((record["start"] + 1) * RATE))
    context = np.stack([whole[name][part] for name in record["context_stems"]]).mean(axis=0)
    tokens = TokenSession(
        player.model, player.sampler, sessions=torch.tensor([number_of(id)]),
        labels={"instrument": torch.tensor([record["instrument"]])}, window=50, seed=3,
    )  # fmt: skip
    session = AudioSession(player.tokenizer, tokens)
    session.push(torch.from_numpy(context)[None])
    expected = torch.cat([session.pull(), session.close()], dim=1)[0].numpy()
    stem = audio.read(generated.run / "takes" / id / "stem.wav", RATE)
    np.testing.assert_allclose(stem, expected * record["gain"], atol=1e-4)


def test_a_finished_take_is_kept_and_a_stale_one_is_not(run: tiny.Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[int] = []
    original = play_twice.play

    def counting(*arguments: Any, **named: Any) -> Played:
        played.append(named["session"])
        return original(*arguments, **named)

    monkeypatch.setattr(play_twice, "play", counting)
    spec = run.spec(generate={"takes": 2, "seconds": 0.4})
    generate(spec, run.registry, run.run)
    assert len(played) == 4
    generate(spec, run.registry, run.run)
    assert len(played) == 4
    ids = made(run.run)["takes"]

    shutil.rmtree(run.run / "takes" / ids[0])
    generate(spec, run.registry, run.run)
    assert len(played) == 6

    (run.run / "takes" / ids[1] / "take.json").write_text("torn {")
    generate(spec, run.registry, run.run)
    assert len(played) == 8

    generate(
        run.spec(generate={"takes": 2, "seconds": 0.4}, sampler={"plugin": "top_k", "k": 2}), run.registry, run.run
    )
    assert len(played) == 12
    assert made(run.run)["settings"]["sampler"]["k"] == 2


def test_a_failed_clip_is_named_and_stops_nothing(run: tiny.Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = play_twice.play, []

    def failing(player: Any, sound: np.ndarray, *arguments: Any, **named: Any) -> Played:
        calls.append(1)
        played = original(player, sound, *arguments, **named)
        if len(calls) <= 2:
            played.audio[5] = np.nan
        return played

    monkeypatch.setattr(play_twice, "play", failing)
    generate(run.spec(generate={"takes": 3, "seconds": 0.4}), run.registry, run.run)
    found = made(run.run)
    assert len(found["takes"]) == 2
    assert [failure["reason"] for failure in found["failed"]] == ["the decoded stem holds NaN or Inf"]
    assert found["failed"][0]["clip"] not in found["takes"]
    assert not (run.run / "takes" / found["failed"][0]["clip"]).exists()


def test_broken_songs_are_named_and_others_taken(run: tiny.Trained, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(run.corpus, corpus)
    for stem in list((corpus / "test" / "test0").iterdir())[1:]:
        stem.write_bytes(b"noise")
    generate(
        run.spec(corpus={"plugin": "shelf", "root": str(corpus)}, generate={"takes": 3, "seconds": 0.4}),
        run.registry,
        run.run,
    )
    found = made(run.run)
    assert len(found["takes"]) == 3
    assert [failure["clip"] for failure in found["failed"]] == ["test0"]
    assert "cannot read audio" in found["failed"][0]["reason"]


def test_no_take_at_all_and_no_model(run: tiny.Trained) -> None:
    with pytest.raises(DataError, match=r"no take could be made of split 'test'[\s\S]*test0: too short: 4.00 s"):
        generate(run.spec(generate={"takes": 1, "seconds": 60.0}), run.registry, run.run)
    assert not (run.run / "takes.json").exists()
    shutil.rmtree(run.run / "checkpoints")
    with pytest.raises(CheckpointError, match="nothing is trained yet"):
        generate(run.spec(), run.registry, run.run)


def test_a_run_that_is_killed_leaves_no_list_of_takes(run: tiny.Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(run.spec(generate={"takes": 1, "seconds": 0.4}), run.registry, run.run)

    def die(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(play_twice, "play", die)
    with pytest.raises(KeyboardInterrupt):
        generate(run.spec(generate={"takes": 2, "seconds": 0.4}), run.registry, run.run)
    assert not (run.run / "takes.json").exists()


@pytest.mark.parametrize("t_f", [-3, 0, 2])
@pytest.mark.parametrize("pieces", [[100], [0, 1, 639, 640, 1281, 7000], []])
def test_playing_gives_as_much_as_it_hears_however_it_is_cut(run: tiny.Trained, t_f: int, pieces: list[int]) -> None:
    from accomp.core.spec.build import build_model, build_sampler

    spec = run.spec(clock={"t_f": t_f, "k": 1}, backbone={"plugin": "llama", "depth": 1, "heads": 2})
    tokenizer = EnergyTokenizer()
    model = build_model(spec, tokenizer.space, run.registry).eval()
    sampler: Any = build_sampler(spec, tokenizer.space, run.registry)
    player = Player(tokenizer, model, sampler, 50, 0, "", "ar")
    sound = tiny.tone(0.5, 1)
    frames = play(player, sound, [640] * 25, labels={"instrument": 3}, seed=1, session=2)
    other = play(player, sound, pieces, labels={"instrument": 3}, seed=1, session=2)
    assert len(frames.audio) == len(other.audio) == len(sound)
    np.testing.assert_array_equal(frames.codes, other.codes)
    np.testing.assert_allclose(frames.audio, other.audio, atol=1e-4)
    assert len(other.whole) == len(other.encode) == len(other.decode) == len(other.frames)
    assert len(frames.whole) == 25
    assert all(
        whole >= encode + decode
        for whole, encode, decode in zip(frames.whole, frames.encode, frames.decode, strict=True)
    )
    different = play(player, sound, [640] * 25, labels={"instrument": 3}, seed=2, session=2)
    assert not np.array_equal(frames.codes, different.codes)


def test_times_become_a_budget() -> None:
    played = Played(start=0.1, codes=np.zeros((2, 4), dtype=np.int64), audio=np.zeros(4 * 640, dtype=np.float32))
    played.whole, played.encode, played.decode = [0.010, 0.012, 0.010, 0.030], [0.001] * 4, [0.002] * 4
    played.frames = [1, 1, 1, 1]
    parts = part_times(played, Clock(t_f=-5))
    assert parts["encode"] == pytest.approx(0.001)
    assert parts["decode"] == pytest.approx(0.002)
    assert parts["first"] == pytest.approx((0.007 + 0.009) / 2)
    assert parts["chunk"] == pytest.approx((0.007 + 0.009 + 0.007 + 0.027) / 4)
    assert parts["jitter"] == pytest.approx(0.030 - 0.011, rel=0.01)
    worse = {**parts, "encode": 0.5}
    space = TokenSpace(32000, 640, 2, 8, 6, lookahead=320)
    budget = budget_of(Clock(t_f=-5), space, [parts, worse], piece=0.1)
    assert budget.encode == 0.5
    assert budget.input == pytest.approx(0.09)  # a frame's lookahead ends 10 ms after the piece its samples end with
    lines = {line["name"]: line["ms"] for line in as_records(budget)}
    assert lines["codec lookahead and delay"] == pytest.approx(10)
    assert lines["wait for the end of a piece"] == pytest.approx(90)
    assert lines["left by t_f = -5 frames"] == pytest.approx(100)
    numbers = [ms for name, ms in lines.items() if not name.startswith(("needed", "left"))]
    assert lines["needed"] == pytest.approx(sum(numbers))


def test_a_step_plays_k_frames() -> None:
    played = Played(start=0.1, whole=[1.0, 2.0, 3.0, 4.0, 5.0])
    assert step_times(played, Clock(k=1)).tolist() == [1, 2, 3, 4, 5]
    assert step_times(played, Clock(k=2)).tolist() == [3, 7]
    assert step_times(played, Clock(k=9)).tolist() == [15]


def test_within_full_scale() -> None:
    loud, gain = within_full_scale(np.array([0.5, -2.0], dtype=np.float32))
    assert np.abs(loud).max() == pytest.approx(0.99)
    assert gain == pytest.approx(0.495)
    quiet, gain = within_full_scale(np.array([0.5], dtype=np.float32))
    assert gain == 1
    assert quiet[0] == 0.5
    with pytest.raises(ValueError, match="NaN"):
        within_full_scale(np.array([math.inf]))
