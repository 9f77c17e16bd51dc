"""Song folders, instrument classes and annotations, for corpora and importers."""

from __future__ import annotations

from accomp.core.data.song_folders import (
    AUDIO,
    SPLITS,
    SongFolders,
    audio_files,
    folders_once,
    not_read,
    split_of,
    splits_among,
    subfolders,
)
from accomp.core.model.conditions import labels_of
from accomp.core.music.annotations import NOTHING, Annotations, Beats, Span, read_annotations
from accomp.core.music.chords import NONE
from accomp.core.music.instruments import CLASSES, DRUMS, from_name, from_program
from accomp.core.music.labels import INSTRUMENT
from accomp.core.names import nearest_class

__all__ = [
    "AUDIO",
    "CLASSES",
    "DRUMS",
    "INSTRUMENT",
    "NONE",
    "NOTHING",
    "SPLITS",
    "Annotations",
    "Beats",
    "SongFolders",
    "Span",
    "audio_files",
    "folders_once",
    "from_name",
    "from_program",
    "labels_of",
    "nearest_class",
    "not_read",
    "read_annotations",
    "split_of",
    "splits_among",
    "subfolders",
]
