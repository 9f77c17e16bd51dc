"""Kinds of faults, one row each: a kind is added by a function and a line in KINDS."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import midi_files
import numpy as np
import pytest
import soundfile
import test_damage
import test_io_claims
import test_limits
import test_recording
import test_trouble
import tiny
import torch
from attrs import frozen
from faults import before_change, die, refuse
from test_ingest import changed_in_place, contents, replaced_by_older, swapped
from test_ingest import ingest as ingest_corpus
from test_store import write

from accomp.core.audio import io as audio
from accomp.core.cli.main import main
from accomp.core.compute.interrupts import SIGNALS
from accomp.core.errors import CheckpointError, Interrupted, UserError, WorkError
from accomp.core.generation.recording import Recording
from accomp.core.generation.stream import StreamRequest, stream
from accomp.core.registry import Registry
from accomp.core.report.page import toml
from accomp.core.spec.build import check_combination
from accomp.core.spec.schema import load_spec, resolve, structure
from accomp.plugins.corpora.folder import Folder
from accomp.plugins.corpora.mini_slakh import plan
from accomp.plugins.corpora.mini_slakh.command import look
from accomp.plugins.corpora.mini_slakh.midi import MidiError
from accomp.plugins.corpora.mini_slakh.render import Source
from accomp.plugins.importers import checkpoint_files
from accomp.zarr_store.layout import StoreError
from accomp.zarr_store.reader import Store
from accomp.zarr_store.verify import verify

STAGES = test_trouble.STAGES
RATE = test_recording.RATE


def prepare(world: Path) -> None:
    """Make the objects of the tests: a token store, a corpus, and a tiny experiment before and after each stage."""
    torch.set_num_threads(1)
    world.mkdir()
    write(world / "tokens", test_damage.SONGS)
    for song in range(2):
        sounds = {"a-0": tiny.tone(1.1, song), "b-4": tiny.tone(1.1, 9 + song)}
        tiny.write_track(world / f"stems/train/t{song}", sounds, suffix="wav")
    ingest_corpus(world / "stems", world / "stems.zarr")
    tiny.corpus(world / "corpus")
    data = tiny.plain(Path("../corpus"), Path("run"), Path("store.zarr"))
    train = {**data["train"], "steps": 6, "validate_every": 3, "checkpoint_every": 2, "log_every": 2}
    now = world / "done"
    now.mkdir()
    (now / "tiny.toml").write_text(toml({**data, "train": train, "generate": {"takes": 2, "seconds": 1.0}}))
    for stage in STAGES:
        shutil.copytree(now, world / stage)
        test_trouble.run_in(now, stage)
    soundfile.write(world / "in.wav", tiny.tone(1.6, 1), RATE, subtype="PCM_16")
    experiment = tiny.Trained(world / "done/run", world / "corpus", world / "done/store.zarr")
    stream(StreamRequest(experiment.run, world / "in.wav", world / "out.wav", "Bass"), tiny.registry())


def experiment_at(world: Path, place: Path, stage: str) -> Path:
    """A copy of the experiment, where `stage` comes next."""
    (place / "corpus").symlink_to(world / "corpus")
    return Path(shutil.copytree(world / stage, place / "now"))


def after(world: Path, stage: str) -> Path:
    return world / ([*STAGES, "done"][STAGES.index(stage) + 1])


def flipped_bit(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    place = rng.randrange(8 * len(data))
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


def read_or_refused(store: Path, expected: list) -> None:
    try:
        assert test_damage.contents(store) == expected
    except StoreError as error:
        assert any(cure in str(error) for cure in ("store verify", "restore it from a copy"))  # noqa: PT017


# ------------------------------------------------------------------------------------- nothing stale or damaged


def flipped_in_store(world: Path, place: Path, rng: random.Random) -> None:
    store = Path(shutil.copytree(world / "tokens", place / "s"))
    expected = test_damage.contents(store)
    files = sorted(path for path in store.rglob("*") if path.is_file())
    for _ in range(20):
        path = rng.choice(files)
        whole = path.read_bytes()
        flipped_bit(path, rng)
        read_or_refused(store, expected)
        path.write_bytes(whole)


def flipped_in_chunk(world: Path, place: Path, rng: random.Random) -> None:
    store = Path(shutil.copytree(world / "tokens", place / "s"))
    shards = sorted(store.glob("tracks/train/*/*/c/**/0"))
    for _ in range(20):
        path = rng.choice([shard for shard in shards if shard.is_file()])
        whole = path.read_bytes()
        flipped_bit(path, rng)
        with pytest.raises(StoreError, match="song train/"):
            test_damage.contents(store)
        assert [track.id for track in verify(Store(store)) if track.problems] == [path.relative_to(store).parts[2]]
        path.write_bytes(whole)


def changed_metadata(world: Path, place: Path, rng: random.Random) -> None:
    store = Path(shutil.copytree(world / "tokens", place / "s"))
    expected = test_damage.contents(store)
    for path in rng.choices(sorted(store.glob("tracks/*/*/**/zarr.json")), k=10):
        whole, track = path.read_text(), next(one for one in [path, *path.parents] if one.parent.name == "train")
        record = (track / "zarr.json").read_text()
        data = json.loads(whole)
        replace_value(data, rng)
        path.write_text(json.dumps(data))
        if rng.random() < 0.5 and path.parent != track:
            test_damage.unseal(track)
        try:
            read_or_refused_or_same(store, expected)
        finally:
            path.write_text(whole)
            (track / "zarr.json").write_text(record)


def replace_value(data: dict, rng: random.Random) -> None:
    """Replace a value at a random place."""
    while True:
        keys = list(data) if isinstance(data, dict) else list(range(len(data)))
        key = rng.choice(keys)
        value = data[key]
        if isinstance(value, dict | list) and value and rng.random() < 0.8:
            data = value
            continue
        data[key] = rng.choice([None, -1, 0, 1, 3, 10**9, "x", [], {}, 0.5, [1, 1, 4], "uint16", True])
        return


def read_or_refused_or_same(store: Path, expected: list) -> None:
    """A record without checksums may have other plausible values; the codes must be the same."""
    try:
        found = test_damage.contents(store)
    except StoreError:
        return
    codes = [one for one in found if isinstance(one, list)]
    assert codes == [one for one in expected if isinstance(one, list)]


def changed_stem(world: Path, place: Path, rng: random.Random) -> None:
    corpus = Path(shutil.copytree(world / "stems", place / "c"))
    ingest_corpus(corpus, place / "s")
    for path in sorted(corpus.rglob("*.wav")):
        rng.choice([replaced_by_older, changed_in_place, swapped, lambda path, _: path.touch(), lambda *_: None])(
            path, tiny.tone(1.1, rng.randrange(10**6))
        )
    ingest_corpus(corpus, place / "s")
    ingest_corpus(corpus, place / "fresh")
    assert contents(place / "s") == contents(place / "fresh")


def damaged_take(world: Path, place: Path, rng: random.Random) -> None:
    folder = experiment_at(world, place, "evaluate")
    path = rng.choice(sorted(path for path in (folder / "run/takes").rglob("*") if path.is_file()))
    match rng.randrange(5):
        case 0:
            flipped_bit(path, rng)
        case 1:
            path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
        case 2:
            path.write_bytes(bytes(path.stat().st_size))
        case 3:
            path.unlink()
        case 4:
            shutil.rmtree(path.parent)
    for stage in ("evaluate", "report"):
        test_trouble.run_in(folder, stage, 1)
    for stage in ("generate", "evaluate"):
        test_trouble.run_in(folder, stage)
    assert test_trouble.results(folder) == test_trouble.results(world / "report")


# ------------------------------------------------------------------------------- the machine's trouble, kills


def refused_write(world: Path, place: Path, rng: random.Random) -> None:
    stage, number = rng.choice(STAGES), rng.choice(test_trouble.ERRORS)
    folder = experiment_at(world, place, stage)
    with before_change(folder, rng.randrange(5, 40), refuse(number), for_good=True) as counter:
        os.chdir(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("accomp.core.cli.main.Registry", tiny.registry)
            code = main([stage, "tiny.toml"])
    assert code == (1 if counter.count > counter.at else 0)
    test_trouble.run_in(folder, stage)
    assert test_trouble.results(folder) == test_trouble.results(after(world, stage))


def full_disk_at_a_byte(world: Path, place: Path, rng: random.Random) -> None:
    """No file may grow beyond a random size."""
    import resource

    stage = rng.choice(STAGES)
    folder = experiment_at(world, place, stage)
    quiet, said = os.open(os.devnull, os.O_WRONLY), [os.dup(1), os.dup(2)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit := int(10 ** rng.uniform(1, 5)), before[1]))
    os.chdir(folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("accomp.core.cli.main.Registry", tiny.registry)
            for number in (1, 2):
                os.dup2(quiet, number)
            code = main([stage, "tiny.toml"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        for number, old in zip((1, 2), said, strict=True):
            os.dup2(old, number)
    assert code in (0, 1), limit
    test_trouble.run_in(folder, stage)
    assert test_trouble.results(folder) == test_trouble.results(after(world, stage))


def killed_stage(world: Path, place: Path, rng: random.Random) -> None:
    stage = rng.choice(STAGES)
    folder = experiment_at(world, place, stage)
    for _ in range(2):
        child = os.fork()
        if not child:
            with before_change(folder, rng.randrange(60), die):
                test_trouble.run_in(folder, stage)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL)
        rng.random()
    test_trouble.run_in(folder, stage)
    assert test_trouble.results(folder) == test_trouble.results(after(world, stage))
    litter = [path for path in (folder / "run").rglob(".*") if path.name.startswith(".")]
    assert litter == [], litter


def two_at_once(world: Path, place: Path, rng: random.Random) -> None:
    stage = rng.choice(STAGES[1:])
    folder = experiment_at(world, place, stage)
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            time.sleep(rng.uniform(0, 0.5))
            test_trouble.run_in(folder, stage)
            os._exit(0)
        children.append(child)
        rng.random()
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert test_trouble.results(folder) == test_trouble.results(after(world, stage))


# ---------------------------------------------------------------------------------- what was played is never lost


def signal_while_playing(world: Path, place: Path, rng: random.Random) -> None:
    number = rng.choice(SIGNALS)
    expected = test_recording.audio.read(world / "out.wav", RATE)
    with pytest.MonkeyPatch.context() as patch:
        test_recording.at_piece(rng.randrange(4, 79), lambda: os.kill(os.getpid(), number), patch)
        with pytest.raises(Interrupted, match="is kept"):
            stream(StreamRequest(world / "done/run", world / "in.wav", place / "o.wav", "Bass"), tiny.registry())
    stem = test_recording.audio.read(place / "o.wav", RATE)
    scale = np.abs(expected[: len(stem)]).max() / max(np.abs(stem).max(), 1e-9)
    np.testing.assert_allclose(scale * stem, expected[: len(stem)], atol=1e-3)


def killed_while_recording(world: Path, place: Path, rng: random.Random) -> None:
    sound = test_recording.noise(200_000)
    child = os.fork()
    if not child:
        recording = Recording(place / "a.wav", place / "a-mix.wav")
        for begin in range(0, len(sound), 160):
            recording.add(sound[begin : begin + 160], sound[begin : begin + 160], RATE)
        os._exit(0)
    while not (place / "a-mix.wav").exists():
        time.sleep(0.0005)
    time.sleep(rng.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for path in (place / "a.wav", place / "a-mix.wav"):
        np.testing.assert_array_equal(test_recording.whole(path), sound[: len(test_recording.whole(path))])


def full_disk_while_playing(world: Path, place: Path, rng: random.Random) -> None:
    expected = test_recording.audio.read(world / "out.wav", RATE)
    with pytest.MonkeyPatch.context() as patch:
        test_recording.full_after(patch, room := rng.randrange(2000, 8 * len(expected)))
        with pytest.raises(WorkError, match=r"the disk is full: .* is kept"):
            stream(StreamRequest(world / "done/run", world / "in.wav", place / "o.wav", "Bass"), tiny.registry())
    stem = test_recording.whole(place / "o.wav")
    assert 8 * len(stem) >= room - 8 * 640 - 8
    np.testing.assert_allclose(stem * 0.99 / max(0.99, np.abs(stem).max()), expected[: len(stem)], atol=1e-2)


# ------------------------------------------------------------------------------------------------------ a typo


def typo(world: Path, place: Path, rng: random.Random) -> None:
    stage = rng.choice(("ingest", "train", "generate", "evaluate"))
    folder = experiment_at(world, place, "ingest" if stage == "ingest" else "train")
    shutil.rmtree(folder / "run", ignore_errors=True)
    os.chdir(folder)
    wrong = rng.choice(['store.path="typo.zarr"', 'corpus.root="typo"'])
    wrong = 'corpus.root="typo"' if stage in ("ingest", "generate") else wrong
    wrong = 'store.path="typo.zarr"' if stage == "train" else wrong
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accomp.core.cli.main.Registry", tiny.registry)
        assert main([stage, "tiny.toml", "--set", wrong]) == 2
        assert not (folder / "run").exists()
        assert main(["ingest", "tiny.toml"]) == 0


def odd_audio(world: Path, folder: Path, rng: random.Random) -> None:
    kind = rng.choice(sorted(test_io_claims.FORMATS))
    content = bytearray(test_io_claims.encoded(kind))
    for _ in range(5):
        content[rng.choice((rng.randrange(100), rng.randrange(len(content))))] = rng.randrange(256)
    path = test_io_claims.put(folder, kind, bytes(content[: rng.choice((None, rng.randrange(len(content))))]))
    test_io_claims.read_or_named(path)


def odd_midi(world: Path, folder: Path, rng: random.Random) -> None:
    content = bytearray(midi_files.band())
    for _ in range(10):
        content[rng.randrange(len(content))] = rng.randrange(256)
    source = Source("x", "none", bytes(content))
    assert isinstance(look(source, longest=30.0), plan.Candidate | MidiError)


def odd_spec(world: Path, folder: Path, rng: random.Random) -> None:
    registry = Registry()
    spec = resolve(load_spec("quickstart", registry))
    for where in rng.sample(sorted(test_limits.leaves(spec), key=str), rng.randint(1, 3)):
        values = [0, -1, 1, 1000, 65_536, 10**6, -(10**6), 0.5, 10**15, 10**400, float("nan"), float("inf")]
        spec = test_limits.changed(spec, where, rng.choice(values))
    with suppress(UserError):
        check_combination(structure(spec, registry), registry)


def odd_checkpoint(world: Path, folder: Path, rng: random.Random) -> None:
    weights = {"model.a": torch.arange(500.0), "model.b": torch.ones(3, 4)}
    torch.save({"state_dict": weights}, folder / "x.ckpt")
    content = bytearray((folder / "x.ckpt").read_bytes())
    for _ in range(rng.randint(1, 3)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    (folder / "x.ckpt").write_bytes(content)
    with suppress(CheckpointError):
        found = checkpoint_files.load(folder / "x.ckpt")["state_dict"]
        assert all(torch.equal(found[name], weight) for name, weight in weights.items())


def odd_links(world: Path, folder: Path, rng: random.Random) -> None:
    folders = [folder / "a", folder / "a" / "b", folder / "c"]
    for number, song in enumerate(folders):
        for name in ("bass", "drums"):
            audio.write(song / f"{name}.wav", tiny.tone(1.1, number + 5 * (name == "bass")), RATE)
    for number in range(rng.randint(1, 6)):
        to = rng.choice([*folders, folder, folder.parent, folder / "nowhere"])
        (rng.choice([*folders, folder]) / f"link {number}").symlink_to(to)
    reader = Folder(Folder.Config(root=str(folder)))
    assert sorted(track.id for split in reader.splits for track in reader.tracks(split)) == ["a", "a/b", "c"]


@frozen
class Kind:
    """A row of the table.

    Attributes:
        what: the fault; right: the required result.
        times: number of tries of a usual run.
        attempt: one try, in a folder of its own; raises where the result is another.
    """

    name: str
    what: str
    right: str
    times: int
    attempt: Callable[[Path, Path, random.Random], None]


KINDS = [
    Kind("store", "20 bits flipped, one at a time, anywhere in a token store",
         "the same tokens, or an error that names the damage", 20, flipped_in_store),
    Kind("chunk", "20 bits flipped, one at a time, in the chunks of a token store", "an error that names the damage",
         10, flipped_in_chunk),
    Kind("metadata", "10 values in a store's metadata replaced, half of them in stores without checksums",
         "the same codes, or an error that names the damage", 20, changed_metadata),
    Kind("stem", "stems replaced, changed in place or touched", "the store of a fresh ingest", 10, changed_stem),
    Kind("take", "a take zeroed, cut, removed or with a flipped bit", "reported, not scored, and made again", 8,
         damaged_take),
    Kind("refused", "any write of any stage refused (ENOSPC, EDQUOT, EACCES, EIO, EROFS, EXDEV)",
         "exit 1; the same command ends with the same results", 20, refused_write),
    Kind("full", "no room from a random byte of any file on, in any stage",
         "exit 1; the same command ends with the same results", 20, full_disk_at_a_byte),
    Kind("killed", "any stage killed (-9) twice before random changes on the disk",
         "the same command ends with the same results, without leftover files", 20, killed_stage),
    Kind("two", "two of the same command in one run folder at once", "the results of one", 10, two_at_once),
    Kind("signal", "SIGINT, SIGTERM, SIGHUP or SIGQUIT at a random time of `accomp stream`",
         "the file holds what was played; the fault is reported", 20, signal_while_playing),
    Kind("recording", "a recording killed (-9) at a random time", "both files are whole", 40, killed_while_recording),
    Kind("room", "a disk full at a random byte of `accomp stream`", "the file holds what fitted; the fault is reported",
         10, full_disk_while_playing),
    Kind("header", "5 bytes of audio files (WAV, RF64, AIFF, W64, CAF, FLAC, Ogg, MP3) changed or cut off",
         "what is intact is read, or the error names the file", 40, odd_audio),
    Kind("midi", "10 bytes of a MIDI file changed", "a song of finite length, or the error names the file", 40,
         odd_midi),
    Kind("spec", "1 to 3 numbers of a spec replaced, by NaN and 10^15 too",
         "accepted, or an error that names the key; `check` ends", 40, odd_spec),
    Kind("checkpoint", "bits of another project's checkpoint flipped",
         "the same weights, or an error that names the damage", 20, odd_checkpoint),
    Kind("links", "links at random in a folder of stems", "every song once", 20, odd_links),
    Kind("typo", "a path misspelt, then spelt right", "the run folder is not occupied", 10, typo),
]  # fmt: skip
