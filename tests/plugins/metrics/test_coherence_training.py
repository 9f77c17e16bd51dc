"""`accomp coherence train`: what is heard of songs, how pairs are drawn, and that the right ones are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from accomp.core.audio import io as audio
from accomp.core.cli.main import main
from accomp.core.errors import DataError
from accomp.core.music.instruments import CLASSES
from accomp.core.types import Stem, Track
from accomp.plugins.metrics.coherence.batches import Bend, Pairs, Variation
from accomp.plugins.metrics.coherence.files import load
from accomp.plugins.metrics.coherence.hpss_mels import FRAMES, MELS, SAMPLE_RATE, decibels
from accomp.plugins.metrics.coherence.measure import auc, held_out, song_interval
from accomp.plugins.metrics.coherence.network import POOLED, CoherenceNetwork
from accomp.plugins.metrics.coherence.songs import Hearing, Stretch, heard
from accomp.plugins.metrics.coherence.training import Settings, Trainer, contrast

BASS, DRUMS = CLASSES.index("Bass"), CLASSES.index("Percussive")


def pulse(seconds: float, beat: float, hertz: float, seed: int) -> np.ndarray:
    """A decaying tone and some noise on every beat (s)."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return ((0.2 * np.sin(2 * np.pi * hertz * time) + 0.05 * noise) * np.exp(-8 * (time % beat))).astype(np.float32)


def song(folder: Path, number: int, seconds: float = 6.5) -> Track:
    """Drums, bass and piano on one beat, which is another one in each song."""
    stems = {}
    for name, (instrument, hertz) in {"S0": (DRUMS, 2000.0), "S1": (BASS, 80.0), "S2": (0, 500.0)}.items():
        path = folder / f"Track{number:05d}" / "stems" / f"{name}.flac"
        audio.write(path, pulse(seconds, 0.3 + 0.07 * number, hertz * (1 + 0.1 * number), number), SAMPLE_RATE)
        stems[name] = Stem(path, instrument)
    return Track(f"Track{number:05d}", stems)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> list[Track]:
    folder = tmp_path_factory.mktemp("songs")
    return [song(folder, number) for number in range(4)]


@pytest.fixture(scope="module")
def stretches(songs: list[Track], tmp_path_factory: pytest.TempPathFactory) -> list[Stretch]:
    folder = tmp_path_factory.mktemp("heard")
    return [one for track in songs for one in heard(track, folder, Hearing(seconds=6.5), None, 0)]


def test_stems_and_mixtures_are_heard_as_they_would_be_by_the_metric(songs, stretches):
    stretch = stretches[1]
    sounds = np.stack([audio.read(stem.files, SAMPLE_RATE) for stem in songs[1].stems.values()])
    assert stretch.classes.tolist() == [DRUMS, BASS, 0]
    assert stretch.sounding.all()
    for row in range(3):
        np.testing.assert_allclose(stretch.stems[row], decibels(sounds[row]), atol=0.05)
        np.testing.assert_allclose(stretch.others[row], decibels(np.delete(sounds, row, 0).sum(axis=0)), atol=0.05)
    assert stretch.mixtures.shape[0] == len(stretch.members) == 2
    assert all(0 < members.sum() < 3 for members in stretch.members)


def test_a_song_is_heard_once_and_again_when_it_is_asked_for_otherwise(songs, tmp_path, monkeypatch):
    first = heard(songs[0], tmp_path, Hearing(), None, 0)
    assert len(list(tmp_path.iterdir())) == 1
    with monkeypatch.context() as patched:
        patched.setattr("accomp.plugins.metrics.coherence.songs.decibels", lambda sound: pytest.fail("heard again"))
        again = heard(songs[0], tmp_path, Hearing(), None, 0)
    np.testing.assert_array_equal(first[0].stems, again[0].stems)
    assert first[0].start == again[0].start
    heard(songs[0], tmp_path, Hearing(), None, 1)
    heard(songs[0], tmp_path, Hearing(mixtures=1), None, 0)
    assert len(list(tmp_path.iterdir())) == 3


def test_songs_that_cannot_be_used_are_refused(songs, tmp_path):
    alone = Track("alone", {"S0": songs[0].stems["S0"]})
    with pytest.raises(DataError, match="1 stem; expected two or more"):
        heard(alone, tmp_path, Hearing(), None, 0)
    with pytest.raises(DataError, match=r"2\.0 s; expected a window of 5 s or more"):
        heard(song(tmp_path, 9, 2.0), tmp_path, Hearing(), None, 0)


def test_a_group_is_of_one_class_and_the_two_times_of_a_song_differ(stretches):
    pairs = Pairs.of(stretches, np.random.default_rng(0), Variation(plain=1.0, colour=0.0, floor=-80.0))
    assert set(pairs.by_class) == {0, BASS, DRUMS}
    batch = pairs.draw(groups=1, songs=4)
    assert batch.contexts.shape == batch.stems.shape == (len(batch.groups), 2, MELS, FRAMES // POOLED)
    assert not batch.groups.any()
    assert 4 < len(batch.groups) <= 8
    flat = batch.stems.flatten(1)
    assert (torch.cdist(flat, flat) + 1e9 * torch.eye(len(flat))).min() > 1
    assert batch.contexts.amax((2, 3)).min() > -20
    assert batch.contexts.max() <= 0


def test_a_class_of_one_song_is_left_out(stretches):
    alone = [one for one in stretches if one.song in ("Track00000", "Track00001")]
    assert Pairs.of(alone[:1], np.random.default_rng(0)).by_class == {}
    assert set(Pairs.of(alone, np.random.default_rng(0)).by_class) == {0, BASS, DRUMS}


def test_a_bend_makes_music_faster_and_higher():
    faster = Bend.by(1.2, 0.0)
    assert faster.frames[-1] == round(1.2 * (FRAMES - 1))
    assert faster.rows is None
    higher = Bend.by(1.0, 12.0)
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    low, high = (decibels(np.sin(2 * np.pi * hertz * time))[0, :, 50] for hertz in (600.0, 1200.0))
    assert higher.rows is not None
    assert abs(int((higher.rows @ low).argmax()) - int(high.argmax())) <= 1
    np.testing.assert_allclose(higher.rows.sum(axis=1), 1.0, atol=1e-5)


def test_the_loss_compares_within_groups_alone():
    scores = torch.tensor([[2.0, 0.0, 9.0], [0.0, 1.0, 9.0], [9.0, 9.0, 0.0]])
    groups = torch.tensor([0, 0, 1])
    rows = [-torch.log_softmax(scores[:2, :2], 1).diagonal(), -torch.log_softmax(scores[:2, :2], 0).diagonal()]
    expected = sum(part.sum() for part in rows) / 2 / 3
    torch.testing.assert_close(contrast(scores, groups), expected)


def trained(stretches: list[Stretch], steps: int) -> tuple[Trainer, list[float]]:
    pairs = Pairs.of(stretches, np.random.default_rng(0), Variation(plain=1.0, colour=0.0))
    ticks = iter([0.0, *np.arange(steps) / steps, 1.0])
    trainer = Trainer(pairs, Settings(groups=2, smoothing=0.5), 1.0, 0, clock=lambda: next(ticks))
    return trainer, list(trainer.steps())


def test_training_finds_what_belongs_together(stretches):
    trainer, losses = trained(stretches, 20)
    assert trainer.step == len(losses) == 20
    assert np.mean(losses[-4:]) < 0.6 * losses[0]
    numbers = held_out(trainer.average, stretches, 0, most=20, modes=("both",))
    assert numbers["random"] > 0.9


def test_the_same_seed_trains_the_same_network(stretches):
    one, two = (trained(stretches, 2)[0].average.state_dict() for _ in range(2))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=0)


def test_the_score_is_bilinear_and_compares_what_sounds_at_the_same_time():
    network = CoherenceNetwork().eval()
    a, b = torch.randn(2, 3, 6, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.w.copy_(torch.randn(64, 64, generator=torch.Generator().manual_seed(1)))
        expected = torch.einsum("btd,de,bte->b", a, network.w, b) / 6
        torch.testing.assert_close(network.pair(a, b), expected)
        torch.testing.assert_close(network.scores(a, b).diagonal(), expected)
        assert (network.pair(a, b) - network.pair(b, a)).abs().min() > 1e-3
        assert (network.pair(a, b.roll(1, 1)) - expected).abs().min() > 1e-3


def test_auc_is_the_chance_that_a_true_pair_scores_higher():
    rng = np.random.default_rng(0)
    true, other = rng.integers(0, 9, 40).astype(float), rng.integers(0, 7, 30).astype(float)
    wins = (true[:, None] > other).mean() + 0.5 * (true[:, None] == other).mean()
    assert auc(true, other) == pytest.approx(wins)
    same = rng.integers(0, 9, 40).astype(float)
    many = song_interval(true, same, [str(i) for i in range(40)])
    assert many[0] < auc(true, same) < many[1]
    assert song_interval(true, same, ["one"] * 40) == (auc(true, same),) * 2


def test_the_command_writes_weights_that_the_metric_reads(songs, tmp_path):
    root = tmp_path / "corpus"
    for split in ("train", "validation"):
        for track in songs[:2]:
            folder = root / split / track.id
            entries = {}
            for name, stem in track.stems.items():
                (folder / "stems").mkdir(parents=True, exist_ok=True)
                (folder / "stems" / f"{name}.flac").write_bytes(stem.path.read_bytes())
                entries[name] = {"is_drum": stem.instrument == DRUMS, "program_num": 8 * (stem.instrument % 14)}
            (folder / "metadata.yaml").write_text(yaml.safe_dump({"stems": entries}))
    out = tmp_path / "out"
    command = ["coherence", "train", str(root), "--out", str(out), "--minutes", "0.01", "--tokenizer", "none"]
    assert main(command) == 0
    network, fingerprint = load(out / "coherence.safetensors")
    assert len(fingerprint) == 16
    report = json.loads((out / "coherence.json").read_text())
    assert report["songs"] == {"train": 2, "validation": 2}
    assert report["steps"] >= 1
    assert 0 <= report["validation"]["random"] <= 1
    assert not network.training
