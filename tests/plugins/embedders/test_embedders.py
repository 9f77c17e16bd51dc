"""musicnn and VGGish against the originals, and a checkpoint read without TensorFlow."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save_file

from accomp.core.errors import DataError, PluginError
from accomp.plugins.embedders.musicnn import SHIPPED, Musicnn
from accomp.plugins.embedders.musicnn_conversion import LAYERS, NORM, convert_musicnn
from accomp.plugins.embedders.musicnn_network import network_of
from accomp.plugins.embedders.tensor_bundle import MAGIC, read_bundle
from accomp.plugins.embedders.vggish import FILE, VGGish

UNITS = [0.58431959, -0.40885302, -0.16188174, -0.08677211, 0.65710998, 0.28491685, -0.05518836, 0.02486898]
TAGS = [8.7463035e-05, 2.4539914e-02, 1.2952290e-03, 2.3632005e-04, 1.1932838e-04]
ROWS = [[0.1848253, -0.5041934, 0.3109817, -0.2044260], [0.4291139, -0.3692453, -0.3383012, -0.4635994]]


def music(seconds: float, seed: int = 0) -> np.ndarray:
    """A chord with noise, 16 kHz."""
    time = np.arange(round(seconds * 16000)) / 16000
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 330.0, 415.3))
    return (0.1 * chord + 0.02 * np.random.default_rng(seed).standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def musicnn() -> Musicnn:
    return Musicnn(Musicnn.Config())


@pytest.fixture
def vggish(tmp_path) -> VGGish:
    return VGGish(VGGish.example_config(tmp_path))


def test_musicnn_gives_what_the_original_gave() -> None:
    """The values are those of the package musicnn 0.1.0, run with TensorFlow 2.21 on the same patch."""
    patch = np.abs(np.random.default_rng(0).standard_normal((3, 187, 96))).astype(np.float32)[:1] * 1.5
    network = network_of(load(SHIPPED.read_bytes()))
    with torch.inference_mode():
        units, tags = network(torch.from_numpy(patch))[0], network.likelihoods(torch.from_numpy(patch))[0]
    np.testing.assert_allclose(units[::25], UNITS, atol=2e-5)
    np.testing.assert_allclose(tags[::10], TAGS, atol=2e-6)


def test_musicnn_hears_mel_bands_of_equal_area(musicnn: Musicnn) -> None:
    """Frame 30 by another way: Slaney's scale (straight to 1 kHz, then logarithmic), triangles of area 2 / width."""

    def hertz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))

    audio = music(1.0)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    power = np.abs(np.fft.rfft(audio[30 * 256 - 256 :][:512] * window)) ** 2
    edges = hertz(np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 98))
    bins = np.arange(257) * 16000 / 512
    bands = [np.interp(bins, edges[i : i + 3], [0, 2 / (edges[i + 2] - edges[i]), 0]) for i in range(96)]
    expected = np.log10(1 + 10000 * np.array(bands) @ power)
    np.testing.assert_allclose(musicnn.log_mel(torch.from_numpy(audio))[30], expected, atol=2e-4)


def test_musicnn_moves_its_patches_by_the_hop(musicnn: Musicnn) -> None:
    whole = musicnn.embed(music(6.0))
    assert whole.shape == (3, 200)
    hop = round(1.5 * 62.5) * 256
    later = musicnn.embed(music(6.0)[hop:])
    np.testing.assert_allclose(later[-1], whole[-1], rtol=1e-3, atol=1e-3)
    assert not np.allclose(whole[0], whole[1], atol=1e-2)
    assert len(Musicnn(Musicnn.Config(hop=3.0)).embed(music(6.0))) == 2


def test_vggish_hears_the_log_mel_of_its_paper(vggish: VGGish) -> None:
    """Triangles that are straight in mel, by a formula of their own: the band of a tone is that of its frequency."""
    for frequency in (200.0, 1000.0, 5000.0):
        tone = np.sin(2 * np.pi * frequency * np.arange(8000) / 16000)
        mel = vggish.log_mel(torch.from_numpy(tone))
        low, high, found = (1127 * np.log1p(f / 700) for f in (125.0, 7500.0, frequency))
        assert int(mel[10].argmax()) == pytest.approx((found - low) / (high - low) * 65 - 1, abs=1)
    assert torch.allclose(vggish.log_mel(torch.zeros(16000, dtype=torch.float64)), torch.tensor(np.log(0.01)))


def test_vggish_gives_what_the_original_gave(vggish: VGGish) -> None:
    """Values of torchvggish 0.2 (input features and layers) with the example's weights, on the same sound."""
    rows = vggish.embed(music(2.0))
    assert rows.shape == (2, 128)
    np.testing.assert_allclose(rows[:, ::32], ROWS, rtol=1e-4, atol=1e-5)


def test_vggish_drops_what_does_not_fill_a_patch(vggish: VGGish) -> None:
    least = 95 * 160 + 400
    assert len(vggish.embed(music(5.0)[:least])) == 1
    with pytest.raises(ValueError, match=r"0\.97 s of sound; VGGish needs patches of 0\.975 s"):
        vggish.embed(music(5.0)[: least - 1])
    np.testing.assert_allclose(vggish.embed(music(2.8)), vggish.embed(music(2.8)[: 2 * 15360 + 240]), atol=1e-5)


@pytest.mark.parametrize("place", ["", FILE, "as ckpt_dir"])
def test_vggish_finds_its_weights(tmp_path: Path, place: str) -> None:
    VGGish.example_config(tmp_path)
    if place == "as ckpt_dir":
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / FILE).rename(tmp_path / "checkpoints" / FILE)
    found = VGGish(VGGish.Config(weights=str(tmp_path / place if place == FILE else tmp_path)))
    assert found.fingerprint.startswith("vggish 1 ")
    assert FILE in found.provenance


def test_vggish_reads_safetensors_alike(vggish: VGGish, tmp_path: Path) -> None:
    save_file(torch.load(tmp_path / FILE, weights_only=True), tmp_path / "same.safetensors")
    same = VGGish(VGGish.Config(weights=str(tmp_path / "same.safetensors")))
    np.testing.assert_allclose(same.embed(music(1.0)), vggish.embed(music(1.0)), atol=1e-5)


def test_weights_that_are_missing_or_others_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match=r"no weights of VGGish: .*fetch https://.*vggish-10086976\.pth and give its"):
        VGGish(VGGish.Config(weights=str(tmp_path / "nowhere")))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(PluginError, match="hub"):
        VGGish(VGGish.Config())
    with pytest.raises(PluginError, match="not weights of VGGish"):
        VGGish(VGGish.Config(weights=str(SHIPPED)))
    with pytest.raises(PluginError, match=r"no such file .* omit it"):
        Musicnn(Musicnn.Config(weights=str(tmp_path / "nowhere")))
    VGGish.example_config(tmp_path)
    with pytest.raises(PluginError, match="not weights of musicnn"):
        Musicnn(Musicnn.Config(weights=str(tmp_path / FILE)))


# --- a checkpoint of TensorFlow ------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """A block of a sorted string table, keys without what they share with the key before."""
    out, before = b"", b""
    for key, value in pairs:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return out + struct.pack("<II", 0, 1)


def write_bundle(folder: Path, tensors: dict[str, np.ndarray], blocks: int = 3) -> Path:
    """A checkpoint with prefix "model", written after the format's description."""
    data, pairs = b"", [(b"", b"\x08\x01")]
    for name, tensor in sorted(tensors.items()):
        dims = b"".join(b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(n) for n in tensor.shape))
        kind = 1 if tensor.dtype == np.float32 else 9
        place = b"\x20" + varint(len(data)) + b"\x28" + varint(tensor.nbytes) + b"\x35" + b"crc!"
        pairs.append((name.encode(), b"\x08" + varint(kind) + b"\x12" + varint(len(dims)) + dims + place))
        data += tensor.tobytes()
    file, index = b"", []
    for part in np.array_split(np.arange(len(pairs)), blocks):
        if len(part):
            content = block([pairs[i] for i in part])
            index.append((pairs[part[-1]][0] + b"~", varint(len(file)) + varint(len(content))))
            file += content + b"\0crc!"
    content = block(index)
    handles = varint(0) + varint(0) + varint(len(file)) + varint(len(content))
    file += content + b"\0crc!" + handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    (folder / "model.index").write_bytes(file)
    (folder / "model.data-00000-of-00001").write_bytes(data)
    return folder / "model.index"


def test_a_checkpoint_of_tensorflow_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "conv2d/kernel": (7, 3, 1, 200),
        "conv2d/bias": (200,),
        "conv2d_1/bias": (130,),
        "scalar": (),
        "z": (1, 300),
    }
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    index = write_bundle(tmp_path, {**tensors, "step": np.array(3, dtype=np.int64)})
    read = read_bundle(index)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor)
        assert read[name].shape == tensor.shape


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    index = write_bundle(tmp_path, {"a": np.ones(5, np.float32)}, blocks=1)
    data, whole = tmp_path / "model.data-00000-of-00001", index.read_bytes()
    kept = data.read_bytes()
    data.write_bytes(kept[:-1])
    with pytest.raises(DataError, match="damaged one: a tensor of shape"):
        read_bundle(index)
    data.write_bytes(kept)
    first = next(i for i in range(len(whole)) if whole[i : i + 5] == b"\0crc!")
    for content, words in (
        (whole[:-1], "its end"),
        (whole[:first] + b"\1" + whole[first + 1 :], "compressed"),
        (b"", "its end"),
    ):
        index.write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_bundle(index)
    data.unlink()
    with pytest.raises(DataError, match=r"two files, 'model.index' and 'model.data-00000-of-00001'; missing"):
        read_bundle(index)


def test_conversion_gives_the_shipped_weights_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped weights, written as TensorFlow would, with its names and axes, become the same file again."""
    shipped = load_file(SHIPPED)
    tensors, counts = {}, {"conv2d": 0, "batch_normalization": 0, "dense": 0}
    for layer in LAYERS:
        kernel = shipped.get(f"{layer}.weight")
        assert kernel is not None
        kind = "batch_normalization" if "norm" in layer else "dense" if kernel.ndim == 2 else "conv2d"
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        if kind == "batch_normalization":
            tensors |= {f"{name}/{theirs}": shipped[f"{layer}.{ours}"] for theirs, ours in NORM.items()}
            continue
        axes = {2: "oi->io", 3: "oft->tfo", 4: "oitf->tfio"}[kernel.ndim]
        turned = torch.einsum(axes, kernel)
        tensors |= {
            f"{name}/kernel": turned[:, :, None] if kernel.ndim == 3 else turned,
            f"{name}/bias": shipped[f"{layer}.bias"],
        }
    index = write_bundle(tmp_path, {name: tensor.contiguous().numpy() for name, tensor in tensors.items()})
    convert_musicnn(index, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == SHIPPED.read_bytes()
    assert "792079 values" in capsys.readouterr().out
    for name, what in (
        ("dense_1/bias", "no tensor 'dense_1/bias'"),
        ("dense/bias", "of the supported size"),
    ):
        broken = {key: tensor.contiguous().numpy() for key, tensor in tensors.items() if "1" not in name or key != name}
        if "1" not in name:
            broken[name] = np.ones(7, np.float32)
        with pytest.raises(DataError, match=what):
            convert_musicnn(write_bundle(tmp_path, broken), tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
