"""accomp stream: any file in, stem and mix out, the same however it is cut; mistakes are told before work begins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny

from accomp.core.audio import io as audio
from accomp.core.errors import CheckpointError, DataError, UserError
from accomp.core.generation.stream import StreamRequest, stream

RATE = 32000


@pytest.fixture(scope="module")
def input(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.8 s of mono sound at the codec's own rate."""
    path = tmp_path_factory.mktemp("input") / "in.wav"
    audio.write(path, tiny.tone(0.8, 1), RATE)
    return path


def play(trained: tiny.Trained, input: Path, output: Path, instrument: str = "Bass", **options: Any) -> np.ndarray:
    stream(StreamRequest(trained.run, input, output, instrument, **options), trained.registry)
    return audio.read(output, RATE)


def test_stem_and_mix_are_written_and_the_times_told(
    trained: tiny.Trained, input: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stem = play(trained, input, tmp_path / "new" / "out.wav")
    mix = audio.read(tmp_path / "new" / "out-mix.wav", RATE)
    assert len(stem) == len(mix) == round(0.8 * RATE)
    assert np.abs(stem).max() > 0
    told = capsys.readouterr().out
    for words in (
        "Bass by the model of step 20", "t_f = 2, k = 1", "real-time factor:", "a piece of 20 ms took",
        "99th percentile", "delay between codebooks (1 frames)", "left by t_f = 2 frames", "played live",
    ):  # fmt: skip
        assert words in told, words
    assert "resampled" not in told
    assert "averaged" not in told


def test_the_same_seed_plays_the_same_however_it_is_cut(trained: tiny.Trained, input: Path, tmp_path: Path) -> None:
    first = play(trained, input, tmp_path / "a.wav", seed=5)
    for i, chunk in enumerate((7.3, 100, 5000)):
        np.testing.assert_allclose(play(trained, input, tmp_path / f"{i}.wav", seed=5, chunk=chunk), first, atol=1e-4)
    assert not np.allclose(play(trained, input, tmp_path / "b.wav", seed=6), first, atol=1e-2)


def test_stereo_at_another_rate_is_averaged_resampled_and_said(
    trained: tiny.Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = np.stack([tiny.tone(0.5, 1, rate=44100), tiny.tone(0.5, 2, rate=44100)], axis=1)
    soundfile.write(tmp_path / "in.flac", sound, 44100)
    stem = play(trained, tmp_path / "in.flac", tmp_path / "out.flac", "synth lead")
    told = capsys.readouterr().out
    assert "2 channels averaged to one" in told
    assert "resampled from 44100 Hz to the codec's 32000 Hz" in told
    assert "Synth Lead by the model" in told
    assert abs(len(stem) - 16000) <= 1
    mono = audio.resample(audio.read(tmp_path / "in.flac", 44100), 44100, RATE)
    audio.write(tmp_path / "mono.wav", mono, RATE)
    other = play(trained, tmp_path / "mono.wav", tmp_path / "other.wav", "synth lead")
    assert np.mean(np.abs(stem - other) > 1e-3) < 0.2  # 16-bit rounding may move a code


def test_the_instrument_is_told_to_the_model(
    trained: tiny.Trained, input: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accomp.core.generation import stream as module

    heard: list[dict[str, int]] = []
    original = module.play

    def listening(*arguments: Any, labels: dict[str, int], **named: Any) -> Any:
        heard.append(labels)
        return original(*arguments, labels=labels, **named)

    monkeypatch.setattr(module, "play", listening)
    for name in ("Piano", "percussive", "drums"):
        play(trained, input, tmp_path / f"{name}.wav", name)
    assert heard == [{"instrument": 0}, {"instrument": 14}, {"instrument": 14}]


@pytest.mark.parametrize(
    ("instrument", "words"),
    [("Bas", "did you mean 'Bass'"), ("guitr", "did you mean 'Guitar'"), ("xyzzy", "instruments: "),
     ("vocal", "no model learns to play 'vocal'")],
)  # fmt: skip
def test_an_unknown_instrument_is_told_with_the_nearest(
    trained: tiny.Trained, input: Path, tmp_path: Path, instrument: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        play(trained, input, tmp_path / "out.wav", instrument)
    assert not list(tmp_path.iterdir())


def test_bad_files_and_settings_are_told(trained: tiny.Trained, input: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such audio file"):
        play(trained, tmp_path / "none.wav", tmp_path / "out.wav")
    (tmp_path / "text.wav").write_text("words")
    with pytest.raises(DataError, match="cannot read audio"):
        play(trained, tmp_path / "text.wav", tmp_path / "out.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    with pytest.raises(DataError, match="holds no sound"):
        play(trained, tmp_path / "empty.wav", tmp_path / "out.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(1000, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match="NaN"):
        play(trained, tmp_path / "nan.wav", tmp_path / "out.wav")
    with pytest.raises(DataError, match=r"ends in \.wav or \.flac"):
        play(trained, input, tmp_path / "out.mp3")
    mine = tmp_path / "mine.wav"
    shutil.copy(input, mine)
    with pytest.raises(DataError, match="would replace the input"):
        play(trained, mine, mine)
    with pytest.raises(DataError, match="would replace the input"):
        play(trained, mine.rename(tmp_path / "out-mix.wav"), tmp_path / "out.wav")
    with pytest.raises(UserError, match="--chunk 0"):
        play(trained, input, tmp_path / "out.wav", chunk=0)
    assert not (tmp_path / "out.wav").exists()
    with pytest.raises(CheckpointError, match="nothing is trained yet"):
        stream(StreamRequest(tmp_path, input, tmp_path / "out.wav", "Bass"), trained.registry)


def test_a_place_that_cannot_be_written_is_told(trained: tiny.Trained, input: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="cannot make the folder"):
        play(trained, input, tmp_path / "file" / "out.wav")
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        play(trained, input, tmp_path / "folder.wav")


def test_the_best_checkpoint_plays(trained: tiny.Trained, tmp_path: Path) -> None:
    """Where a later one is worse on validation; the newest one where the best is gone."""
    from accomp.core.runs.history import append_losses
    from accomp.core.runs.player import playing_checkpoint

    copy = trained.copy(tmp_path / "run")
    assert playing_checkpoint(copy.run).step == 20
    append_losses(copy.run, "validation", 15, {"loss": 0.0, "parts": {}})
    assert playing_checkpoint(copy.run).step == 15
    append_losses(copy.run, "validation", 7, {"loss": -1.0, "parts": {}})
    assert playing_checkpoint(copy.run).step == 20


def test_another_precision_plays_and_a_runtime_that_there_is_not_is_refused(
    trained: tiny.Trained, input: Path, tmp_path: Path
) -> None:
    exact = play(trained, input, tmp_path / "exact.wav")
    near = play(trained, input, tmp_path / "near.wav", runtime=["weights=int8", "cache=bfloat16"])
    assert near.shape == exact.shape
    with pytest.raises(UserError) as told:
        play(trained, input, tmp_path / "out.wav", runtime=["compile=maybe", "weight=int8"])
    assert "did you mean 'weights'? @ --runtime" in str(told.value)
    assert "'maybe'" in str(told.value)
    assert not (tmp_path / "out.wav").exists()
