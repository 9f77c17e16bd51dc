"""`accomp store`: counts that agree with what was ingested, and exit codes that a script can rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes import HOP, RATE, EnergyTokenizer, FolderCorpus, write_corpus, write_labels, write_track

from accomp.core.cli.main import main
from accomp.core.data.ingest.encode import PartEncoder
from accomp.core.data.ingest.stage import ingest_corpus
from accomp.core.data.loader import ClipLoader
from accomp.core.data.store_commands import REFERENCE_BYTES


def fill(corpus: Path, store: Path) -> None:
    ingest_corpus(FolderCorpus(FolderCorpus.Config(str(corpus))), PartEncoder(EnergyTokenizer()), store, submixes=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("store_commands")
    corpus = write_corpus(folder / "c", {"train": 2, "test": 1}, stems=2, seconds=21.0)
    write_labels(corpus / "train/t0", {"genre": "rock"}, **{"s0": {"role": "lead"}})
    write_track(corpus / "test/short", {"a-0": EnergyTokenizer().decode(EnergyTokenizer().encode(noise()))[0].numpy()})
    fill(corpus, folder / "s")
    return corpus, folder / "s"


def noise():
    import torch

    return torch.rand(1, RATE // 2)


def test_inspect_agrees_with_what_is_there(made, capsys):
    store = made[1]
    assert main(["store", "inspect", str(store), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"]["train"] == {
        "songs": 2,
        "hours": pytest.approx(42 / 3600),
        "stems": 4,
        "mixtures": 0,
        "pairs": 8,
    }
    assert found["splits"]["test"]["songs"] == 1
    assert found["tokenizer"]["name"] == "energy"
    assert found["tokenizer"]["fingerprint"] == "loud"
    assert found["labels"] == {"instrument": {"Piano": 3, "Bass": 3}, "genre": {"rock": 2}, "role": {"lead": 1}}
    assert found["left_out"]["songs"] == {"too short": 1}
    assert found["bytes"] == sum(path.stat().st_size for path in (store / "tracks").glob("*/*/**/*") if path.is_file())
    loaders = [
        ClipLoader(store, split, EnergyTokenizer(), frames=20 * RATE // HOP, batch=1) for split in ("train", "test")
    ]
    assert found["examples"] == sum(map(len, loaders))
    assert found["bytes_an_example"] == pytest.approx(found["bytes"] / found["examples"])


def test_inspect_is_said_in_words(made, capsys):
    assert main(["store", "inspect", str(made[1])]) == 0
    told = capsys.readouterr().out
    for words in (
        "format version 5", "tokenizer energy: fingerprint loud, sample_rate 32000", "inputs uniform",
        "never_targets Unknown and Vocal", "train: 2 songs, 0.01 hours, 4 stems, 0 mixtures, 8 pairs",
        "stems by genre: rock 2", "from folder of tests (CC0): 3 songs", "left out: 1 songs",
        f"of the reference's {REFERENCE_BYTES // 1000} kB",
    ):  # fmt: skip
        assert words in told


def test_verify_leaves_with_1_and_what_it_takes_out_is_ingested_again(made, tmp_path, capsys):
    corpus, sound = made
    fill(corpus, tmp_path / "s")
    assert main(["store", "verify", str(tmp_path / "s")]) == 0
    assert "3 songs; 3 are what was written, by checksum" in capsys.readouterr().out
    shard = tmp_path / "s/tracks/train/t1/codes/c/0/0/0"
    rotten = bytearray(shard.read_bytes())
    rotten[40] ^= 4
    shard.write_bytes(rotten)
    assert main(["store", "verify", str(tmp_path / "s")]) == 1
    told = capsys.readouterr().out
    assert "1 must be ingested again:\n  train/t1: codes/c/0/0/0 is not what was written" in told
    assert "1 songs were left out by the last ingest" in told
    assert main(["store", "verify", str(tmp_path / "s"), "--remove"]) == 1
    assert "run `accomp ingest SPEC`" in capsys.readouterr().out
    assert main(["store", "verify", str(tmp_path / "s")]) == 0
    fill(corpus, tmp_path / "s")
    files = {path.relative_to(sound): path.read_bytes() for path in sound.rglob("*") if path.is_file()}
    assert {p.relative_to(tmp_path / "s"): p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file()} == files


def test_what_is_no_store_leaves_with_2(tmp_path, capsys):
    for command in ("inspect", "verify"):
        assert main(["store", command, str(tmp_path / "nowhere")]) == 2
        assert "no such token store" in capsys.readouterr().err
    assert main(["store", "inspect", "nonsense://x"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_a_plugin_cannot_hide_the_commands(monkeypatch, capsys):
    from accomp.core.component import Component
    from accomp.core.registry import Registry

    monkeypatch.setattr(Registry, "components", lambda self, kind=None: [Component("command", "store mine", "x:y", "")])
    assert main(["store", "inspect", "x"]) == 2
    assert "would hide or nest" in capsys.readouterr().err
