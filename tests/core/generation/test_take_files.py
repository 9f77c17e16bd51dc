"""Takes are judged as they were made or not at all, and whatever has become of one, generate makes it again."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny

from accomp.core.errors import WorkError
from accomp.core.evaluation.evaluate import RECORD, evaluate
from accomp.core.generation.generate import generate
from accomp.core.report.data import read_run


@pytest.fixture
def made(generated: tiny.Trained, tmp_path: Path) -> tiny.Trained:
    return generated.copy(tmp_path / "run")


def first_take(made: tiny.Trained) -> Path:
    return sorted((made.run / "takes").iterdir())[0]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of the takes but for how long playing took."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.wav")}
    for path in folder.glob("*/take.json"):
        record = json.loads(path.read_text())
        found[path.parent.name] = json.dumps({name: record[name] for name in record if name != "timings"}).encode()
    return found


def zeroed(take: Path) -> None:
    data = (take / "stem.wav").read_bytes()
    (take / "stem.wav").write_bytes(data[:44] + bytes(len(data) - 44))


def another_take(take: Path) -> None:
    other = sorted(take.parent.iterdir())[1]
    shutil.rmtree(take)
    shutil.copytree(other, take)


def edited(take: Path) -> None:
    record = json.loads((take / "take.json").read_text())
    (take / "take.json").write_text(json.dumps({**record, "instrument": (record["instrument"] + 1) % 3}) + "\n")


DAMAGE = {
    "zeroed": (zeroed, "stem.wav is not what was made"),
    "cut": (lambda take: (take / "stem.wav").write_bytes((take / "stem.wav").read_bytes()[:1000]), "stem.wav has 1000"),
    "empty": (lambda take: (take / "true.wav").write_bytes(b""), "true.wav has 0 bytes of"),
    "removed": (lambda take: (take / "context.wav").unlink(), "context.wav is gone"),
    "one of another take": (
        lambda take: shutil.copyfile(sorted(take.parent.iterdir())[1] / "stem.wav", take / "stem.wav"),
        "stem.wav is not what was made",
    ),
    "another take": (another_take, "take.json is not what was made"),
    "folder removed": (shutil.rmtree, "take.json is gone or broken"),
    "record torn": (lambda take: (take / "take.json").write_text("torn {"), "take.json is gone or broken"),
    "record edited": (edited, "take.json is not what was made"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_take_is_named_and_never_judged_and_made_again(made: tiny.Trained, case: str) -> None:
    expected = contents(made.run / "takes")
    take = first_take(made)
    spoil, told = DAMAGE[case]
    spoil(take)
    for look in (lambda: evaluate(made.spec(), made.registry, made.run), lambda: read_run(made.run)):
        with pytest.raises(WorkError) as caught:
            look()
        assert f"take '{take.name}': {told}" in str(caught.value)
        assert "1 of 3 takes are damaged; run `accomp generate SPEC`, which makes them again" in str(caught.value)
    assert not (made.run / RECORD).exists()
    generate(made.spec(), made.registry, made.run)
    assert contents(made.run / "takes") == expected or case == "record edited"
    evaluate(made.spec(), made.registry, made.run)
    assert len(read_run(made.run).takes) == 3


def test_no_flipped_bit_of_a_take_is_judged(made: tiny.Trained) -> None:
    rng = random.Random(0)
    paths = [path for path in sorted((made.run / "takes").rglob("*")) if path.is_file()]
    for _ in range(40):
        path = rng.choice(paths)
        whole = path.read_bytes()
        rotten = bytearray(whole)
        rotten[rng.randrange(len(rotten))] ^= 1 << rng.randrange(8)
        path.write_bytes(rotten)
        with pytest.raises(WorkError, match=path.parent.name):
            read_run(made.run)
        path.write_bytes(whole)
    assert len(read_run(made.run).takes) == 3


def test_only_what_is_damaged_is_made_again(made: tiny.Trained, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (made.run / "takes").glob("*/take.json")}
    zeroed(first_take(made))
    generate(made.spec(), made.registry, made.run)
    assert f"take {first_take(made).name} is regenerated: stem.wav is not what was made" in capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in (made.run / "takes").glob("*/take.json")}
    assert {path for path in after if after[path] != before[path]} == {first_take(made) / "take.json"}


def test_takes_of_an_earlier_accomp_are_judged_and_told(made: tiny.Trained, capsys: pytest.CaptureFixture[str]) -> None:
    for path in [*(made.run / "takes").glob("*/take.json"), made.run / "takes.json"]:
        record = json.loads(path.read_text())
        record.pop("files", None)
        record.pop("sha256", None)
        path.write_text(json.dumps(record))
    evaluate(made.spec(), made.registry, made.run)
    assert "without hashes: changes to them cannot be detected; remove" in capsys.readouterr().err
    (first_take(made) / "mix.wav").unlink()
    with pytest.raises(WorkError, match=r"mix.wav is gone"):
        evaluate(made.spec(), made.registry, made.run)
    shutil.rmtree(made.run / "takes")
    generate(made.spec(), made.registry, made.run)
    capsys.readouterr()
    evaluate(made.spec(), made.registry, made.run)
    assert "without hashes" not in capsys.readouterr().err


def test_scores_of_other_takes_are_not_shown(made: tiny.Trained, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(made.spec(), made.registry, made.run)
    assert read_run(made.run).metrics is not None
    generate(made.spec(sampler={"plugin": "top_k", "k": 2}), made.registry, made.run)
    assert read_run(made.run).metrics is None
    assert "the scores are those of other takes and left out; run `accomp evaluate SPEC`" in capsys.readouterr().err


def test_what_was_found_out_about_a_sound_is_found_out_again_where_it_has_rotted(tmp_path: Path) -> None:
    from accomp.core.evaluation.cache import Cache

    sound, asked = np.ones(100, dtype=np.float32), []

    def compute(audio: np.ndarray) -> np.ndarray:
        asked.append(len(audio))
        return np.arange(50.0)

    Cache(tmp_path).array("what", sound, compute)
    (path,) = tmp_path.rglob("*.npy")
    assert np.array_equal(np.load(path), np.arange(50.0)), "others may read it too"
    rng = random.Random(0)
    for count in range(2, 22):
        rotten = bytearray(path.read_bytes())
        rotten[rng.randrange(len(rotten))] ^= 1 << rng.randrange(8)
        path.write_bytes(rotten)
        assert np.array_equal(Cache(tmp_path).array("what", sound, compute), np.arange(50.0))
        assert len(asked) == count
    Cache(tmp_path).array("what", sound, compute)
    assert len(asked) == 21
