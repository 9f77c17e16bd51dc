"""Where codec weights come from, what is said when they are not there, and what loading leaves untouched."""

import json
import random
import sys
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from accomp.core.errors import CheckpointError, PluginError
from accomp.plugins.tokenizers.codec.files import weight_files
from accomp.plugins.tokenizers.codec.files.weight_files import save_weights
from accomp.plugins.tokenizers.codec.quality.measures import measure
from accomp.plugins.tokenizers.dac import Dac
from accomp.plugins.tokenizers.encodec import Encodec
from accomp.plugins.tokenizers.magnitude import Magnitude

SMALL = {"width": 16, "hidden": 16, "encoder_blocks": 1, "decoder_blocks": 1, "codebook_size": 32}


def config(**changes) -> Magnitude.Config:
    return Magnitude.Config(**({"weights": "random"} | SMALL | changes))


def saved(path, **changes):
    made = config(**changes)
    torch.manual_seed(5)
    save_weights(path, Magnitude.network_of(made), "magnitude", Magnitude.architecture(made), half=False)
    return path


def phrase(seconds: float = 2.0) -> torch.Tensor:
    """Decaying harmonic notes with a noise hit every half second [N]; no part of any training set."""
    rng = np.random.default_rng(11)
    t = np.arange(round(seconds * 32_000)) / 32_000
    beat = np.floor(t * 2).astype(int)
    since = t * 2 - beat
    pitch = np.array([220.0, 277.2, 329.6, 440.0])[beat % 4]
    notes = sum(np.sin(2 * np.pi * pitch * h * t) / h for h in range(1, 7)) * np.exp(-3 * since)
    hits = rng.standard_normal(len(t)) * np.exp(-40 * since)
    return torch.from_numpy((0.15 * notes + 0.1 * hits).astype(np.float32))


def test_weights_of_a_file_come_back(tmp_path):
    path = saved(tmp_path / "codec.safetensors")
    torch.manual_seed(5)
    original = Magnitude.network_of(config())
    codec = Magnitude(config(weights=str(path)))
    assert torch.equal(codec.network.enter.weight, original.enter.weight.double())
    assert codec.encode(phrase()[None]).shape == (1, 4, 100)


def test_equal_weights_have_one_fingerprint_wherever_they_lie(tmp_path):
    here, there = saved(tmp_path / "a.safetensors"), saved(tmp_path / "b" / "c.safetensors")
    first = Magnitude(config(weights=str(here))).fingerprint
    assert Magnitude(config(weights=str(there))).fingerprint == first
    assert Magnitude(config(seed=1)).fingerprint != Magnitude(config(seed=2)).fingerprint
    assert Magnitude(config(seed=1)).fingerprint == Magnitude(config(seed=1)).fingerprint
    assert Magnitude(config(kernel=3)).fingerprint != Magnitude(config()).fingerprint


def test_half_precision_is_written_by_default(tmp_path):
    full, half = saved(tmp_path / "full.safetensors"), tmp_path / "half.safetensors"
    save_weights(half, Magnitude.network_of(config()), "magnitude", Magnitude.architecture(config()))
    assert half.stat().st_size < 0.6 * full.stat().st_size
    Magnitude(config(weights=str(half)))


@pytest.mark.parametrize("name", ["magnitude", "dac"])
def test_loading_leaves_global_state_alone(name):
    cls, made = {"magnitude": (Magnitude, config()), "dac": (Dac, dac_config())}[name]
    torch.manual_seed(1)
    random.seed(2)
    np.random.seed(3)  # noqa: NPY002  the legacy state is what must not change
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    argv, threads = list(sys.argv), torch.get_num_threads()
    codec = cls(made)
    codec.decode(codec.encode(torch.zeros(1, 700)))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002
    assert (list(sys.argv), torch.get_num_threads()) == (argv, threads)
    assert torch.get_default_dtype() == torch.float32
    assert not any(p.requires_grad for p in codec.network.parameters())


def dac_config(**changes) -> Dac.Config:
    sizes = {"latent": 16, "encoder_width": 2, "decoder_width": 16, "codebook_size": 32}
    return Dac.Config(**({"weights": "random"} | sizes | changes))


def test_dac_has_no_weights_and_says_how_to_get_some():
    with pytest.raises(
        CheckpointError, match="no weights are shipped for tokenizer 'dac'; train one with `accomp codec"
    ):
        Dac(Dac.Config(codebook_size=32, latent=16, encoder_width=2, decoder_width=16))


def test_a_missing_file_says_what_would_do():
    with pytest.raises(
        CheckpointError, match=r"no such codec file; expected a \.safetensors file, .*accomp codec train"
    ):
        Magnitude(config(weights="nowhere.safetensors"))


def test_a_damaged_file_is_named(tmp_path):
    path = saved(tmp_path / "codec.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"not a readable safetensors file.*codec\.safetensors"):
        Magnitude(config(weights=str(path)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_and_named(tmp_path, value):
    path = saved(tmp_path / "codec.safetensors")
    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    tensors["leave.bias"][3] = value
    save_file(tensors, path, metadata=header)
    with pytest.raises(CheckpointError, match=r"hold NaN or Inf: leave\.bias @ .*codec\.safetensors"):
        Magnitude(config(weights=str(path)))


@pytest.mark.parametrize(
    "described", ["no json", "{}", "[]", "3", '{"plugin": "magnitude"}', '{"plugin": 1, "architecture": {}}',
                  '{"plugin": "magnitude", "architecture": []}', "[" * 5000]
)  # fmt: skip
def test_a_file_whose_description_cannot_be_read_is_named(tmp_path, described):
    path = tmp_path / "codec.safetensors"
    save_file({"x": torch.zeros(3)}, path, metadata={weight_files.KEY: described})
    for make in (Magnitude, Dac):
        with pytest.raises(CheckpointError, match=r"the header of the file .*codec\.safetensors"):
            make(make.Config(weights=str(path)))


def test_a_zip_of_that_name_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "codec.safetensors", "w") as archive:
        archive.writestr("hello", "there")
    for make in (Magnitude, Dac, Encodec):
        with pytest.raises(CheckpointError, match=r"codec\.safetensors"):
            make(make.Config(weights=str(tmp_path / "codec.safetensors")))


def test_whatever_bit_flips_in_what_a_file_says_of_itself_it_is_refused_or_plays(tmp_path):
    path = saved(tmp_path / "codec.safetensors")
    whole = path.read_bytes()
    rng = random.Random(0)
    refused = 0
    for _ in range(60):
        rotten = bytearray(whole)
        place = rng.randrange(8 + int.from_bytes(whole[:8], "little"))
        rotten[place] ^= 1 << rng.randrange(8)
        path.write_bytes(rotten)
        try:
            Magnitude(config(weights=str(path)))
        except CheckpointError as error:
            refused += 1
            assert "codec.safetensors" in str(error)  # noqa: PT017
    assert refused > 40


def test_other_tensors_are_not_taken_for_a_codec(tmp_path):
    save_file({"x": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not a codec of accomp"):
        Magnitude(config(weights=str(tmp_path / "other.safetensors")))


def test_weights_of_the_other_plugin_are_refused(tmp_path):
    path = saved(tmp_path / "codec.safetensors")
    with pytest.raises(CheckpointError, match="for tokenizer 'magnitude', not 'dac'"):
        Dac(dac_config(weights=str(path)))


def test_other_sizes_are_all_named(tmp_path):
    path = saved(tmp_path / "codec.safetensors")
    with pytest.raises(CheckpointError) as caught:
        Magnitude(config(weights=str(path), width=20, kernel=3))
    assert len(caught.value.problems) == 2
    assert "the weights have kernel = 7, the spec asks for 3" in str(caught.value)
    assert "set [tokenizer] width = 16" in str(caught.value)
    with pytest.raises(CheckpointError, match="the file has 4 codebooks, the spec asks for 5"):
        Magnitude(config(weights=str(path), codebooks=5))


def altered(path, level: int):
    """The file again, with another codebook of that level."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    tensors[f"quantizer.quantizers.{level}.codebook"] *= -1
    save_file(tensors, path.with_name(f"{level}.safetensors"), header)
    return path.with_name(f"{level}.safetensors")


def test_the_first_codebooks_are_a_codec_that_knows_nothing_of_the_others(tmp_path):
    path = saved(tmp_path / "codec.safetensors", codebooks=6)
    six, four = (Magnitude(config(weights=str(path), codebooks=k)) for k in (6, 4))
    codes = six.encode(phrase()[None])
    assert torch.equal(four.encode(phrase()[None]), codes[:, :4])
    assert six.fingerprint != four.fingerprint
    later, own = (Magnitude(config(weights=str(altered(path, level)), codebooks=4)) for level in (4, 3))
    assert later.fingerprint == four.fingerprint
    assert own.fingerprint != four.fingerprint


def test_hub_names_are_checked_before_anything_is_fetched():
    with pytest.raises(CheckpointError, match="expected hub:owner/repo/file"):
        Magnitude(config(weights="hub:only-one"))


def test_hub_failure_says_what_to_do(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def offline(repo, file, revision):
        assert (repo, file, revision) == ("someone/codecs", "a/spectral.safetensors", "v2")
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "hf_hub_download", offline)
    with pytest.raises(CheckpointError, match=r"cannot fetch .*no route to host; without a network, copy the file"):
        Magnitude(config(weights="hub:someone/codecs/a/spectral.safetensors@v2"))
    path = saved(tmp_path / "codec.safetensors")
    monkeypatch.setattr(hub, "hf_hub_download", lambda repo, file, revision: str(path))
    assert Magnitude(config(weights="hub:someone/codecs/x")).space.codebook_size == 32


def test_a_missing_hub_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(PluginError, match="needs huggingface_hub"):
        Magnitude(config(weights="hub:someone/codecs/x"))


@pytest.fixture(scope="module")
def shipped() -> Magnitude:
    return Magnitude(Magnitude.Config())


def test_shipped_weights_say_what_they_are(shipped):
    about = json.loads((weight_files.SHIPPED / "magnitude.json").read_text())
    assert about["fingerprint"] == shipped.fingerprint
    assert about["fingerprint_of_8_codebooks"] == Magnitude(Magnitude.Config(codebooks=8)).fingerprint
    assert {"spec", "quality", "files", "minutes"} <= about.keys()
    assert (weight_files.SHIPPED / "magnitude.safetensors").stat().st_size < 10_000_000
    assert shipped.space == Magnitude.space_of(Magnitude.Config())


def test_shipped_weights_beat_an_untrained_codec(shipped):
    sounds = [phrase()]
    trained, untrained = measure(shipped, sounds), measure(Magnitude(Magnitude.Config(weights="random")), sounds)
    assert trained["log_mel_db"] < 0.4 * untrained["log_mel_db"]
    assert 0.3 < trained["rms_ratio"] < 1.4
    assert trained["codes_used_1"] > 10


def test_eight_shipped_codebooks_begin_with_the_four(shipped):
    eight, sound = Magnitude(Magnitude.Config(codebooks=8)), phrase()
    assert torch.equal(eight.encode(sound[None])[:, :4], shipped.encode(sound[None]))
    four, more = (measure(codec, [sound]) for codec in (shipped, eight))
    assert more["log_mel_db"] < four["log_mel_db"] + 0.1
    assert min(more[f"codes_used_{q}"] for q in range(5, 9)) > 10


def test_silence_stays_silent(shipped):
    silence = shipped.decode(shipped.encode(torch.zeros(1, 32_000)))
    assert silence.square().mean().sqrt() < 1e-3
    after_music = shipped.decode(shipped.encode(torch.cat([phrase(), torch.zeros(32_000)])[None]))
    assert after_music[0, -16_000:].square().mean().sqrt() < 1e-3


def test_shipped_codec_streams_as_it_works_offline(shipped):
    audio = phrase()[None]
    codes = shipped.encode(audio)
    stream = shipped.encoder()
    streamed = [stream.push(audio[:, i : i + 1000]) for i in range(0, audio.shape[1], 1000)]
    assert torch.equal(torch.cat([*streamed, stream.flush()], dim=-1), codes)
    decoder = shipped.decoder()
    sound = torch.cat([*(decoder.push(codes[..., i : i + 3]) for i in range(0, 100, 3)), decoder.flush()], dim=-1)
    torch.testing.assert_close(sound, shipped.decode(codes), atol=1e-4, rtol=0)
