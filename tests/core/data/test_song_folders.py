"""What corpora share: splits that stay where they are, and folders that are looked for and told of."""

from collections import Counter

import pytest

from accomp.core.data.song_folders import SPLITS, SongFolders, audio_files, split_of, splits_among
from accomp.core.errors import DataError
from accomp.core.types import Track


def test_a_songs_split_never_changes():
    """Written down: a song that changed sides with a release would be trained on, then tested on."""
    told = {
        "Track00001": "train",
        "a/b/c": "train",
        "ä": "train",
        "": "train",
        "song 7": "validation",
        "song 30": "test",
        "song 48": "test",
        "bb6d72a2-63ba-405e-a2c1-c7442b4190bb": "train",
    }
    assert {song: split_of(song) for song in told} == told


@pytest.mark.parametrize("held_out", [0.0, 0.1, 0.25, 0.5])
def test_splits_are_as_large_as_asked(held_out):
    count = 4000
    sizes = Counter(split_of(f"song {n}", held_out=held_out) for n in range(count))
    spread = 5 * (count * 0.25) ** 0.5
    assert abs(sizes["test"] - held_out * count) <= spread
    assert abs(sizes["validation"] - held_out * count) <= spread
    assert sizes.total() == count
    if held_out in (0.0, 0.5):
        assert sizes["train" if held_out else "test"] == 0


def test_the_splits_are_those_that_there_are():
    assert splits_among(["test", "train", None, "test"]) == ("train", "test")
    assert splits_among([]) == splits_among([None]) == SPLITS


def test_audio_files_are_known_by_their_suffix(tmp_path):
    for name in ("b.WAV", "a.flac", "._a.wav", "notes.txt", "c.mp3"):
        (tmp_path / name).touch()
    (tmp_path / "d.wav").mkdir()
    assert [path.name for path in audio_files(tmp_path)] == ["a.flac", "b.WAV", "c.mp3"]


def songs(root):
    return SongFolders(str(root), {"train": "train", "validation": "valid"}, song="X with y", get="fetch it")


def test_what_is_missing_is_told(tmp_path):
    root = tmp_path / "c"
    with pytest.raises(DataError, match=r"no corpus folder; expected one with train, valid in it: fetch it @ .*c$"):
        songs(root).of("train")
    (root / "inner" / "valid").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no folder train/; is .*inner the root\?"):
        songs(root).of("train")
    (root / "train" / ".hidden").mkdir(parents=True)
    with pytest.raises(DataError, match="empty split 'train': expected folders X with y"):
        songs(root).of("train")
    with pytest.raises(DataError, match="unknown split 'valid'; expected one of train, validation"):
        songs(root).of("valid")


def test_songs_that_cannot_be_read_are_left_out_and_named_once(tmp_path):
    for name in "abc":
        (tmp_path / "train" / name).mkdir(parents=True)
    reader = songs(tmp_path)

    def track(folder):
        if folder.name != "b":
            raise DataError(f"odd @ {folder}")
        return Track(folder.name, {})

    for _ in range(2):
        assert [song.id for song in reader.read("train", reader.of("train"), track)] == ["b"]
    assert reader.problems == [f"odd @ {tmp_path}/train/{name}" for name in "ac"]
    with pytest.raises(DataError, match=r"no song of split 'train' can be used: odd @ "):
        list(reader.read("train", [tmp_path / "train" / "a"], track))
    assert [path.name for path in reader.of("train", "[bc]", where=lambda path: path.name != "b")] == ["c"]
