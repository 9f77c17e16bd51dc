"""Checkpoints as people have them: wrapped, old, damaged, or no checkpoints at all. Read, or named; nothing hangs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import reference_arithmetic as reference
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference_runs import imported

from accomp.core.cli.main import main
from accomp.core.errors import CheckpointError, UserError
from accomp.plugins.importers.checkpoint_files import arguments, load

WEIGHTS = reference.random_weights("add", t_f=-1)


def file_of(folder: Path, weights: dict, **more: object) -> Path:
    torch.save({"state_dict": weights, "global_step": 7, **more}, folder / "x.ckpt")
    return folder / "x.ckpt"


@pytest.mark.parametrize(
    "before", ["model.", "model._orig_mod.", "module.model.", "_fsdp_wrapped_module.model.", "model.module."]
)
def test_wrappers_of_training_are_taken_off(tmp_path, before):
    plain = imported(file_of(tmp_path, {f"model.{name}": w for name, w in WEIGHTS.items()}), tmp_path / "a", k=1)
    if before == "model.module.":  # a module of that name inside the model is another thing
        with pytest.raises(UserError):
            imported(file_of(tmp_path, {before + name: w for name, w in WEIGHTS.items()}), tmp_path / "b", k=1)
        return
    other = imported(file_of(tmp_path, {before + name: w for name, w in WEIGHTS.items()}), tmp_path / "b", k=1)
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])


def test_the_format_of_before_zips_is_read(tmp_path):
    named = {f"model.{name}": w for name, w in WEIGHTS.items()}
    torch.save({"state_dict": named}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    imported(tmp_path / "old.ckpt", tmp_path / "run", k=1)


def sparse() -> torch.Tensor:
    return torch.eye(3).to_sparse()


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({3: torch.zeros(2)}, "the name of a weight is int 3"),
        ({"model.a": torch.zeros(2, device="meta")}, "without content|not a checkpoint"),
        ({"model.a": sparse()}, "layout torch.sparse|not a checkpoint"),
        ({"model.a": torch.zeros(1).expand(10**12)}, "claims 1,000,000,000,000 numbers"),
        (
            {f"model.{n}": w for n, w in WEIGHTS.items()}
            | {"model.decoder.attn_layers.layers.40000000.1.to_q.weight": torch.zeros(2, 2)},
            "no count of its parts",
        ),
        ({f"model.{n}": w.double() * 1e300 if w.ndim == 2 else w for n, w in WEIGHTS.items()}, "float32 does not"),
        ({}, "none of the models"),
    ],
    ids=["integer", "meta", "sparse", "huge view", "key numbers", "beyond float32", "empty"],
)  # fmt: skip
def test_odd_tensors_are_named(tmp_path, weights, words):
    file = file_of(tmp_path, weights)
    with pytest.raises(UserError, match=words):
        imported(file, tmp_path / "run", k=1)
    assert not (tmp_path / "run").exists()


def test_a_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="a folder, expected the file"):
        load(tmp_path)


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 0.999), bit=st.integers(0, 7))
@example(place=0.984375, bit=0)
def test_a_flipped_bit_never_becomes_a_weight(tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("bit")
    file = file_of(folder, {"model.a": torch.arange(200.0)})
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    file.write_bytes(content)
    try:
        weights = load(file)["state_dict"]
    except CheckpointError:
        return
    assert torch.equal(weights["model.a"], torch.arange(200.0))


def test_a_damaged_zip_is_named(tmp_path):
    file = file_of(tmp_path, {"model.a": torch.arange(2000.0)})
    with zipfile.ZipFile(file) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size)
    content = bytearray(file.read_bytes())
    content[entry.header_offset + 4000] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checksum of .* is wrong; get it again"):
        load(file)


def test_its_own_arguments_are_read_without_being_run(tmp_path):
    text = (
        "betas: !!python/tuple [0.9, 0.95]\nDecoderTransformerMultiOut.future_visibility: -1\nmax_duration: 10\n"
        "cls: !!python/name:torch.nn.Linear ''\nrun: !!python/object/apply:os.system ['touch MADE']\n"
    )
    (tmp_path / "args.yml").write_text(text.replace("MADE", str(tmp_path / "made")))
    told = arguments(tmp_path / "args.yml")
    assert told["betas"] == [0.9, 0.95]
    assert told["DecoderTransformerMultiOut.future_visibility"] == -1
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("t_f", "frames"), [(-1, 64), (5, 64)])
def test_the_window_is_what_its_t_f_leaves_of_a_clip(tmp_path, t_f, frames):
    """64 frames of 20 ms are trained on; clips are t_f longer where it looks ahead."""
    named = {f"model.{name}": w for name, w in reference.random_weights("add", t_f=t_f).items()}
    (tmp_path / "args.yml").write_text(f"max_duration: {(frames + max(0, t_f)) * 0.02}\n")
    imported(file_of(tmp_path, named), tmp_path / "run", k=1, t_f=t_f)
    (tmp_path / "args.yml").write_text("max_duration: 2.0\n")
    with pytest.raises(UserError, match=f"--set train.frames={100 - max(0, t_f)} @"):
        imported(file_of(tmp_path, named), tmp_path / "other", k=1, t_f=t_f)


@pytest.mark.parametrize("key", ["model.width=8", "clock.k=3", "fuser.norm=true", "train.steps=3", 'run.folder="x"'])
def test_a_setting_that_the_checkpoint_decides_is_refused(tmp_path, capsys, key):
    file = file_of(tmp_path, {f"model.{name}": w for name, w in WEIGHTS.items()})
    words = ["import-checkpoint", "stream-music-gen", str(file), "--like", "quickstart", "--run", str(tmp_path / "run")]
    assert main([*words, "--set", key]) == 2
    assert (
        f"the checkpoint decides this key, so nothing can be set @ --set {key.partition('=')[0]}"
        in capsys.readouterr().err
    )


def test_a_codec_without_weights_gets_the_right_cure(tmp_path, capsys):
    weights = reference.random_weights("add", t_f=-1, latents=1024, codes=4096)
    file = file_of(tmp_path, {f"model.{name}": w for name, w in weights.items()})
    words = [
        "import-checkpoint",
        "stream-music-gen",
        str(file),
        "--like",
        "streaming_k1",
        "--run",
        str(tmp_path / "run"),
    ]
    assert main([*words, "--chunk", "1"]) == 2
    assert "--set 'tokenizer.weights=\"hub:lukewys/stream_music_gen/" in capsys.readouterr().err


def test_the_level_of_its_training_is_told(tmp_path, capsys):
    imported(file_of(tmp_path, {f"model.{name}": w for name, w in WEIGHTS.items()}), tmp_path / "run", k=1)
    assert "-16 dB" in capsys.readouterr().out
