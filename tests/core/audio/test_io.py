"""Reading and writing audio: the right samples, and clear words for what cannot be read."""

import numpy as np
import pytest
import soundfile

from accomp.core.audio import io as audio
from accomp.core.errors import DataError


def sine(frequency: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_written_audio_is_read_back(tmp_path, suffix):
    sound = sine(440, 0.5, 32000)
    path = tmp_path / "deep" / "folder" / f"a.{suffix}"
    audio.write(path, sound, 32000)
    assert audio.duration(path) == (16000, 32000)
    heard = audio.read(path, 32000)
    assert heard.dtype == np.float32
    np.testing.assert_allclose(heard, sound, atol=1 / 32767)


def test_channels_are_averaged(tmp_path):
    left, right = sine(440, 0.1, 32000), sine(880, 0.1, 32000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 32000, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav", 32000), (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("native", [16000, 44100, 48000])
def test_another_rate_is_resampled(tmp_path, native):
    audio.write(tmp_path / "a.wav", sine(1000, 1.0, native), native)
    heard = audio.read(tmp_path / "a.wav", 32000)
    assert len(heard) == 32000
    np.testing.assert_allclose(heard[2000:-2000], sine(1000, 1.0, 32000)[2000:-2000], atol=2e-4)


def test_a_part_is_that_part(tmp_path):
    sound = sine(440, 2.0, 32000)
    audio.write(tmp_path / "a.wav", sound, 32000)
    whole = audio.read(tmp_path / "a.wav", 32000)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", 32000, start=0.5, seconds=0.25), whole[16000:24000])
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", 32000, start=1.9, seconds=5.0), whole[60800:])
    assert len(audio.read(tmp_path / "a.wav", 32000, start=9.0)) == 0


def test_what_cannot_be_read_is_told(tmp_path):
    missing, text, empty = tmp_path / "no.wav", tmp_path / "text.wav", tmp_path / "empty.flac"
    text.write_text("this is not music " * 100)
    empty.write_bytes(b"")
    for path, words in ((missing, "no such audio file"), (text, "cannot read audio"), (empty, "cannot read audio")):
        for attempt in (lambda path=path: audio.read(path, 32000), lambda path=path: audio.duration(path)):
            with pytest.raises(DataError, match=words) as caught:
                attempt()
            assert str(caught.value).endswith(f"@ {path}")
            assert str(caught.value).count(str(path)) == 1


@pytest.mark.parametrize(("kind", "words"), [("flac", "cannot read audio"), ("mp3", r"truncated audio: \d+ of 64000")])
def test_half_a_file_is_told(tmp_path, kind, words):
    if kind.upper() not in soundfile.available_formats():
        pytest.skip(f"this libsndfile writes no {kind}")
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 64000), 32000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=words):
        audio.read(path, 32000)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_told_with_its_place(tmp_path, bad):
    sound = sine(440, 0.1, 32000)
    sound[1234] = bad
    soundfile.write(tmp_path / "a.wav", sound, 32000, subtype="FLOAT")
    with pytest.raises(DataError, match="NaN or Inf, first at sample 1234"):
        audio.read(tmp_path / "a.wav", 32000)


def test_nothing_is_clipped_silently(tmp_path):
    with pytest.raises(ValueError, match=r"peak 1\.500"):
        audio.write(tmp_path / "a.wav", np.array([0.0, -1.5]), 32000)
    with pytest.raises(ValueError, match="peak nan"):
        audio.write(tmp_path / "a.wav", np.array([0.0, np.nan]), 32000)
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.parametrize(("native", "reach"), [(8000, 4000), (16000, 8000), (22050, 11025), (32000, 16000)])
def test_bandwidth_is_that_of_the_source(native, reach):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * native).astype(np.float32)
    measured = audio.bandwidth(audio.resample(noise, native, 32000), 32000)
    assert 0.95 * reach <= measured <= 1.02 * reach


def test_bandwidth_of_nothing_is_nothing():
    assert audio.bandwidth(np.zeros(100), 32000) == 0
    assert audio.bandwidth(np.zeros(0), 32000) == 0
    assert 900 < audio.bandwidth(sine(1000, 2.0, 32000), 32000) < 1500
