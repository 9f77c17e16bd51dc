"""accomp import-checkpoint stream-music-gen: whole runs of good files, clear words about all others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_arithmetic as reference
import tiny
import torch
from reference_runs import LIKE, imported, registry, saved

from accomp.core.audio import io as audio
from accomp.core.cli.main import main
from accomp.core.errors import UserError
from accomp.core.evaluation.evaluate import evaluate
from accomp.core.generation.generate import generate
from accomp.core.report import write_report
from accomp.core.runs.checkpoint import load_run
from accomp.core.runs.folder import open_run
from accomp.core.spec.schema import load_spec, structure
from accomp.core.training.trainer import train
from accomp.plugins.importers.stream_music_gen.command import import_run

MAGNITUDE = {"latents": 80, "codes": 1024}
"""Sizes of the shipped codec."""


def refused(file: Path, folder: Path, **given: Any) -> list[str]:
    """Each line of what an import of the file says, which leaves nothing behind."""
    before = sorted(folder.iterdir()) if folder.is_dir() else folder.exists()
    with pytest.raises(UserError) as error:
        imported(file, folder, **given)
    assert before == (sorted(folder.iterdir()) if folder.is_dir() else folder.exists())
    return list(error.value.problems)


# --- a run that works --------------------------------------------------------------------------------------------


def test_the_command_makes_a_run_that_streams(tmp_path, capsys):
    weights = {f"model._orig_mod.{name}": w for name, w in reference.random_weights("add", t_f=-3, **MAGNITUDE).items()}
    codec = {f"tokenizer.model.{name}": torch.zeros(2) for name in ("encoder.weight", "decoder.weight", "decoder.bias")}
    file, run = tmp_path / "jam.ckpt", tmp_path / "run"
    torch.save({"state_dict": weights | codec, "global_step": 4000, "epoch": 3}, file)
    import_it = ["import-checkpoint", "stream-music-gen", str(file), "--like", "quickstart", "--run", str(run)]
    assert main([*import_it, "--chunk", "1", "--attention-scale", "0.125", "--set", "train.frames=100"]) == 0
    told = capsys.readouterr().out
    for expected in (
        "t_f = -3, k = 1", "2 layers, width 64, 4 heads of 64, 4 levels of 1024 codes", "attention scale 0.125",
        "left out: 3 weights of its codec", "looks back 100 frames", str(run / "spec.toml"),
    ):  # fmt: skip
        assert expected in told, expected

    audio.write(tmp_path / "in.wav", tiny.tone(0.5, 1), 32000)
    files = ["--input", str(tmp_path / "in.wav"), "--output", str(tmp_path / "out.wav")]
    assert main(["stream", str(run), *files, "--instrument", "Bass"]) == 0
    assert "model of step 4000" in capsys.readouterr().out
    assert np.abs(audio.read(tmp_path / "out.wav", 32000)).max() > 0

    assert main([*import_it, "--chunk", "1"]) == 2
    assert "choose another --run" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "sampler"), [("add", "top_k"), ("offline", "top_k"), ("stemgen", "vampnet")])
def test_its_spec_takes_the_run_through_the_other_stages(kind, sampler, tmp_path, capsys):
    file = saved(reference.random_weights(kind, **MAGNITUDE), tmp_path / "x.ckpt")
    data = tiny.plain(tiny.corpus(tmp_path / "corpus", test=2), tmp_path / "run", tmp_path / "store.zarr")
    data |= {"tokenizer": {"plugin": "magnitude"}, "sampler": {"plugin": sampler}}
    data |= {"generate": {"takes": 1, "seconds": 0.6}, "evaluate": {"anchors": 2}}
    if kind == "stemgen":
        data["sampler"] = {"plugin": sampler, "steps": [3]}
        data["guidance"] = {"context": 2.0}
    k = 5 if kind == "add" else None
    made = import_run(file, tiny.spec_of(data), tmp_path / "run", tiny.registry(), scale=10.0, t_f=None, k=k)

    spec = load_spec(tmp_path / "run" / "spec.toml", tiny.registry())
    assert spec == made
    run = open_run(spec)
    assert run == tmp_path / "run"
    train(spec, tiny.registry(), run)
    assert "already trained" in capsys.readouterr().out
    generate(spec, tiny.registry(), run)
    evaluate(spec, tiny.registry(), run)
    write_report(spec, tiny.registry(), run)
    assert (run / "report.html").stat().st_size > 1000


def test_weights_of_other_precisions_are_read(tmp_path):
    w = reference.random_weights("add", t_f=-1)
    whole = imported(saved(w, tmp_path / "a.ckpt"), tmp_path / "a", k=1)
    half = imported(
        saved({name: weight.bfloat16() for name, weight in w.items()}, tmp_path / "b.ckpt"), tmp_path / "b", k=1
    )
    for name, weight in half.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.allclose(weight, whole.state_dict()[name], rtol=0.01)


# --- which clock -------------------------------------------------------------------------------------------------

CHUNKED = {"OnlinePrefixDecoderTransformerMultiOut.chunk_length": 4}


@pytest.mark.parametrize(
    ("rows_of", "arguments", "given", "clock"),
    [
        (-2, {}, {"k": 1}, (-2, 1)),
        (-2, {}, {"k": 7, "t_f": -2}, (-2, 7)),
        (3, {}, {"k": 1, "t_f": 3}, (3, 1)),
        (0, {"DecoderTransformerMultiOut.dim": 64}, {}, (0, 1)),
        (0, CHUNKED, {}, (0, 4)),
        (5, {**CHUNKED, "OnlinePrefixDecoderTransformerMultiOut.future_visibility": 5}, {}, (5, 4)),
        (5, {**CHUNKED, "OnlinePrefixDecoderTransformerMultiOut.future_visibility": 5, "lr": 1e-4}, {"k": 4}, (5, 4)),
    ],
)
def test_who_tells_the_clock(rows_of, arguments, given, clock, tmp_path):
    """Weights, options, or the args.yml that training writes beside them."""
    file = saved(reference.random_weights("add", t_f=rows_of), tmp_path / "x.ckpt")
    (tmp_path / "args.yml").write_text("".join(f"{name}: {value}\n" for name, value in arguments.items()))
    made = imported(file, tmp_path / "run", **given).clock
    assert (made.t_f, made.k) == clock
    assert load_run(tmp_path / "run", registry()).spec.objective.plugin == ("ar" if clock[1] == 1 else "prefix")


@pytest.mark.parametrize(
    ("rows_of", "arguments", "given", "words"),
    [
        (-2, {}, {}, ["streaming or a chunked", "--chunk 1"]),
        (2, {}, {"k": 1}, ["no input_padding", "give --t-f"]),
        (2, {}, {"k": 1, "t_f": -1}, ["t_f is -1", "no input_padding"]),
        (-2, {}, {"k": 1, "t_f": 4}, ["t_f is 4 by --t-f, but -2 by the 3 rows of input_padding"]),
        (-2, CHUNKED, {"k": 1}, ["k is 1 by --chunk, but 4 by args.yml"]),
        (
            -2,
            {"DecoderTransformerMultiOut.dim": 1},
            {"k": 3},
            ["k is 3 by --chunk, but 1 by DecoderTransformerMultiOut"],
        ),
        (-2, {}, {"k": 0}, ["k is 0", "at least one"]),
        (-2, {"OnlinePrefixDecoderTransformerMultiOut.chunk_length": "ten"}, {}, ["k is 'ten' by args.yml"]),
        (-2, {"max_duration": 10}, {"k": 1}, ["clips of 10 s by args.yml", "--set train.frames=500"]),
    ],
)
def test_a_clock_that_is_unclear_or_contradicted(rows_of, arguments, given, words, tmp_path):
    file = saved(reference.random_weights("add", t_f=rows_of), tmp_path / "x.ckpt")
    (tmp_path / "args.yml").write_text("".join(f"{name}: {value}\n" for name, value in arguments.items()))
    (problem,) = refused(file, tmp_path / "run", **given)
    for word in [*words, str(file)]:
        assert word in problem


def test_args_that_are_no_yaml(tmp_path):
    file = saved(reference.random_weights("add"), tmp_path / "x.ckpt")
    (tmp_path / "args.yml").write_text("a: [")
    (problem,) = refused(file, tmp_path / "run", k=1)
    assert "args.yml" in problem


def test_models_of_whole_clips_have_no_clock(tmp_path):
    file = saved(reference.random_weights("offline"), tmp_path / "x.ckpt")
    first, second = refused(file, tmp_path / "run", t_f=0, k=1)
    assert "--t-f 0: a model of the kind 'offline prefix' has no clock" in first
    assert "--chunk 1" in second


# --- what does not fit -------------------------------------------------------------------------------------------


def test_everything_around_the_model_is_told_at_once(tmp_path):
    file = saved(reference.random_weights("add", t_f=-1), tmp_path / "x.ckpt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    codec = {"plugin": "named", "codebook_size": 64}
    scale, folder, t_f, k, space = refused(file, tmp_path / "run", scale=-1.0, t_f=5, tokenizer=codec)
    assert "positive number, got -1 @ --attention-scale" in scale
    assert f"@ {tmp_path / 'run'}" in folder
    assert "4 levels of 32 codes, latents 24 wide" in space
    assert "'named' of --like has 4 levels of 64 codes" in space
    assert "t_f is 5" in t_f
    assert "--chunk" in k


def test_a_sampler_that_cannot_play_the_model(tmp_path):
    file = saved(reference.random_weights("stemgen"), tmp_path / "x.ckpt")
    (problem,) = refused(file, tmp_path / "run")
    assert "'mlm'" in problem
    assert "'greedy'" in problem


def test_everything_that_is_wrong_with_the_weights_is_told_at_once(tmp_path):
    w = reference.random_weights("add", t_f=-1)
    del w["add_gate"], w["decoder.attn_layers.layers.2.1.to_k.weight"]
    w["input_pos_enc.scale"] = torch.ones(1)
    w["ln_out.bias"] = torch.zeros(60)
    w["decoder.attn_layers.layers.1.1.ff.2.weight"] = torch.zeros(64, 128, 1)
    w["ln_fuse.weight"][3] = torch.nan
    w["decoder.attn_layers.rotary_pos_emb.inv_freq"] *= 3
    told = refused(saved(w, tmp_path / "x.ckpt"), tmp_path / "run", k=1)
    assert "kind 'streaming'" in told[0]
    text = "\n".join(told)
    for words in (
        "missing: add_gate, decoder.attn_layers.layers.2.1.to_k.weight @",
        "no weights of these names: input_pos_enc.scale",
        "ln_out.bias has shape (60,), expected (64)",
        "layers.1.1.ff.2.weight has shape (64, 128, 1), expected (64, 256)",
        "ln_fuse.weight holds",
        "inv_freq is not that of rotary positions with base 10000",
    ):
        assert words in text, words
    assert len(told) == 7
    assert all(str(tmp_path / "x.ckpt") in problem for problem in told)


@pytest.mark.parametrize("name", sorted(reference.random_weights("add", t_f=-1)))
def test_no_weight_can_be_missing_or_of_another_shape(name, tmp_path):
    w = reference.random_weights("add", t_f=-1)
    longer = {**w, name: torch.cat([w[name], w[name][:1]])}
    told = "\n".join(refused(saved(longer, tmp_path / "a.ckpt"), tmp_path / "run", k=1, t_f=-1))
    assert name.split("rotary_pos_emb.")[-1] in told
    told = "\n".join(
        refused(saved({n: x for n, x in w.items() if n != name}, tmp_path / "b.ckpt"), tmp_path / "run", k=1)
    )
    assert name in told


def test_stemgen_s_heads_stand_twice_and_must_be_the_same(tmp_path):
    w = reference.random_weights("stemgen")
    w["encoder.to_logits.output_fc.2.bias"] = w["encoder.to_logits.output_fc.2.bias"] + 1
    told = refused(saved(w, tmp_path / "x.ckpt"), tmp_path / "run")
    assert "encoder.to_logits.output_fc.2.bias differs from output_layer.output_fc.2.bias" in told[1]
    once = {name: weight for name, weight in w.items() if "to_logits" not in name}
    imported(saved(once, tmp_path / "x.ckpt"), tmp_path / "run", sampler={"plugin": "vampnet"})


def test_fusing_by_film_is_refused_by_name(tmp_path):
    w = reference.random_weights("add")
    del w["add_gate"]
    w |= {"film_gen.0.weight": torch.zeros(256, 128), "film_gen.0.bias": torch.zeros(256)}
    (problem,) = refused(saved(w, tmp_path / "x.ckpt"), tmp_path / "run")
    assert "FiLM" in problem
    assert "concat" in problem


# --- files of another kind ---------------------------------------------------------------------------------------


class Code:
    """Something that is restored by running code."""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state_dict": {"encoder.model.0.weight": torch.zeros(2)}}, ["none of the models", "encoder.model.0.weight"]),
        ({"state_dict": {}}, ["none of the models"]),
        ({"weights": {}}, ["under 'state_dict'", "weights"]),
        ([1, 2], ["under 'state_dict'", "list"]),
        ({"state_dict": {"a": 1}}, ["under 'state_dict'"]),
        ({"state_dict": {}, "config": Code()}, ["more than tensors", "run its code", "weights_only"]),
    ],
)
def test_files_of_another_kind(content, words, tmp_path):
    torch.save(content, tmp_path / "x.ckpt")
    (problem,) = refused(tmp_path / "x.ckpt", tmp_path / "run")
    for word in [*words, str(tmp_path / "x.ckpt")]:
        assert word in problem


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"RIFF\x00\x00 not torch")
    whole = saved(reference.random_weights("add"), tmp_path / "whole.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    for name in ("x.ckpt", "cut.ckpt"):
        (problem,) = refused(tmp_path / name, tmp_path / "run")
        assert f"@ {tmp_path / name}" in problem
    (problem,) = refused(tmp_path / "none.ckpt", tmp_path / "run")
    assert "no such file" in problem


def test_the_spec_it_is_like_must_be_one(tmp_path, capsys):
    file = saved(reference.random_weights("add"), tmp_path / "x.ckpt")
    assert main(["import-checkpoint", "stream-music-gen", str(file), "--like", "quickstrt"]) == 2
    assert "did you mean 'quickstart'" in capsys.readouterr().err
    assert structure(LIKE, registry()).clock.t_f == 7, "and its own model and clock count for nothing"


def test_a_shipped_spec_of_another_codec_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = saved(reference.random_weights("add"), tmp_path / "x.ckpt")
    assert main(["import-checkpoint", "stream-music-gen", str(file), "--like", "quickstart", "--chunk", "1"]) == 2
    assert "tokenizer 'magnitude' of --like has 4 levels of 1024 codes, latents 80 wide" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.ckpt"]
