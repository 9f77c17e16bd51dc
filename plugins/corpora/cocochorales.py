"""Published layout of CocoChorales: {train,valid,test}/ENSEMBLE_trackNNNNNN/{metadata.yaml, stems_audio/N_NAME.wav}.

Four synthesized voices per song, 16 kHz; the full or tiny version, or any unpacked archive of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from attrs import frozen

from accomp.core.audio import io as audio
from accomp.core.data.song_folders import SPLITS, SongFolders, audio_files
from accomp.core.errors import DataError
from accomp.core.music.instruments import CLASSES, from_name, from_program
from accomp.core.types import Stem, Track

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KEYS = ("ensemble", "instrument_name", "midi_program_number")
_BASS = CLASSES.index("Bass")


class CocoChorales:
    """CocoChorales. The class of a stem follows `midi_program_number`, except that a double bass is always Bass.

    General MIDI counts the double bass (43) among the strings. The label `ensemble` is string, brass, woodwind or
    random.

    Attributes:
        problems: a line for each stem or song that was skipped, with the reason; filled by `tracks`.
    """

    splits = SPLITS

    @frozen
    class Config:
        """root: folder with train/, valid/ and test/ (main_dataset in the archives); "~" is expanded."""

        root: str

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """Write one song of 1 s in each split for the conformance kit."""
        for number, split in enumerate(("train", "valid", "test")):
            song = folder / split / f"random_track{number:06}"
            for voice, name in ((1, "flute"), (2, "double bass")):
                audio.write(song / "stems_audio" / f"{voice}_{name}.wav", np.zeros(16000, dtype=np.float32), 16000)
            names, programs = {0: "flute", 1: "double bass"}, {0: 73, 1: 43}
            metadata = {"ensemble": "random", "instrument_name": names, "midi_program_number": programs}
            (song / "metadata.yaml").write_text(yaml.safe_dump(metadata), encoding="utf-8")
        return cls.Config(str(folder))

    def __init__(self, config: Config):
        self._songs = SongFolders(
            config.root,
            {"train": "train", "validation": "valid", "test": "test"},
            song="ENSEMBLE_trackNNNNNN with metadata.yaml and stems_audio/",
            get="docs/guides/corpora.md says how to download CocoChorales",
        )
        self.problems = self._songs.problems

    def tracks(self, split: str) -> Iterator[Track]:
        """Yield the songs of a split by folder name. Raises DataError for a missing folder, unknown or empty split."""
        return self._songs.read(split, self._songs.of(split, "*_track*"), self._track)

    def _track(self, folder: Path) -> Track:
        names, programs, ensemble = _metadata(folder / "metadata.yaml")
        audio_folder = folder / "stems_audio"
        if not audio_folder.is_dir():
            raise DataError(f"song without stems_audio/ @ {folder}")
        files = audio_files(audio_folder)
        first = _first_voice(files, names)
        stems = {}
        for path in files:
            voice = _voice(path)
            if voice is None or voice - first not in programs:
                self._songs.leave_out(f"stem without an entry in metadata.yaml @ {path}")
                continue
            try:
                name = str(names.get(voice - first, ""))
                stems[path.stem] = Stem(path, _instrument(programs[voice - first], name), name)
            except ValueError as error:
                self._songs.leave_out(f"midi_program_number: {error} @ {path}")
        for key in sorted(programs):
            if not any(_voice(path) == key + first for path in files):
                self._songs.leave_out(
                    f"stem file is missing; expected {key + first}_{names.get(key)}.wav @ {audio_folder}"
                )
        if not stems:
            raise DataError(f"song without a usable stem @ {folder}")
        labels = self._songs.labels({} if ensemble is None else {"ensemble": ensemble}, str(folder))
        return Track(folder.name, stems, source="CocoChorales", licence="CC BY 4.0", labels=labels)


def _metadata(path: Path) -> tuple[dict[int, Any], dict[int, Any], Any]:
    """Return instrument names and programs by voice, from 0, and the ensemble."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"song without metadata.yaml @ {path.parent}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"unreadable metadata ({error}) @ {path}") from error
    try:
        metadata = _parsed(text)
    except yaml.YAMLError as error:
        raise DataError(f"unreadable metadata ({' '.join(str(error).split())}) @ {path}") from error
    programs = metadata.get("midi_program_number") if isinstance(metadata, dict) else None
    if not isinstance(programs, dict) or not all(isinstance(key, int) for key in programs):
        raise DataError(f"metadata without a table midi_program_number of voices @ {path}")
    names = metadata.get("instrument_name")
    return names if isinstance(names, dict) else {}, programs, metadata.get("ensemble")


def _parsed(text: str) -> Any:
    """Parse YAML; only the needed keys if possible, as the note pitches take most of the time.

    Some published files begin with a stray character, which is skipped.
    """
    text = re.sub(r"\A[^\w{#\s-]", "", text)
    sections = re.split(r"^(?=\w)", text, flags=re.MULTILINE)
    used = [section for section in sections if section.partition(":")[0] in _KEYS]
    return yaml.load("".join(used) if len(used) == len(_KEYS) else text, _LOADER)


def _voice(path: Path) -> int | None:
    match = re.match(r"(\d+)_", path.name)
    return int(match[1]) if match else None


def _first_voice(files: list[Path], names: dict[int, Any]) -> int:
    """Return the number of the first voice in file names: 1 in the published archives, 0 in their description.

    Chosen by the number of agreements between file names and metadata.
    """
    voices = {voice: path.stem.partition("_")[2] for path in files if (voice := _voice(path)) is not None}

    def agreeing(first: int) -> int:
        return sum(_same(names.get(voice - first), name) for voice, name in voices.items())

    return 0 if 0 in voices or agreeing(0) > agreeing(1) else 1


def _same(told: Any, found: str) -> bool:
    return isinstance(told, str) and told.replace(" ", "_") == found.replace(" ", "_")


def _instrument(program: Any, name: str) -> int:
    """Return the class of a program. Raises ValueError for an invalid General MIDI program."""
    if isinstance(program, bool) or not isinstance(program, int):
        raise ValueError(f"{program!r}; expected 0..127")
    return _BASS if from_name(name) == _BASS else from_program(program)
