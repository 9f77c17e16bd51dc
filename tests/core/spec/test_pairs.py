"""The rules of pairs: each does what it says or is refused, and a store remembers those it was made by."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny
from fakes import EnergyTokenizer, FolderCorpus, tone, write_corpus, write_track

from accomp.core.data.excerpts import choose
from accomp.core.data.ingest.encode import PartEncoder
from accomp.core.data.ingest.stage import ingest_corpus
from accomp.core.data.ingest.summary import IngestSummary
from accomp.core.data.loader import ClipLoader
from accomp.core.data.windows import starts, windows
from accomp.core.errors import DataError, SpecError
from accomp.core.music.instruments import CLASSES
from accomp.core.runs.folder import open_run
from accomp.core.spec.pairs import PairRules
from accomp.core.spec.schema import resolve
from accomp.core.types import Track
from accomp.zarr_store.reader import Store

TOKENIZER = EnergyTokenizer()
VOCAL = CLASSES.index("Vocal")


def corpus(root: Path) -> FolderCorpus:
    return FolderCorpus(FolderCorpus.Config(str(root)))


def ingest(root: Path, store: Path, rules: PairRules | None = None, submixes: int = 1) -> IngestSummary:
    return ingest_corpus(corpus(root), PartEncoder(TOKENIZER), store, submixes=submixes, seed=0, rules=rules)


def loader(store: Path, frames: int = 50, **rules) -> ClipLoader:
    return ClipLoader(store, "train", TOKENIZER, frames=frames, batch=2, rules=PairRules(**rules))


def test_all_others_accompany_a_target_where_the_rule_says_so(tmp_path):
    write_corpus(tmp_path / "c", {"train": 2}, stems=5, seconds=1.5)
    ingest(tmp_path / "c", tmp_path / "s", PairRules(inputs="all"))
    for record in Store(tmp_path / "s").records():
        assert len(record.pairs) == 5
        for pair in record.pairs:
            (target,) = record.parts[pair.target].members
            assert set(record.parts[pair.context].members) == {f"s{k}" for k in range(5)} - {target}


def test_the_rules_say_what_is_learned(tmp_path):
    write_track(tmp_path / "c/train/t", {"a-0": tone(2.0, 0), f"v-{VOCAL}": tone(2.0, 1), "b-4": tone(2.0, 2)})
    heard = {"usual": PairRules(), "voices": PairRules(never_targets=("Piano",)), "all": PairRules(never_targets=())}
    learned, told = {}, {}
    for name, rules in heard.items():
        told[name] = ingest(tmp_path / "c", tmp_path / name, rules).context_only
        (record,) = Store(tmp_path / name).records()
        learned[name] = {record.parts[pair.target].members[0] for pair in record.pairs}
    assert learned == {"usual": {"a", "b"}, "voices": {"b", "v"}, "all": {"a", "b", "v"}}
    assert told == {"usual": {"Vocal": 1}, "voices": {"Piano": 1}, "all": {}}
    ingest(tmp_path / "c", tmp_path / "none", PairRules(never_targets=("Piano", "Bass", "Vocal")))
    (skip,) = Store(tmp_path / "none").skipped()
    assert "pairs.never_targets: Piano, Bass, Vocal" in skip.reason


def test_a_summary_says_what_is_only_heard(tmp_path):
    for number in range(2):
        write_track(tmp_path / f"c/train/t{number}", {"a-0": tone(2.0, number), f"v-{VOCAL}": tone(2.0, 5)})
    assert "2 stems are input only, never targets (pairs.never_targets): Vocal 2" in str(
        ingest(tmp_path / "c", tmp_path / "s")
    )


def test_the_rules_say_what_is_silent(tmp_path):
    """A stem 36 dB below the others sounds at -60 dB, and is silent throughout at -42 dB."""
    write_track(
        tmp_path / "c/train/t", {"a-0": tone(2.0, 0), "b-4": tone(2.0, 1), "q-8": 1.5e-2 * tone(2.0, 2)}, suffix="wav"
    )
    stems = {}
    for name, db in (("usual", -60.0), ("loud", -42.0)):
        ingest(tmp_path / "c", tmp_path / name, PairRules(silence_db=db))
        (record,) = Store(tmp_path / name).records()
        stems[name] = [part.members[0] for part in record.stems], [file.skipped for file in record.skipped]
    assert stems == {"usual": (["a", "b", "q"], []), "loud": (["a", "b"], ["silent throughout"])}


@pytest.mark.parametrize(("overlap", "length"), [(0.0, 50), (0.5, 50), (0.5, 25), (0.75, 48), (0.9, 50), (0.999, 20)])
def test_windows_begin_as_far_apart_as_their_overlap_says(overlap, length):
    rules = PairRules(overlap=overlap)
    found = starts(333, length, rules)
    step = max(1, int(round(length * (1 - overlap), 6)))
    assert found[0] == 0
    assert found[-1] == 333 - length
    assert set(np.diff(found)[:-1]) == {step}
    assert 0 < np.diff(found)[-1] <= step
    assert starts(length, length, rules).tolist() == starts(length - 7, length, rules).tolist() == [0]


@pytest.mark.parametrize("sounding", [0.0, 0.1, 1 / 3, 0.5, 0.9, 1.0])
def test_a_window_is_kept_by_its_share_of_sound(sounding):
    """Against counting each window by itself; every window is kept, or rejected for one reason."""
    rng, length = np.random.default_rng(0), 30
    rules = PairRules(sounding=sounding)
    target, mixture = (np.repeat(rng.random(40) < share, 10) for share in (0.7, 0.6))
    kept, rejected = windows(target, mixture, length, rules)
    counted: Counter[str] = Counter()
    expected = []
    for start in starts(400, length, rules):
        a, b = target[start : start + length], mixture[start : start + length]
        shares = {"target silent": a.mean(), "mixture silent": b.mean(), "never together": (a & b).mean()}
        too_little = [reason for reason, share in shares.items() if share < sounding - 1e-9]
        if too_little:
            counted[too_little[0]] += 1
        else:
            expected.append(start)
    assert kept.tolist() == expected
    assert +rejected == counted


def test_a_song_shorter_than_a_window_must_sound_in_as_many_frames(tmp_path):
    rules = PairRules()
    sounds = np.ones(60, dtype=bool)
    assert windows(sounds, sounds, 120, rules)[0].tolist() == [0]
    assert windows(sounds, sounds, 121, rules)[1]["target silent"] == 1


def test_a_loader_follows_the_rules_and_tells_what_was_rejected(tmp_path):
    write_track(tmp_path / "c/train/t", {"a-0": tone(4.0, 0, silent=(1.0, 3.0)), "b-4": tone(4.0, 1)})
    ingest(tmp_path / "c", tmp_path / "s")
    first = {
        overlap: sorted(clip.start for clip in loader(tmp_path / "s", overlap=overlap, sounding=0.0).fixed_clips(99))
        for overlap in (0.0, 0.8)
    }
    assert first == {0.0: [0, 0, 50, 50, 100, 100, 150, 150], 0.8: sorted(2 * [*range(0, 151, 10)])}
    strict = loader(tmp_path / "s", overlap=0.0, sounding=0.9)
    assert sorted((clip.pair.target, clip.start) for clip in strict.fixed_clips(99)) == [
        ("a", 0), ("a", 150), ("b", 0), ("b", 150)
    ]  # fmt: skip
    assert strict.describe() == (
        "4 clips of 1 s out of 1 songs; windows not kept: 2 target silent, 2 mixture silent, 0 never together"
    )


def test_a_store_of_other_rules_is_refused(tmp_path):
    write_corpus(tmp_path / "c", {"train": 1}, seconds=1.5)
    ingest(tmp_path / "c", tmp_path / "s", PairRules(never_targets=("Vocal", "Piano")))
    loader(tmp_path / "s", never_targets=("Piano", "Vocal"), sounding=0.2, overlap=0.1)
    with pytest.raises(DataError) as caught:
        loader(tmp_path / "s", inputs="all", silence_db=-50.0)
    for told in ("pairs.inputs is 'uniform' there, 'all' in the spec", "pairs.silence_db is -60.0 there, -50.0",
                 "pairs.never_targets is ['Piano', 'Vocal'] there", "another store path"):  # fmt: skip
        assert told in str(caught.value)
    with pytest.raises(DataError, match=r"inputs = uniform.*inputs = all.*another store path"):
        ingest(tmp_path / "c", tmp_path / "s", PairRules(inputs="all", never_targets=("Vocal", "Piano")))


def test_a_store_from_before_the_rules_goes_on(tmp_path):
    """It was made by the rules of a spec without [pairs], and says nothing of them."""
    write_corpus(tmp_path / "c", {"train": 2}, seconds=1.5)
    ingest(tmp_path / "c", tmp_path / "s")
    root = tmp_path / "s/zarr.json"
    new = root.read_bytes()
    old = json.loads(new)
    del old["attributes"]["checksums"]
    old["attributes"] |= {"version": 2, "ingest": {"submixes": 1, "seed": 0}}
    root.write_text(json.dumps(old))
    assert len(loader(tmp_path / "s")) > 0
    for other in ({"inputs": "all"}, {"silence_db": -50.0}):
        with pytest.raises(DataError, match="another store path"):
            loader(tmp_path / "s", **other)
        with pytest.raises(DataError, match="another store path"):
            ingest(tmp_path / "c", tmp_path / "s", PairRules(**other))
    assert ingest(tmp_path / "c", tmp_path / "s").added == 0
    assert root.read_bytes() == new


def test_clips_to_be_judged_follow_the_rules_too(tmp_path):
    write_track(tmp_path / "c/test/t", {"a-0": tone(4.0, 0), f"v-{VOCAL}": tone(4.0, 1), "b-4": 1.5e-2 * tone(4.0, 2)})
    tracks: list[Track] = list(corpus(tmp_path / "c").tracks("test"))

    def targets(**rules) -> set[str]:
        return {excerpt.target for excerpt in choose(tracks, 6, 1.0, seed=0, rules=PairRules(**rules))[0]}

    assert targets() == {"a", "b"}
    assert targets(never_targets=("Bass",)) == {"a", "v"}
    assert targets(silence_db=-42.0) == {"a"}
    assert targets(sounding=0.0, silence_db=-42.0) == {"a", "b"}


def test_mistakes_in_the_rules_are_told(tmp_path):
    sections = {
        "inputs": ("some", "'some' is not among the choices"),
        "never_targets": (["Piano", "Vocals"], r"no instrument class is called 'Vocals'; did you mean 'Vocal'"),
        "silence_db": (-120.0, "silence_db"),
        "sounding": (1.5, "sounding"),
        "overlap": (1.0, "overlap"),
    }
    data = tiny.plain(tmp_path, tmp_path / "run", tmp_path / "s")
    with pytest.raises(SpecError) as caught:
        tiny.spec_of({**data, "pairs": {name: value for name, (value, _) in sections.items()}})
    assert len(caught.value.problems) == len(sections)
    for name, (_, told) in sections.items():
        assert any(f"pairs.{name}" in problem and told in problem for problem in caught.value.problems), name
    with pytest.raises(SpecError, match=r"store\.submixes is 2; set it to 1 @ spec: pairs"):
        tiny.spec_of({**data, "pairs": {"inputs": "all"}})
    one = tiny.spec_of({**data, "pairs": {"inputs": "all"}, "store": {"path": "s", "submixes": 1}})
    assert tiny.spec_of(resolve(one)).pairs == PairRules(inputs="all")


def test_a_run_from_before_the_rules_goes_on(tmp_path):
    data = tiny.plain(tmp_path, tmp_path / "run", tmp_path / "s")
    (open_run(tiny.spec_of(data)) / "checkpoints" / "step_000001").mkdir(parents=True)
    file = tmp_path / "run/spec.json"
    new = file.read_text()
    old = json.loads(new)
    del old["pairs"]
    file.write_text(json.dumps(old))
    with pytest.raises(SpecError, match=r"pairs\.overlap is 0\.25 now, 0\.5 there"):
        open_run(tiny.spec_of({**data, "pairs": {"overlap": 0.25}}))
    open_run(tiny.spec_of(data))
    assert file.read_text() == new
