"""Clips come with what is known of their frames: at the right frames, withheld where nothing is known, and counted."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from fakes import EnergyTokenizer, FolderCorpus, write_corpus

from accomp.core.data.ingest.encode import PartEncoder
from accomp.core.data.ingest.stage import ingest_corpus
from accomp.core.data.loader import ClipLoader
from accomp.core.errors import DataError
from accomp.core.model.conditions import Conditions, TimelineCondition
from accomp.core.model.model import withhold
from accomp.core.music.annotations import NOTHING, Annotations, read_annotations
from accomp.core.music.timelines import KINDS, frame_times, metronome
from accomp.core.types import Batch

TOKENIZER = EnergyTokenizer()
RATE = TOKENIZER.space.frame_rate
KNOWN = read_annotations({"beats": [0.1 + 0.4 * i for i in range(5)], "beats_per_bar": 2, "chords": [[0, 1, "Am"]]})[0]


class Annotated(FolderCorpus):
    """A folder whose song of this name, or every one, is told to have these annotations."""

    song, told = "", NOTHING

    def tracks(self, split):
        for track in super().tracks(split):
            yield attrs.evolve(track, annotations=self.told) if self.song in ("", track.id) else track


def filled(folder, told: Annotations, song: str = ""):
    opened = Annotated(Annotated.Config(str(write_corpus(folder / "c", {"train": 2}, seconds=2.0))))
    opened.song, opened.told = song, told
    ingest_corpus(opened, PartEncoder(TOKENIZER), folder / "s.zarr")
    return folder / "s.zarr"


def loader(store, *timelines: str, frames: int = 30, batch: int = 4, drop: float = 0.0) -> ClipLoader:
    conditions = {name: TimelineCondition(drop) for name in timelines}
    return ClipLoader(store, "train", TOKENIZER, frames=frames, batch=batch, timelines=conditions)


def test_each_frame_is_told_what_is_known_of_its_time(tmp_path):
    clips = loader(filled(tmp_path, KNOWN), "metronome", "chart")
    batch = next(clips.fixed(1))
    for row, clip in enumerate(clips.fixed_clips(1)):
        times = frame_times(clip.start, clip.frames, RATE)
        for name, kind in KINDS.items():
            np.testing.assert_allclose(batch.timelines[name][row, : clip.frames], kind.of(KNOWN, times))
    assert {clip.start for clip in clips.fixed_clips(1)} != {0}


def test_of_a_song_that_is_not_known_it_is_withheld_and_that_is_told(tmp_path):
    clips = loader(filled(tmp_path, KNOWN, "t0"), "metronome")
    assert "metronome: beats of 1 of 2 songs are known; in clips of the others it is withheld" in clips.describe()
    batch = next(clips.fixed(9))
    for row, clip in enumerate(clips.fixed_clips(9)[: len(batch.target)]):
        assert bool(batch.timelines["metronome"][row].any()) == (clip.pair.track == "t0")


def test_where_no_song_is_known_at_all_there_is_nothing_to_train_on(tmp_path):
    store = filled(tmp_path, attrs.evolve(KNOWN, chords=()))
    with pytest.raises(DataError, match=r"\[conditions\] chart: of none of 2 songs are chords known"):
        loader(store, "metronome", "chart")
    assert not next(loader(store).fixed(1)).timelines
    withheld = next(loader(store, "chart", drop=1.0).fixed(1)).timelines["chart"]
    assert not withheld.any(), "what is always withheld need not be known"


def test_a_run_goes_on_only_with_the_same_annotations(tmp_path):
    store = filled(tmp_path, KNOWN)
    state = loader(store, "metronome").state_dict()
    loader(store, "metronome").load_state_dict(state)
    filled(tmp_path, read_annotations({"beats": [0.0, 0.3, 0.6]})[0])
    with pytest.raises(DataError, match="the training data has changed"):
        loader(store, "metronome").load_state_dict(state)


def test_a_timeline_is_withheld_in_its_share_of_the_clips():
    n = 400
    values = torch.from_numpy(np.stack([metronome(KNOWN, frame_times(0, 3, RATE))] * n))
    batch = Batch(torch.zeros(n, 3, 2), torch.zeros(n, 1, 3).long(), torch.ones(n, 3).bool(), {}, {"metronome": values})
    conditions = Conditions(timelines={"metronome": TimelineCondition(0.3)})
    told = withhold(batch, conditions, torch.Generator().manual_seed(0)).timelines["metronome"]
    silent = ~told.flatten(1).any(1)
    assert 0.22 < silent.float().mean() < 0.38
    assert torch.equal(told[~silent], values[~silent])
    with pytest.raises(ValueError, match=r"timelines \['metronome'\], which the batch lacks"):
        withhold(attrs.evolve(batch, timelines={}), conditions, torch.Generator())


def test_bars_alone_are_withheld_in_their_share_of_the_clips_that_are_told_beats():
    conditions = Conditions(timelines={"metronome": TimelineCondition(drop=0.25, detail=0.4)})
    values = torch.from_numpy(metronome(KNOWN, frame_times(0, 8, RATE)))[None].repeat(4000, 1, 1)
    nothing = torch.zeros(4000, 1, 8)
    batch = Batch(nothing, nothing.long(), nothing[:, 0] == 0, {}, {"metronome": values})
    told = withhold(batch, conditions, torch.Generator().manual_seed(0)).timelines["metronome"]
    beats, bars = told[:, 0, 0] == 1, told[:, 0, 10] == 1
    assert abs(float(beats.float().mean()) - 0.75) < 0.03
    assert abs(float(bars[beats].float().mean()) - 0.6) < 0.03
    assert not bars[~beats].any()
    assert torch.equal(told[bars], values[bars])
    alone = beats & ~bars
    assert torch.equal(told[alone][..., :10], values[alone][..., :10])
    assert not told[alone][..., 10:].any()
