"""Files of descript-audio-codec and of its causal fork, made here and what they compute."""

import math
import re

import pytest
import torch
from dac import DAC
from dac.nn.layers import Snake1d, WNConv1d, WNConvTranspose1d
from dac.nn.quantize import ResidualVectorQuantize
from safetensors import safe_open
from torch import nn

from accomp.core.errors import CheckpointError, DataError, SpecError
from accomp.core.testing import check_plugin
from accomp.plugins.tokenizers.codec.files.conversion import convert
from accomp.plugins.tokenizers.codec.files.weight_files import save_weights
from accomp.plugins.tokenizers.dac import Dac
from accomp.plugins.tokenizers.magnitude import Magnitude

LEVELS = 6


def stirred(model: nn.Module, seed: int) -> nn.Module:
    """The weights moved so far that codes differ from frame to frame."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=rng)
    return model.eval()


def published(path, strides=(2, 3, 4), rate=16_000, **how) -> DAC:
    """A tiny model of descript's own, in the file that it saves."""
    sizes = {"encoder_dim": 4, "latent_dim": 16, "decoder_dim": 32, "n_codebooks": LEVELS, "codebook_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DAC(**sizes | how, encoder_rates=list(strides), decoder_rates=list(strides)[::-1], sample_rate=rate)
    stirred(model, 0).save(path, package=False)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("descript")


@pytest.fixture(scope="module")
def theirs(folder) -> DAC:
    return published(folder / "weights.pth")


@pytest.fixture(scope="module")
def ours(theirs, folder) -> Dac:
    return Dac(Dac.Config(weights=str(folder / "weights.pth")))


def sound(samples: int) -> torch.Tensor:
    return 0.3 * torch.randn(2, samples, generator=torch.Generator().manual_seed(1))


def causal(strides, width=4, latent=16, decoder=32) -> nn.ModuleDict:
    """A DAC padded on the left by modules of their own, transposed convolutions unpadded."""

    def left(samples, layer):
        return [nn.ZeroPad1d((samples, 0)), layer]

    class Unit(nn.Module):
        def __init__(self, width, dilation):
            super().__init__()
            wide = left(6 * dilation, WNConv1d(width, width, 7, dilation=dilation))
            self.block = nn.Sequential(Snake1d(width), *wide, Snake1d(width), WNConv1d(width, width, 1))

        def forward(self, x):
            return x + self.block(x)

    class Block(nn.Module):
        def __init__(self, *layers):
            super().__init__()
            self.block = nn.Sequential(*layers)

        def forward(self, x):
            return self.block(x)

    def units(width):
        return [Unit(width, dilation) for dilation in (1, 3, 9)]

    layers = left(6, WNConv1d(1, width, 7))
    for s in strides:
        down = left(2 * s - 1, WNConv1d(width, 2 * width, 2 * s, stride=s))
        layers.append(Block(*units(width), Snake1d(width), *down))
        width *= 2
    encoder = Block(*layers, Snake1d(width), *left(2, WNConv1d(width, latent, 3)))
    layers, width = left(6, WNConv1d(latent, decoder, 7)), decoder
    for s in reversed(strides):
        up = WNConvTranspose1d(width, width // 2, 2 * s, stride=s)
        layers.append(Block(Snake1d(width), up, *units(width // 2)))
        width //= 2
    model = nn.Sequential(*layers, Snake1d(width), *left(6, WNConv1d(width, 1, 7)), nn.Tanh())
    whole = nn.ModuleDict({"encoder": encoder, "quantizer": ResidualVectorQuantize(latent, LEVELS, 32, 8)})
    whole["decoder"] = nn.ModuleDict({"model": model})
    return stirred(whole, 2)


def kwargs_of(strides, **more) -> dict:
    return {
        "encoder_dim": 4, "encoder_rates": list(strides), "latent_dim": 16, "decoder_dim": 32,
        "decoder_rates": list(strides)[::-1], "n_codebooks": LEVELS, "codebook_size": 32, "codebook_dim": 8,
        "quantizer_dropout": 0.5, "sample_rate": 32_000, **more,
    }  # fmt: skip


@pytest.mark.parametrize("strides", [(2, 4), (2, 3, 4), (3, 5)])
def test_codes_and_sound_are_those_of_the_library(tmp_path, strides):
    """Odd strides too, where the library gives a few samples fewer than the frames hold: they are zeros here."""
    theirs = published(tmp_path / "weights.pth", strides)
    ours = Dac(Dac.Config(weights=str(tmp_path / "weights.pth")))
    audio = sound(20 * math.prod(strides))
    with torch.no_grad():
        _, codes, *_ = theirs.encode(audio[:, None], 4)
        decoded = theirs.decode(theirs.quantizer.from_codes(codes)[0])[:, 0]
    assert codes.unique().numel() > 5
    assert torch.equal(ours.encode(audio), codes)
    heard = ours.decode(codes)
    assert heard.shape == audio.shape
    torch.testing.assert_close(heard[:, : decoded.shape[1]], decoded, atol=1e-5, rtol=0)
    assert not heard[:, decoded.shape[1] :].any()


def test_codes_and_sound_are_those_of_a_causal_model_padded_on_the_left(tmp_path):
    strides = (2, 3, 4)
    hop, theirs = math.prod(strides), causal(strides)
    metadata = {"kwargs": kwargs_of(strides, causal_encoder=True, causal_decoder=True, use_s4=False)}
    torch.save({"state_dict": theirs.state_dict(), "metadata": metadata}, tmp_path / "causal.pth")
    ours = Dac(Dac.Config(weights=str(tmp_path / "causal.pth")))
    assert (ours.space.lookahead, ours.space.delay, ours.space.sample_rate) == (0, hop - 1, 32_000)
    audio = sound(20 * hop)
    with torch.no_grad():
        _, codes, *_ = theirs["quantizer"](theirs["encoder"](audio[:, None]), 4)
        decoded = theirs["decoder"]["model"](theirs["quantizer"].from_codes(codes)[0])[:, 0]
    assert codes.unique().numel() > 5
    assert torch.equal(ours.encode(audio), codes)
    torch.testing.assert_close(ours.decode(codes), decoded[:, hop - 1 : 21 * hop - 1], atol=1e-5, rtol=0)


def test_sizes_rate_and_hop_are_the_files(ours, folder):
    space = ours.space
    assert (space.sample_rate, space.hop, space.codebooks, space.codebook_size, space.latent_dim) == (
        16_000, 24, 4, 32, 16,
    )  # fmt: skip
    assert Dac.space_of(Dac.Config(weights=str(folder / "weights.pth"))) == space


@pytest.mark.parametrize(("strides", "looks"), [((2, 4, 8, 8), (3733, 4757)), ((2, 4, 5, 8), (2493, 3141))])
def test_how_far_the_published_models_look(tmp_path, strides, looks):
    """The 44.1 kHz model's strides, and those of the two others."""
    path = tmp_path / "weights.pth"
    published(path, strides, encoder_dim=1, decoder_dim=16, latent_dim=4, codebook_size=2)
    space = Dac.space_of(Dac.Config(weights=str(path)))
    assert (space.lookahead, space.delay) == looks


def test_the_first_codebooks_of_the_file_are_taken(ours, folder):
    two = Dac(Dac.Config(weights=str(folder / "weights.pth"), codebooks=2))
    audio = sound(24 * 15)
    assert two.space.codebooks == 2
    assert torch.equal(two.encode(audio), ours.encode(audio)[:, :2])
    assert two.fingerprint != ours.fingerprint
    with pytest.raises(
        CheckpointError, match=r"has 6 codebooks, the spec asks for 7 .*set \[tokenizer\] codebooks = 6"
    ):
        Dac(Dac.Config(weights=str(folder / "weights.pth"), codebooks=7))


def test_sizes_that_are_given_must_be_the_files(folder):
    with pytest.raises(CheckpointError) as caught:
        Dac.space_of(Dac.Config(weights=str(folder / "weights.pth"), latent=24, strides=(2, 2)))
    assert "the weights have latent = 16, the spec asks for 24" in str(caught.value)
    assert "the weights have strides = [2, 3, 4], the spec asks for [2, 2]" in str(caught.value)


def test_sizes_of_our_own_files_need_not_be_told_again(tmp_path):
    config = Dac.Config(weights="random", latent=16, encoder_width=2, decoder_width=32, codebook_size=32)
    made = Dac.architecture(config)
    save_weights(tmp_path / "codec.safetensors", Dac.network_of(config), "dac", made)
    assert Dac.space_of(Dac.Config(weights=str(tmp_path / "codec.safetensors"))) == Dac.space_of(config)


def test_it_keeps_the_promises_of_a_tokenizer(folder, theirs):
    assert "encoder stream: every split of the audio gives the offline codes" in check_plugin(
        "tokenizer", "dac", weights=str(folder / "weights.pth")
    )


def test_what_is_no_dac_is_told(tmp_path):
    def refused(content, message):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=message):
            Dac(Dac.Config(weights=str(tmp_path / "x.pth")))

    state = causal((2, 3)).state_dict()

    def model(**more):
        return {"state_dict": state, "metadata": {"kwargs": kwargs_of((2, 3), **more)}}

    refused({"generator": {}, "step": 3}, r"found generator, step .*expected .*state_dict.*metadata")
    refused([1, 2], "not weights of a DAC: found list")
    refused({"state_dict": {}, "metadata": {"kwargs": {"encoder_dim": 4}}}, "lacks encoder_rates, decoder_dim")
    both = {"causal_encoder": True, "causal_decoder": True}
    refused(model(causal_decoder=True), "causal_encoder = False, causal_decoder = True; expected both or neither")
    refused(model(**both, decoder_rates=[2, 3]), r"decoder_rates \[2, 3\]; expected .* \[3, 2\]")
    refused(model(**both, use_s4=True), "use_s4 = True")
    refused(
        model(**both, latent_dim=24),
        r"(?s)do not fit the sizes that the file states: .*\[8, 16, 1\].*\[8, 24, 1\].* and 19 more @",
    )
    refused(model(**both, encoder_rates=[2, 3, 2], decoder_rates=[2, 3, 2]), r"the encoder has 31 layers .* make 45")


def test_damaged_files_are_named(tmp_path):
    published(tmp_path / "weights.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "weights.pth").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"half\.pth"):
        Dac(Dac.Config(weights=str(tmp_path / "half.pth")))
    (tmp_path / "empty.pth").touch()
    with pytest.raises(CheckpointError, match=r"empty\.pth"):
        Dac.space_of(Dac.Config(weights=str(tmp_path / "empty.pth")))


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_no_code_of_a_file_is_run_unless_asked(tmp_path):
    model = published(tmp_path / "weights.pth")
    content = {
        "state_dict": model.state_dict(),
        "metadata": {"kwargs": kwargs_of((2, 3, 4)), "by": Trap(tmp_path / "ran")},
    }
    torch.save(content, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"opening it runs code .*accomp codec convert .*more\.pth .*--run-code"):
        Dac(Dac.Config(weights=str(tmp_path / "more.pth")))
    with pytest.raises(CheckpointError, match="opening it runs code"):
        convert(tmp_path / "more.pth", tmp_path / "more.safetensors")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "more.safetensors").exists()
    convert(tmp_path / "more.pth", tmp_path / "more.safetensors", run_code=True)
    assert (tmp_path / "ran").exists()
    assert Dac(Dac.Config(weights=str(tmp_path / "more.safetensors"))).space.hop == 24


def test_a_converted_file_is_the_same_codec(tmp_path, ours, folder, capsys):
    convert(folder / "weights.pth", tmp_path / "codec.safetensors")
    assert "dac: 6 codebooks of 32, 16000 Hz" in capsys.readouterr().out
    converted = Dac(Dac.Config(weights=str(tmp_path / "codec.safetensors")))
    assert (converted.space, converted.fingerprint) == (ours.space, ours.fingerprint)
    audio = sound(24 * 15)
    assert torch.equal(converted.encode(audio), ours.encode(audio))
    with safe_open(tmp_path / "codec.safetensors", framework="pt") as file:
        assert file.get_tensor("encoder.0.conv.bias").dtype == torch.float32


def test_what_cannot_be_converted_is_told(tmp_path, folder):
    with pytest.raises(
        SpecError, match="'magnitude' reads no other program's weights; expected --tokenizer dac or encodec"
    ):
        convert(folder / "weights.pth", tmp_path / "x.safetensors", tokenizer="magnitude")
    with pytest.raises(DataError, match="no such file"):
        convert(tmp_path / "nowhere.pth", tmp_path / "x.safetensors")
    made = Magnitude.Config(weights="random", width=8, hidden=8, encoder_blocks=1, decoder_blocks=1, codebook_size=32)
    save_weights(tmp_path / "s.safetensors", Magnitude.network_of(made), "magnitude", Magnitude.architecture(made))
    with pytest.raises(CheckpointError, match="for tokenizer 'magnitude', not 'dac'"):
        convert(tmp_path / "s.safetensors", tmp_path / "x.safetensors")


def test_a_package_is_not_opened_unless_asked(tmp_path):
    """A torch.package holds a program."""
    model = published(tmp_path / "weights.pth")
    with torch.package.PackageExporter(tmp_path / "package.pth") as package:
        package.extern("**")
        package.save_pickle("DAC", "DAC.pth", model)
    with pytest.raises(CheckpointError, match=re.escape("the file is a torch.package")):
        Dac(Dac.Config(weights=str(tmp_path / "package.pth")))
    convert(tmp_path / "package.pth", tmp_path / "codec.safetensors", run_code=True)
    plain, packaged = (Dac(Dac.Config(weights=str(tmp_path / n))) for n in ("weights.pth", "codec.safetensors"))
    assert plain.fingerprint == packaged.fingerprint
