"""cocola: the published network, its checkpoint's format, and files that are not what they should be."""

from __future__ import annotations

import enum
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from accomp.core.cli.main import main
from accomp.core.errors import CheckpointError
from accomp.core.types import Take
from accomp.plugins.metrics.cocola.files import check, convert, load, save
from accomp.plugins.metrics.cocola.metric import Cocola
from accomp.plugins.metrics.cocola.network import CocolaNetwork, EfficientNetB0
from accomp.plugins.metrics.coherence.hpss_mels import FRAMES, MELS, SAMPLE_RATE


def random_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights of the published shapes that keep signals alive through all layers; the same on every machine."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, tensor in CocolaNetwork().state_dict().items():
        shape = tuple(tensor.shape)
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(1000)
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            tensors[name] = torch.from_numpy(rng.uniform(0.5, 1.5, shape).astype(np.float32))
        else:
            fan = max(1, int(np.prod(shape[1:])))
            tensors[name] = torch.from_numpy((rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32))
    return tensors


def pictures(count: int, seed: int = 1) -> torch.Tensor:
    heard = np.random.default_rng(seed).uniform(-80, 0, (count, 2, MELS, FRAMES)).astype(np.float32)
    heard[:, :, :, :200] = -80
    heard[1::2, 0, ::4] = 0
    return torch.from_numpy(heard)


class EmbeddingModel(enum.Enum):
    """Stands for what the published checkpoint's hyper-parameters hold."""

    EFFICIENTNET = "efficientnet"


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Lightning checkpoint whose hyper-parameters hold an enum of a module that is gone when it is read."""
    module = types.ModuleType("published_code")
    monkeypatch.setitem(sys.modules, "published_code", module)
    monkeypatch.setattr(EmbeddingModel, "__module__", "published_code")
    module.EmbeddingModel = EmbeddingModel
    path = tmp_path / "cocola.ckpt"
    torch.save(
        {
            "epoch": 7,
            "global_step": 100,
            "pytorch-lightning_version": "2.1.4",
            "state_dict": random_tensors(),
            "loops": {},
            "optimizer_states": [{"state": {}, "param_groups": [{"lr": 1e-3, "params": [0]}]}],
            "lr_schedulers": [],
            "hparams_name": "kwargs",
            "hyper_parameters": {"learning_rate": 1e-3, "embedding_dim": 512, "model": EmbeddingModel.EFFICIENTNET},
        },
        path,
    )
    monkeypatch.delitem(sys.modules, "published_code")
    return path


def test_it_has_the_tensors_of_the_published_checkpoint():
    shapes = {name: list(tensor.shape) for name, tensor in CocolaNetwork().state_dict().items()}
    assert len(shapes) == 363
    assert sum(parameter.numel() for parameter in CocolaNetwork().parameters()) == 4_926_300
    picture = [name for name in shapes if name.startswith("encoder.encoder.model.0.")]
    assert len(picture) == 358
    assert set(shapes) - set(picture) == {
        "encoder.projection.weight", "encoder.projection.bias", "layer_norm.weight", "layer_norm.bias", "similarity.w",
    }  # fmt: skip
    assert shapes["encoder.encoder.model.0._conv_stem.weight"] == [32, 2, 3, 3]
    assert shapes["encoder.encoder.model.0._conv_head.weight"] == [1280, 320, 1, 1]
    assert shapes["similarity.w"] == [512, 512]


def test_the_picture_is_seen_as_by_efficientnet_pytorch():
    package = pytest.importorskip("efficientnet_pytorch")
    with torch.random.fork_rng():
        theirs = package.EfficientNet.from_name("efficientnet-b0", in_channels=2, include_top=False).eval()
    prefix = "encoder.encoder.model.0."
    own = {name.removeprefix(prefix): t for name, t in random_tensors().items() if name.startswith(prefix)}
    theirs.load_state_dict(own)
    ours = EfficientNetB0(2).eval()
    ours.load_state_dict(own)
    heard = pictures(1) / 40 + 1
    with torch.inference_mode():
        expected = theirs.extract_features(heard)
        assert expected.shape == (1, 1280, 2, 15)
        torch.testing.assert_close(ours(heard), expected, rtol=1e-4, atol=1e-4)


GOLDEN = [8.270336, 8.287388, 8.292198]


def test_scores_are_those_once_computed_by_the_published_definition(checkpoint, tmp_path):
    """The numbers come from efficientnet_pytorch 0.7.1 and the definition written out: mean over the picture,
    projection, layer norm, tanh, a^T W b."""
    convert(checkpoint, tmp_path / "cocola.safetensors")
    network, _ = load(tmp_path / "cocola.safetensors")
    with torch.inference_mode():
        a, b = network.embed(pictures(2)).split(1)
        found = [network.pair(a, b).item(), network.pair(b, a).item(), network.pair(a, a).item()]
    np.testing.assert_allclose(found, GOLDEN, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_is_converted_without_the_code_that_it_names(checkpoint, tmp_path, capsys):
    out = tmp_path / "out" / "cocola.safetensors"
    assert main(["cocola", "convert", str(checkpoint), str(out)]) == 0
    assert "363 tensors" in capsys.readouterr().out
    converted = safetensors.torch.load_file(out)
    for name, tensor in random_tensors().items():
        torch.testing.assert_close(converted[name], tensor, rtol=0, atol=0)
    assert "published_code" not in sys.modules


class Trap:
    """A pickle that would write a file when it is opened."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "caught"))


def test_a_checkpoint_that_holds_a_program_is_not_run(tmp_path):
    path = tmp_path / "trap.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": {"x": Trap(tmp_path / "caught")}}, path)
    with pytest.raises(CheckpointError, match="holds more than weights and settings, and was not opened further"):
        convert(path, tmp_path / "out.safetensors")
    assert not (tmp_path / "caught").exists()
    with path.open("rb") as file:
        torch.load(file, weights_only=False)
    assert (tmp_path / "caught").exists(), "the trap is none"


def test_files_that_are_something_else_are_refused_with_what_to_do(checkpoint, tmp_path):
    out = tmp_path / "cocola.safetensors"
    with pytest.raises(CheckpointError, match=r"expected a name that ends in \.safetensors"):
        convert(checkpoint, tmp_path / "cocola.pt")
    with pytest.raises(CheckpointError, match="no such file @"):
        convert(tmp_path / "absent.ckpt", out)
    with pytest.raises(CheckpointError, match=r"convert it once: accomp cocola convert .*cocola\.ckpt"):
        load(checkpoint)
    with pytest.raises(CheckpointError, match="accomp cocola convert CKPT OUT"):
        load(out)
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        convert(broken, out)
    torch.save({"weights": 1}, broken)
    with pytest.raises(CheckpointError, match="expected a table `state_dict` of tensors"):
        convert(broken, out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("similarity.w"), "lacks similarity.w"),
        (lambda t: t.update(more=torch.ones(1)), "has more, which COCOLA lacks"),
        (lambda t: t.update({"similarity.w": torch.ones(2, 3)}), r"similarity.w is \[2, 3\]; expected \[512, 512\]"),
        (lambda t: t["layer_norm.bias"].fill_(torch.nan), "layer_norm.bias holds NaN or Inf"),
    ],
)
def test_other_tensors_are_named(change, said):
    tensors = random_tensors()
    change(tensors)
    with pytest.raises(CheckpointError, match=said):
        check(tensors, Path("x"))


@pytest.fixture
def lively(tmp_path: Path) -> str:
    """Random weights under which sounds differ: what pictures have in common is taken away before the last layers."""
    tensors = random_tensors()
    network = CocolaNetwork().eval()
    network.load_state_dict(tensors)
    with torch.inference_mode():
        common = network.encoder.encoder["model"](pictures(2)).mean((0, 2, 3))
    tensors["encoder.projection.bias"] = -tensors["encoder.projection.weight"] @ common
    path = tmp_path / "lively.safetensors"
    save(tensors, path, {})
    return str(path)


def test_a_mode_hears_its_own_part_alone_and_context_and_stem_are_no_equals(lively):
    rng = np.random.default_rng(0)
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    lasting = (0.3 * np.sin(2 * np.pi * 300 * time)).astype(np.float32)
    noise = (0.1 * rng.standard_normal(len(time))).astype(np.float32)
    judge = Cocola(Cocola.Config(weights=lively))
    judge.update(Take("there", lasting, noise, SAMPLE_RATE, 0))
    judge.update(Take("back", noise, lasting, SAMPLE_RATE, 0))
    there, back = judge.per_take()["there"], judge.per_take()["back"]
    names = ("cocola", "cocola_harmonic", "cocola_percussive")
    assert len({round(there[name], 2) for name in names}) == 3
    for name in names:
        assert abs(there[name] - back[name]) > 1e-2
    alone = Cocola(Cocola.Config(weights=lively, modes=("harmonic",)))
    alone.update(Take("there", lasting, noise, SAMPLE_RATE, 0))
    assert alone.result() == {"cocola_harmonic": pytest.approx(there["cocola_harmonic"]), "silent_windows": 0.0}
