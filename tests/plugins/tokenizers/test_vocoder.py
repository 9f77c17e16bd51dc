"""The vocoder of `magnitude`: no change untrained, the bits of the offline call in streams, and codes left alone."""

import json
from pathlib import Path

import attrs
import pytest
import soundfile
import torch
from codecs_that_follow import DELAY, HOP, SMALL, joined, lively, music
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from accomp.core.errors import CheckpointError, SpecError
from accomp.core.registry import Registry
from accomp.core.testing import check_plugin
from accomp.plugins.tokenizers.codec.commands import train_codec
from accomp.plugins.tokenizers.codec.files.vocoder_files import PLUGIN, decoder_print, load_vocoder
from accomp.plugins.tokenizers.codec.files.weight_files import save_weights
from accomp.plugins.tokenizers.codec.music.tones import WithTones
from accomp.plugins.tokenizers.codec.networks.vocoder import REACH, Relations, Vocoder, VocoderSizes, corrected
from accomp.plugins.tokenizers.codec.phase.peaks import TensorPhases
from accomp.plugins.tokenizers.codec.streams.causal import FixedHistory, History
from accomp.plugins.tokenizers.codec.training.codec_spec import load_codec_spec
from accomp.plugins.tokenizers.codec.training.sound.spectral_losses import SpectralDistance
from accomp.plugins.tokenizers.codec.training.vocoder_part import VocoderConfig, VocoderPart
from accomp.plugins.tokenizers.magnitude import Magnitude

pytest.importorskip("numba")

from accomp.plugins.tokenizers.codec.phase.machine_phases import MachinePhases

CPU = torch.device("cpu")
BINS, FRAMES = 641, 20
SIZES = {"bands": 8, "width": 16, "hidden": 16, "blocks": 2, "kernel": 3}


def strong(latent: int = 80) -> Vocoder:
    """One that changes every bin."""
    torch.manual_seed(4)
    vocoder = Vocoder(latent=latent, **SIZES)
    torch.nn.init.normal_(vocoder.leave.weight, std=0.3)
    torch.nn.init.normal_(vocoder.leave.bias, std=0.3)
    vocoder.spread.fill_(3.0)
    return vocoder


def spoken(codec: Magnitude, vocoder: Vocoder | None) -> Magnitude:
    codec.use_vocoder(vocoder)
    return codec


@pytest.fixture(scope="module", params=["heap", "peaks"])
def codec(request) -> Magnitude:
    return spoken(lively(phase=request.param), strong())


@pytest.fixture(scope="module")
def offline(codec) -> tuple[torch.Tensor, torch.Tensor]:
    codes = codec.encode(music(3, FRAMES))
    return codes, codec.decode(codes)


# --- what it does ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("continuous", [0, 16])
@pytest.mark.parametrize("phase", ["heap", "peaks"])
def test_an_untrained_one_changes_no_bit(phase, continuous):
    codec = lively(phase=phase, continuous=continuous)
    codes = codec.encode(music(2, FRAMES))
    plain = codec.decode(codes)
    assert torch.equal(spoken(codec, Vocoder(latent=80, **SIZES)).decode(codes), plain)
    assert not torch.equal(spoken(codec, strong()).decode(codes), plain)
    assert torch.equal(spoken(codec, None).decode(codes), plain)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=6))
def test_streams_give_the_bits_of_the_offline_call(codec, offline, frames):
    codes, sound = offline
    decoder = codec.decoder(3)
    for _ in range(2):
        assert torch.equal(joined(decoder, codes, frames), sound)


def test_rows_have_the_same_bits_in_any_company(codec, offline):
    codes, sound = offline
    for row in range(3):
        assert torch.equal(codec.decode(codes[row : row + 1])[0], sound[row])


@settings(max_examples=8, deadline=None)
@given(at=st.integers(0, FRAMES - 2), rows=st.lists(st.booleans(), min_size=3, max_size=3))
def test_rows_that_are_reset_begin_anew_and_leave_the_others(codec, offline, at, rows):
    codes, sound = offline
    mask = torch.tensor(rows)
    decoder = codec.decoder(3)
    decoder.push(codes[..., :at])
    decoder.reset(mask)
    heard = torch.cat([decoder.push(codes[..., at:]), decoder.flush()], dim=-1)[:, -(FRAMES - at) * HOP :]
    if mask.any():
        assert torch.equal(heard[mask], codec.decode(codes[mask][..., at:]))
    assert torch.equal(heard[~mask], sound[~mask][:, at * HOP :])


def test_it_is_causal_and_adds_no_delay(codec, offline):
    codes, sound = offline
    other = codes.clone()
    other[..., 6:] = (other[..., 6:] + 7) % 64
    settled = 6 * HOP - DELAY
    same = codec.decode(other) == sound
    assert same[:, :settled].all()
    assert not same[:, settled : settled + 160].all()
    assert codec.space == lively().space


def test_silence_stays_digital_silence(codec):
    """Whatever the vocoder says, and again a window after sound."""
    settled = codec.settled(torch.cat([torch.rand(1, 8, BINS), torch.zeros(1, 16, BINS)], dim=1), History())
    z = torch.randn(1, 6, 80)
    vocoder = strong()
    changed = vocoder(settled, z, History())
    assert changed[:, :8].abs().sum() > 0
    assert not changed[:, 8:].any()
    sound = codec._phases.sound(changed, codec._phases.begin_sum(1))
    assert sound[:, : 8 * 160].any()
    assert not sound[:, 16 * 160 :].any()


def test_machine_code_is_what_torch_computes(codec, offline):
    """Both from the same spectra: those of the rule in float32 and float64 part where a comparison is near."""
    codes, sound = offline
    codes, sound = codes[..., :6], sound[:, : 6 * HOP - DELAY]
    found = codec.decode_on(codes, History())[:, DELAY:]
    assert (found - sound).norm() < 1e-4 * sound.norm()
    plain = lively(phase=codec._config.phase).decode(codes)[:, : 6 * HOP - DELAY]
    assert (plain - sound).norm() > 0.3 * sound.norm()


def test_the_tail_is_that_of_the_corrected_sum():
    """A vocoder that doubles everything doubles the last samples too."""
    double = Vocoder(latent=80, **SIZES)
    with torch.no_grad():
        double.leave.bias.view(4, 2, BINS)[:, 0] = 3**-0.5  # 2 u / sqrt(1 + u^2) = 1
    codec = lively()
    codes = codec.encode(music(1, 6))
    plain = codec.decode(codes)
    found = spoken(codec, double).decode(codes)
    for part in (slice(None, -DELAY), slice(-DELAY, None)):
        assert (found - 2 * plain)[:, part].norm() < 1e-5 * plain[:, part].norm()


def test_corrections_are_bounded_products_of_complex_numbers():
    spectra, u = torch.randn(2, 2, 3, 2, BINS).unbind(0)
    s, by = (torch.view_as_complex(x.transpose(2, 3).contiguous()) for x in (spectra, u))
    want = torch.view_as_real(s * (1 + 2 * by / (1 + by.abs() ** 2).sqrt())).transpose(2, 3)
    torch.testing.assert_close(corrected(spectra, u), want)
    far = corrected(spectra, 1e6 * u) - spectra
    assert (far.square().sum(2).sqrt() <= REACH * spectra.square().sum(2).sqrt() * (1 + 1e-5)).all()


def test_relations_tell_partials_impulses_and_noise_apart():
    """By exact spectra of each; and a turn of all phases leaves no trace."""
    t = torch.arange(12_800, dtype=torch.float64)
    noise = torch.randn(12_800, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sounds = torch.stack([(2 * torch.pi * 3013 / 32_000 * t).sin(), (t == 3000).double(), noise])
    frames = sounds.unfold(1, 1280, 160) * torch.hann_window(1280, dtype=torch.float64)
    spectra = torch.fft.rfft(frames.roll(640, dims=2))
    relations = Relations(8)
    band = int(relations.bands[:, 120].argmax())

    def seen(s: torch.Tensor) -> torch.Tensor:
        found = relations(torch.stack([s.real, s.imag], dim=2), History()).unflatten(2, (5, 8))[:, 1:, 1:, band]
        return torch.complex(found[..., ::2], found[..., 1::2])

    partial, impulse, hiss = seen(spectra)
    assert partial.std(0).max() < 1e-6 < 0.01 < hiss.std(0).min()
    torch.testing.assert_close(partial[0].abs(), torch.tensor([0.902, 2 / 3], dtype=torch.float64), atol=2e-3, rtol=0)
    starts = 160 * torch.arange(1, len(frames[1])).double()
    heard = spectra[1].abs().amax(1)[1:] > 0.1
    place = (-2 * torch.pi * (3000 - starts - 640) / 1280)[heard]
    torch.testing.assert_close(impulse[heard, 1], torch.exp(1j * place), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen(spectra * torch.exp(torch.tensor(1.3j))), seen(spectra))


@pytest.mark.parametrize(("hop", "window"), [(160, 1280), (150, 640)])
@pytest.mark.parametrize("made", [lambda **o: MachinePhases(heap=False, **o), TensorPhases])
def test_settled_spectra_sound_as_the_rule_does(made, hop, window):
    """In pieces of any size; with what is changed in them, the rule itself goes on as before."""
    rule = made(hop=hop, window=window)
    said = torch.rand(2, 12, window // 2 + 1) ** 8
    state, plain = rule.begin(2), rule.begin(2)
    total, sound, want = rule.begin_sum(2), [], []
    for part in said.split([3, 0, 1, 8], dim=1):
        settled = rule.spectra(part, state)
        sound.append(rule.sound(settled, total))
        settled.zero_()
        want.append(rule(part, plain))
    assert torch.equal(state, plain)
    bits = isinstance(rule, MachinePhases)
    torch.testing.assert_close(torch.cat(sound, 1), torch.cat(want, 1), rtol=0, atol=0 if bits else 1e-5)
    torch.testing.assert_close(rule.tail(total), rule.flush(plain), rtol=0, atol=0 if bits else 1e-5)


def test_with_tensors_it_waits_for_nothing_and_can_be_traced():
    """As `prepare` does on a GPU: as a graph over all that is remembered; and, the rule, on a device without data."""
    rule, vocoder = TensorPhases(), strong()
    said, z = torch.rand(2, 12, BINS) ** 8, torch.randn(2, 3, 80)

    def sound(said: torch.Tensor, z: torch.Tensor, history: History) -> torch.Tensor:
        settled = rule.spectra(said, history.of(rule, lambda: rule.begin(2)))
        return rule.sound(vocoder(settled, z, history), history.of(vocoder, lambda: rule.begin_sum(2)))

    whole = History()
    want = sound(said, z, whole)
    keys, begin = zip(*((key, torch.zeros_like(past)) for key, past in whole.items()), strict=True)
    pasts = [past.clone() for past in begin]
    traced = make_fx(lambda said, z, *pasts: sound(said, z, FixedHistory(dict(zip(keys, pasts, strict=True)))))(
        said[:, :4], z[:, :1], *begin
    )
    parts = zip(said.split(4, dim=1), z.split(1, dim=1), strict=True)
    found = torch.cat([traced(magnitudes, latents, *pasts) for magnitudes, latents in parts], dim=1)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-4)
    settled = rule.spectra(said.to("meta"), rule.begin(2, "meta"))
    assert rule.sound(settled, rule.begin_sum(2, "meta")).shape == (2, 12 * 160)


# --- its file ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """A codec, another one, and a vocoder of the first."""
    folder = tmp_path_factory.mktemp("weights")
    codec, sizes = lively(), Magnitude.architecture(Magnitude.Config(**SMALL))
    save_weights(folder / "codec.safetensors", codec.network, "magnitude", sizes)
    other = Magnitude.network_of(Magnitude.Config(**SMALL))
    save_weights(folder / "other.safetensors", other, "magnitude", sizes)
    found = {name: str(folder / f"{name}.safetensors") for name in ("codec", "other", "vocoder")}
    state = VocoderPart(Magnitude).architecture(VocoderConfig(codec=found["codec"], **SIZES))
    save_weights(folder / "vocoder.safetensors", strong(), PLUGIN, state)
    return found


def config(files, **changes) -> Magnitude.Config:
    return Magnitude.Config(**SMALL | {"weights": files["codec"], "vocoder": files["vocoder"]} | changes)


def test_codes_and_fingerprint_are_the_same_with_a_vocoder(files):
    plain, better = Magnitude(config(files, vocoder="")), Magnitude(config(files))
    audio = music(1, FRAMES)
    codes = plain.encode(audio)
    assert plain.fingerprint == better.fingerprint
    assert torch.equal(better.encode(audio), codes)
    assert not torch.equal(better.decode(codes), plain.decode(codes))


def test_another_vocoder_in_the_same_file_is_another_sound(files):
    before, path = Magnitude(config(files)).decoder_fingerprint, Path(files["vocoder"])
    kept = path.read_bytes()
    state = VocoderPart(Magnitude).architecture(VocoderConfig(codec=files["codec"], **SIZES))
    other = strong()
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    try:
        save_weights(path, other, PLUGIN, state)
        assert Magnitude(config(files)).decoder_fingerprint != before
    finally:
        path.write_bytes(kept)
    assert Magnitude(config(files)).decoder_fingerprint == before


def test_it_fits_the_decoder_with_fewer_codebooks_and_however_codes_are_chosen(files):
    for changes in ({"codebooks": 2}, {"stay": 0.0}, {"continuous": 16}, {"rounds": 0}):
        assert Magnitude(config(files, **changes)).encode(music(1, 3)).shape[2] == 3


def test_the_conformance_kit_finds_nothing(files):
    assert check_plugin("tokenizer", "magnitude", Registry(third_party=False), **attrs.asdict(config(files, stay=0.0)))


def test_what_does_not_belong_is_refused(files, tmp_path):
    for changes, why in (
        ({"vocoder": "nowhere.safetensors"}, "no such codec file; expected the vocoder.safetensors"),
        ({"vocoder": files["codec"]}, "weights are for tokenizer 'magnitude', not 'magnitude vocoder'"),
        ({"weights": files["other"]}, r"the vocoder is for the decoder \w{16}, the codec's weights have \w{16}"),
        ({"weights": files["vocoder"]}, "weights are for tokenizer 'magnitude vocoder', not 'magnitude'"),
    ):
        with pytest.raises(CheckpointError, match=why):
            Magnitude(config(files, **changes))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"width": 32}, "do not fit the sizes"),
        ({"hidden": 18}, "hidden 18; expected a multiple of 4"),
        ({"bands": 0}, "'bands' must be > 0"),
        ({"blocks": "2"}, "'blocks' must be"),
        ({"depth": 2}, "depth"),
    ],
)
def test_other_sizes_are_refused(files, tmp_path, changes, why):
    network = Magnitude(config(files, vocoder="")).network
    path = tmp_path / "vocoder.safetensors"
    save_weights(path, strong(), PLUGIN, {"decoder": decoder_print(network), "codebooks": 4} | SIZES | changes)
    with pytest.raises(CheckpointError, match=why):
        load_vocoder(str(path), network)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(files, tmp_path, bad):
    network, broken = Magnitude(config(files, vocoder="")).network, strong()
    with torch.no_grad():
        broken.leave.bias[7] = bad
    path = tmp_path / "vocoder.safetensors"
    save_weights(path, broken, PLUGIN, {"decoder": decoder_print(network), "codebooks": 4} | SIZES)
    with pytest.raises(CheckpointError, match=r"NaN or Inf: leave\.bias"):
        load_vocoder(str(path), network)


# --- training ----------------------------------------------------------------------------------------------------


def written(folder, files, *, steps: int = 3, codec: str = "", **changes):
    train = {
        "steps": steps, "batch": 2, "seconds": 0.2, "warmup": 0, "low": 0.0, "windows": [512, 1024, 2048],
        "report_every": 1, "checkpoint_every": 2, "validate_every": 2,
    } | changes  # fmt: skip
    root = folder / "music"
    for split in ("train", "validation"):
        (root / split).mkdir(parents=True, exist_ok=True)
        soundfile.write(root / split / "a.wav", music(1, 60)[0].numpy(), 32_000)
    sections = {"codec": {"plugin": "magnitude", "part": "vocoder", "codec": files["codec"], **SIZES}}
    sections |= {"data": {"root": str(root), "excerpt_seconds": 0.5}, "train": train}
    lines = [
        f"[{name}]\n" + "".join(f"{k} = {json.dumps(x)}\n" for k, x in keys.items()) for name, keys in sections.items()
    ]
    path = folder / "vocoder.toml"
    path.write_text("\n".join(["seed = 3", *lines, codec]))
    return load_codec_spec(path, Registry(third_party=False))


def trainer(spec, clips=None):
    torch.manual_seed(0)
    network = spec.tokenizer.network_of(spec.config)
    return spec.trainer(network, spec.train, clips or WithTones(None, 1.0), 7, CPU)


@pytest.mark.parametrize(
    "adversary", [{}, {"adversarial": 1.0, "adversary_periods": [], "adversary_windows": [512], "adversary_from": 0.1}]
)
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(tmp_path, files, adversary):
    spec = written(tmp_path, files, steps=4, **adversary)
    whole = [parts["total"] for parts in trainer(spec).steps()]
    first, second = trainer(spec), trainer(spec)
    steps = first.steps()
    half = [next(steps)["total"] for _ in range(2)]
    first.save(tmp_path / "checkpoint.pt")
    second.load(tmp_path / "checkpoint.pt")
    parts = list(second.steps())
    assert half + [part["total"] for part in parts] == whole
    assert len(set(whole)) == 4
    assert ("fool" in parts[-1]) == bool(adversary)


def test_before_it_learns_it_is_judged_by_what_the_codec_decodes(tmp_path, files):
    """Sample for sample beside the original, validated on the way, as a codec whose codebooks are fitted."""
    one = trainer(written(tmp_path, files, log=1.0, linear=2.0, energy=0.0, low=0.5))
    audio = music(2, 11)[:, : 10 * HOP]
    one.draw = lambda: audio
    parts = one.learn(0.0)
    codec = Magnitude(config(files, vocoder=""))
    sound = codec.decode(codec.encode(audio))[:, :-DELAY]
    want = SpectralDistance(32_000, (512, 1024, 2048))(sound, audio[:, :-DELAY])
    for name in ("log", "linear", "low"):
        assert parts[name] == pytest.approx(float(want[name]), rel=1e-3), name
    assert parts["total"] == pytest.approx(float(want["log"] + 2 * want["linear"] + 0.5 * want["low"]), rel=1e-3)
    assert one.fitted is not None


def test_training_lowers_the_loss_and_leaves_the_codec_alone(tmp_path, files):
    class Same:
        def draw(self, *_):
            return music(2, 11)[:, : 10 * HOP]

    spec = written(tmp_path, files, steps=12, lr=1e-2, levels=[0.0, 0.0])
    one = trainer(spec, Same())
    before = {name: tensor.clone() for name, tensor in one.codec.network.state_dict().items()}
    losses = [parts["total"] for parts in one.steps()]
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in one.codec.network.state_dict().items())
    assert not any("codec" in name or "quantizer" in name for name in one.network.state_dict())


def test_the_command_trains_one_that_the_codec_takes(tmp_path, files):
    spec = written(tmp_path, files)
    quality = train_codec(spec, tmp_path / "out", CPU)
    assert quality["codes_used_1"] > 1
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert report["spec"]["codec"]["plugin"] == "magnitude vocoder"
    assert not (tmp_path / "out" / "codec.safetensors").exists()
    vocoder = str(tmp_path / "out" / "vocoder.safetensors")
    codec = Magnitude(config(files, vocoder=vocoder))
    codes = codec.encode(music(1, 12))
    assert not torch.equal(codec.decode(codes), Magnitude(config(files, vocoder="")).decode(codes))
    again = written(tmp_path, files, start=vocoder)
    begun = train_codec(again, tmp_path / "again", CPU)
    assert begun.keys() == quality.keys()


def test_specs_with_another_part_or_another_key_are_refused(tmp_path, files):
    path = tmp_path / "bad.toml"
    for section, why in (
        ('plugin = "magnitude"\npart = "singer"', "tokenizer 'magnitude' has no part 'singer'.*there are: 'vocoder'"),
        ('plugin = "encodec"\npart = "vocoder"', "tokenizer 'encodec' has no part 'vocoder'.*there are none"),
        ('plugin = "magnitude"\npart = "vocoder"\nlatent = 64', "latent"),
    ):
        path.write_text(f'[codec]\n{section}\n[data]\nroot = "."\n[train]\nsteps = 1\n')
        with pytest.raises(SpecError, match=why):
            load_codec_spec(path, Registry(third_party=False))


def test_the_shipped_spec_is_one(files):
    spec = load_codec_spec("codec_vocoder", Registry(third_party=False))
    assert isinstance(spec.config, VocoderSizes)
    assert spec.train.adversarial > 0
    assert spec.train.low == 0
