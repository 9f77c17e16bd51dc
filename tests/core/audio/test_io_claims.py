"""Headers are claims: whatever a file says of its length, all that is there is read, or the difference is named."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from accomp.core.audio import io as audio
from accomp.core.errors import DataError

RATE = 16_000
N = 2 * RATE
SOUND = (0.3 * np.random.default_rng(0).standard_normal(N)).clip(-1, 1).astype(np.float32)
FORMATS = {
    "wav": ("WAV", "PCM_16"), "rf64.wav": ("RF64", "PCM_16"), "aiff": ("AIFF", "PCM_16"), "w64": ("W64", "PCM_16"),
    "caf": ("CAF", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    container, subtype = FORMATS[kind]
    soundfile.write(file, SOUND, RATE, format=container, subtype=subtype)
    return file.getvalue()


def put(folder: Path, kind: str, content: bytes) -> Path:
    path = folder / f"a.{kind}"
    path.write_bytes(content)
    return path


def with_flac_total(content: bytes, samples: int) -> bytes:
    word = int.from_bytes(content[18:26], "big") & ~(2**36 - 1) | samples
    return content[:18] + word.to_bytes(8, "big") + content[26:]


def without_info_frame(content: bytes) -> bytes:
    """An MP3 without its first frame, which holds the length."""
    second = content.index(content[:2], 100)
    assert b"Xing" in content[:second] or b"Info" in content[:second]
    return content[second:]


def read_or_named(path: Path) -> None:
    """What a file holds is read, as long as it is said to be, or the file is named."""
    said = ""
    try:
        samples, rate = audio.duration(path)
        sound = audio.read(path, rate)
    except DataError as error:
        said = str(error)
    if said:
        assert said.endswith(f"@ {path}")
    else:
        assert abs(len(sound) - samples) <= 1
        assert np.isfinite(sound).all()


@pytest.mark.parametrize("kind", FORMATS)
def test_whole_files_are_read_whole(tmp_path: Path, kind: str) -> None:
    path = put(tmp_path, kind, encoded(kind))
    assert audio.duration(path) == (N, RATE)
    assert len(audio.read(path, RATE)) == N
    np.testing.assert_allclose(
        audio.read(path, RATE, start=0.5, seconds=0.25), audio.read(path, RATE)[8000:12000], atol=2e-2
    )


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=15, deadline=None)
@given(share=st.floats(0.1, 0.97))
def test_a_file_that_breaks_off_anywhere_is_never_a_shorter_recording(
    tmp_path_factory: pytest.TempPathFactory, kind: str, share: float
) -> None:
    content = encoded(kind)
    path = put(tmp_path_factory.mktemp("cut"), kind, content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"ends before|truncated|cannot read"):
        audio.read(path, RATE)


@settings(max_examples=25, deadline=None)
@given(claim=st.integers(0, 2**36 - 1))
def test_a_flac_header_is_never_believed(tmp_path_factory: pytest.TempPathFactory, claim: int) -> None:
    path = put(tmp_path_factory.mktemp("flac"), "flac", with_flac_total(encoded("flac"), claim))
    if claim in (0, N):
        assert len(audio.read(path, RATE)) == N
    else:
        with pytest.raises(DataError, match=r"cannot hold|truncated|damaged"):
            audio.read(path, RATE)


def test_a_flac_of_unknown_length_is_counted_and_read_from_anywhere(tmp_path: Path) -> None:
    plain, unknown = encoded("flac"), with_flac_total(encoded("flac"), 0)
    whole = audio.read(put(tmp_path, "flac", plain), RATE)
    path = put(tmp_path, "b.flac", unknown)
    assert audio.duration(path) == (N, RATE)
    np.testing.assert_array_equal(audio.read(path, RATE), whole)
    np.testing.assert_array_equal(audio.read(path, RATE, start=1.5, seconds=0.1), whole[24000:25600])
    assert len(audio.read(path, RATE, start=1.9, seconds=5)) == N - 30400


def test_an_mp3_without_its_info_frame_is_read_to_its_end(tmp_path: Path) -> None:
    path = put(tmp_path, "mp3", without_info_frame(encoded("mp3")))
    samples, _ = audio.duration(path)
    assert samples >= N
    sound = audio.read(path, RATE)
    assert len(sound) == samples
    assert np.abs(sound[-N // 4 : -2000]).max() > 0.1  # sound to the end, no silence behind a part
    np.testing.assert_array_equal(audio.read(path, RATE, start=1.0, seconds=0.5), sound[RATE : RATE * 3 // 2])


@pytest.mark.parametrize("claim", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF])
def test_a_length_that_a_pipe_writes_is_unknown(tmp_path: Path, claim: int) -> None:
    content = bytearray(encoded("wav"))
    struct.pack_into("<I", content, 40, claim)
    path = put(tmp_path, "wav", bytes(content))
    assert audio.duration(path) == (N, RATE)
    assert len(audio.read(path, RATE)) == N


def test_a_length_of_nothing_before_sound_is_named(tmp_path: Path) -> None:
    content = bytearray(encoded("wav"))
    struct.pack_into("<I", content, 40, 0)
    path = put(tmp_path, "wav", bytes(content))
    for attempt in (lambda: audio.read(path, RATE), lambda: audio.duration(path)):
        with pytest.raises(DataError, match=f"no sound is in the file, though {2 * N:,} bytes follow"):
            attempt()


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(FORMATS)), place=st.integers(0, 90), value=st.integers(0, 255))
@example(kind="w64", place=63, value=128)  # a length of 2**63 bytes
def test_any_byte_of_a_header_may_be_anything(
    tmp_path_factory: pytest.TempPathFactory, kind: str, place: int, value: int
) -> None:
    content = bytearray(encoded(kind))
    content[place] = value
    path = put(tmp_path_factory.mktemp("byte"), kind, bytes(content))
    read_or_named(path)


def test_channels_in_antiphase_are_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([SOUND, -SOUND], axis=1), RATE)
    with pytest.raises(DataError, match="2 channels cancel each other"):
        audio.read(tmp_path / "a.wav", RATE)
    soundfile.write(tmp_path / "b.wav", np.stack([SOUND, -0.9 * SOUND], axis=1), RATE)
    assert len(audio.read(tmp_path / "b.wav", RATE)) == N


def test_another_scale_and_an_offset_are_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 9843 * SOUND, RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"peak \d+.*; expected samples in \[-1, 1\]"):
        audio.read(tmp_path / "a.wav", RATE)
    soundfile.write(tmp_path / "b.wav", 0.1 * SOUND + 0.5, RATE)
    with pytest.raises(DataError, match=r"mean of 0\.5"):
        audio.read(tmp_path / "b.wav", RATE)


def test_a_name_may_be_any_bytes(tmp_path: Path) -> None:
    path = Path(str(tmp_path) + "/caf\udce9.wav")
    put(tmp_path, "wav", encoded("wav")).rename(path)
    assert audio.duration(path) == (N, RATE)
    assert len(audio.read(path, RATE)) == N
