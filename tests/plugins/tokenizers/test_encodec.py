"""EnCodec's files, made here in the formats of transformers and audiocraft, against arithmetic of our own on them."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from accomp.core.errors import CheckpointError
from accomp.core.testing import check_plugin
from accomp.plugins.tokenizers.codec.files import weight_files
from accomp.plugins.tokenizers.codec.files.conversion import convert
from accomp.plugins.tokenizers.encodec import Encodec

RATIOS, FILTERS, LATENT, LEVELS, SIZE = [5, 4, 2], 4, 8, 5, 32
HOP = math.prod(RATIOS)
CONFIG = {
    "model_type": "encodec", "sampling_rate": 32_000, "audio_channels": 1, "codebook_size": SIZE, "hidden_size": LATENT,
    "num_filters": FILTERS, "upsampling_ratios": RATIOS, "kernel_size": 7, "last_kernel_size": 7,
    "residual_kernel_size": 3, "num_residual_layers": 1, "dilation_growth_rate": 2, "compress": 2,
    "num_lstm_layers": 2, "pad_mode": "reflect", "use_causal_conv": False, "norm_type": "weight_norm",
    "normalize": False, "use_conv_shortcut": False, "chunk_length_s": None,
}  # fmt: skip


def state() -> dict[str, torch.Tensor]:
    """A random model under the names of transformers' older files (weight_g, weight_v)."""
    rng, named = torch.Generator().manual_seed(4), {}

    def conv(name, out, into, kernel, transposed=False):
        shape = (into, out, kernel) if transposed else (out, into, kernel)
        named[f"{name}.conv.weight_v"] = torch.randn(shape, generator=rng)
        named[f"{name}.conv.weight_g"] = 1 + torch.rand(shape[0], 1, 1, generator=rng)
        named[f"{name}.conv.bias"] = 0.1 * torch.randn(out, generator=rng)

    def lstm(name, width):
        for layer in (0, 1):
            for part, shape in {"weight_ih": (4 * width, width), "weight_hh": (4 * width, width)}.items():
                named[f"{name}.lstm.{part}_l{layer}"] = 0.3 * torch.randn(shape, generator=rng)
            for part in ("bias_ih", "bias_hh"):
                named[f"{name}.lstm.{part}_l{layer}"] = 0.1 * torch.randn(4 * width, generator=rng)

    def unit(name, width):
        conv(f"{name}.block.1", width // 2, width, 3)
        conv(f"{name}.block.3", width, width // 2, 1)

    conv("encoder.layers.0", FILTERS, 1, 7)
    width = FILTERS
    for i, ratio in enumerate(reversed(RATIOS)):
        unit(f"encoder.layers.{3 * i + 1}", width)
        conv(f"encoder.layers.{3 * i + 3}", 2 * width, width, 2 * ratio)
        width *= 2
    lstm("encoder.layers.10", width)
    conv("encoder.layers.12", LATENT, width, 7)
    conv("decoder.layers.0", width, LATENT, 7)
    lstm("decoder.layers.1", width)
    for i, ratio in enumerate(RATIOS):
        conv(f"decoder.layers.{3 * i + 3}", width // 2, width, 2 * ratio, transposed=True)
        unit(f"decoder.layers.{3 * i + 4}", width // 2)
        width //= 2
    conv("decoder.layers.12", 1, width, 7)
    for level in range(LEVELS):
        book = f"quantizer.layers.{level}.codebook"
        named[f"{book}.embed"] = torch.randn(SIZE, LATENT, generator=rng)
        named |= {f"{book}.{name}": torch.zeros(SIZE) for name in ("cluster_size", "embed_avg")}
        named[f"{book}.inited"] = torch.ones(1)
    return named


class Reference:
    """EnCodec written down once more, on whole clips only."""

    def __init__(self, named, pad):
        self.named, self.pad = named, pad

    def weight(self, name):
        v = self.named[f"{name}.conv.weight_v"]
        return self.named[f"{name}.conv.weight_g"] * v / v.square().sum((1, 2), keepdim=True).sqrt()

    def conv(self, name, x, stride=1):
        weight = self.weight(name)
        total = weight.shape[2] - stride
        sides = (total - total // 2, total // 2)
        if self.pad == "constant":
            x = F.pad(x, sides)
        elif sides[0]:
            short = max(0, sides[0] + 1 - x.shape[2])
            whole = F.pad(F.pad(x, (0, short)), sides, "reflect")
            x = whole[..., : whole.shape[2] - short]
        return F.conv1d(x, weight, self.named[f"{name}.conv.bias"], stride)

    def unit(self, name, x):
        return x + self.conv(f"{name}.block.3", F.elu(self.conv(f"{name}.block.1", F.elu(x))))

    def lstm(self, name, x):
        width, given = x.shape[1], x
        for layer in (0, 1):
            w, u, b, c = (
                self.named[f"{name}.lstm.{part}_l{layer}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h = cell = x.new_zeros(len(x), width)
            out = []
            for frame in x.unbind(2):
                i, f, g, o = (frame @ w.T + h @ u.T + b + c).chunk(4, dim=1)
                cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
                h = o.sigmoid() * cell.tanh()
                out.append(h)
            x = torch.stack(out, dim=2)
        return given + x

    def encode(self, audio):
        x = self.conv("encoder.layers.0", audio[:, None])
        for i, ratio in enumerate(reversed(RATIOS)):
            x = self.conv(f"encoder.layers.{3 * i + 3}", F.elu(self.unit(f"encoder.layers.{3 * i + 1}", x)), ratio)
        x = self.conv("encoder.layers.12", F.elu(self.lstm("encoder.layers.10", x))).transpose(1, 2)
        codes = []
        for level in range(LEVELS):
            book = self.named[f"quantizer.layers.{level}.codebook.embed"]
            codes.append(torch.cdist(x, book[None].expand(len(x), -1, -1)).argmin(-1))
            x = x - book[codes[-1]]
        return torch.stack(codes, dim=1)

    def decode(self, codes):
        books = [self.named[f"quantizer.layers.{level}.codebook.embed"] for level in range(codes.shape[1])]
        x = sum(book[code] for book, code in zip(books, codes.unbind(1), strict=True)).transpose(1, 2)
        x = self.lstm("decoder.layers.1", self.conv("decoder.layers.0", x))
        for i, ratio in enumerate(RATIOS):
            name = f"decoder.layers.{3 * i + 3}"
            whole = F.conv_transpose1d(F.elu(x), self.weight(name), self.named[f"{name}.conv.bias"], ratio)
            x = self.unit(f"decoder.layers.{3 * i + 4}", whole[..., ratio - ratio // 2 : whole.shape[2] - ratio // 2])
        return self.conv("decoder.layers.12", F.elu(x))[:, 0]


def as_parametrized(named):
    """Names of transformers' newer files."""
    ends = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return {name[:-8] + ends[name[-8:]] if name[-8:] in ends else name: tensor for name, tensor in named.items()}


def as_audiocraft(named, **changes):
    """audiocraft's names, and what it states, with references among the values."""
    renamed = {}
    for name, tensor in named.items():
        side, _, layer, *rest = name.split(".")
        if side == "quantizer":
            renamed[f"quantizer.vq.layers.{layer}._codebook.{rest[-1]}"] = tensor
            continue
        twice = (
            "convtr.convtr" if side == "decoder" and "block" not in rest and layer in ("3", "6", "9") else "conv.conv"
        )
        renamed[f"{side}.model.{layer}." + ".".join(twice if part == "conv" else part for part in rest)] = tensor
    text = f"""
sample_rate: 32000
channels: 1
encodec: {{autoencoder: seanet, quantizer: rvq, sample_rate: '${{sample_rate}}', causal: false, renormalize: false}}
seanet: {{dimension: {LATENT}, channels: '${{channels}}', causal: '${{encodec.causal}}', n_filters: {FILTERS},
  n_residual_layers: 1, ratios: {RATIOS}, activation: ELU, norm: weight_norm, kernel_size: 7, residual_kernel_size: 3,
  last_kernel_size: 7, dilation_base: 2, pad_mode: constant, true_skip: true, compress: 2, lstm: 2,
  disable_norm_outer_blocks: 0}}
rvq: {{n_q: {LEVELS}, bins: {SIZE}}}
"""
    for old, new in changes.items():
        text = text.replace(f"{old}: ", f"{old}: {new} #" if old == "channels" else f"{new}: ", 1)
    return {"best_state": renamed, "xp.cfg": text, "version": "1.3.0", "exported": True}


def transformers_folder(folder, named, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    save_file(named, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def named():
    return state()


@pytest.fixture(scope="module")
def folder(named, tmp_path_factory):
    return transformers_folder(tmp_path_factory.mktemp("encodec") / "reflect", named)


@pytest.fixture(scope="module")
def codec(folder):
    return Encodec(Encodec.Config(weights=str(folder)))


def sound(samples):
    return 0.3 * torch.randn(2, samples, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("pad", ["reflect", "constant"])
@pytest.mark.parametrize("frames", [1, 3, 4, 17])
def test_codes_and_sound_are_those_of_the_model(tmp_path, named, pad, frames):
    """Clips shorter than what is mirrored too."""
    ours = Encodec(Encodec.Config(weights=str(transformers_folder(tmp_path, named, pad_mode=pad))))
    theirs, audio = Reference(named, pad), sound(frames * HOP)
    codes = theirs.encode(audio)[:, :4]
    assert frames < 17 or codes.unique().numel() > 20
    assert torch.equal(ours.encode(audio), codes)
    torch.testing.assert_close(ours.decode(codes), theirs.decode(codes), atol=1e-5, rtol=1e-5)


def test_all_formats_give_one_codec(tmp_path, named, codec, folder):
    def fingerprint(path):
        return Encodec(Encodec.Config(weights=str(path))).fingerprint

    assert fingerprint(folder / "model.safetensors") == codec.fingerprint
    assert fingerprint(transformers_folder(tmp_path / "new", as_parametrized(named))) == codec.fingerprint
    older = tmp_path / "older"
    older.mkdir()
    (older / "config.json").write_text(json.dumps(CONFIG))
    torch.save(named, older / "pytorch_model.bin")
    assert fingerprint(older) == codec.fingerprint
    zeros = fingerprint(transformers_folder(tmp_path / "zeros", named, pad_mode="constant"))
    torch.save(as_audiocraft(named), tmp_path / "compression_state_dict.bin")
    assert fingerprint(tmp_path / "compression_state_dict.bin") == zeros != codec.fingerprint
    convert(folder / "model.safetensors", tmp_path / "codec.safetensors", tokenizer="encodec")
    assert fingerprint(tmp_path / "codec.safetensors") == codec.fingerprint


def test_sizes_are_the_files_and_codebooks_the_first_of_them(codec, folder):
    space = codec.space
    assert (space.sample_rate, space.hop, space.codebooks, space.codebook_size, space.latent_dim) == (
        32_000, HOP, 4, SIZE, LATENT,
    )  # fmt: skip
    two = Encodec.Config(weights=str(folder), codebooks=2)
    assert Encodec.space_of(two).codebooks == 2
    audio = sound(15 * HOP)
    assert torch.equal(Encodec(two).encode(audio), codec.encode(audio)[:, :2])
    with pytest.raises(CheckpointError, match="has 5 codebooks, the spec asks for 6"):
        Encodec.space_of(Encodec.Config(weights=str(folder), codebooks=6))


def test_it_keeps_the_promises_of_a_tokenizer(folder):
    assert "codes depend on no more future audio than `lookahead` states" in check_plugin(
        "tokenizer", "encodec", weights=str(folder)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "dac"}, "model_type = 'dac', expected 'encodec'"),
        ({"use_causal_conv": True}, "use_causal_conv = True, expected False"),
        ({"audio_channels": 2}, "audio_channels = 2, expected 1"),
        ({"pad_mode": "replicate"}, "pad_mode = 'replicate', expected one of reflect, constant"),
        ({"num_filters": None}, "num_filters is missing"),
        ({"num_filters": 8}, "do not fit the sizes that the file states"),
    ],
)
def test_other_kinds_of_encodec_are_refused(tmp_path, named, changes, message):
    with pytest.raises(CheckpointError, match=message):
        Encodec(Encodec.Config(weights=str(transformers_folder(tmp_path, named, **changes))))


def test_what_is_no_encodec_is_told(tmp_path, named):
    def refused(message, path=None):
        with pytest.raises(CheckpointError, match=message):
            Encodec(Encodec.Config(weights=str(path or tmp_path / "x.bin")))

    refused("no such codec file; expected a folder or file of transformers, .*hub:facebook/encodec_32khz")
    refused("has neither model.safetensors nor pytorch_model.bin", tmp_path)
    torch.save({"pretrained": "facebook/encodec_32khz", "exported": True}, tmp_path / "x.bin")
    refused("it only names others: 'facebook/encodec_32khz'")
    torch.save([1], tmp_path / "x.bin")
    refused("not weights of EnCodec: list")
    torch.save(as_audiocraft(named) | {"xp.cfg": {"sample_rate": 1}}, tmp_path / "x.bin")
    refused("xp.cfg is not the YAML text")
    torch.save(as_audiocraft(named, channels=2), tmp_path / "x.bin")
    refused("channels = 2, expected 1")
    torch.save(named, tmp_path / "x.bin")
    refused("cannot read the config.json that belongs to the weights")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    torch.save({name: t for name, t in named.items() if ".1.codebook.embed" not in name}, tmp_path / "x.bin")
    refused(r"lacks codebooks: found those of levels \[0, 2, 3, 4\]")
    torch.save({name: t for name, t in named.items() if name != "encoder.layers.0.conv.weight_g"}, tmp_path / "x.bin")
    refused(r"encoder\.0\.conv\.weight_v has no weight_g beside it")


def test_the_hub_gives_weights_and_their_config(folder, codec, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(repo, file, revision):
        asked.append((repo, file, revision))
        return str(folder / file)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    assert Encodec(Encodec.Config(weights="hub:a/b/model.safetensors@v1")).fingerprint == codec.fingerprint
    assert asked == [("a/b", "model.safetensors", "v1"), ("a/b", "config.json", "v1")]
    assert weight_files.is_safetensors(folder / "model.safetensors")
