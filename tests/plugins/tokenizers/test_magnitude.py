"""The `magnitude` tokenizer: streams give the bits of the offline call, and those are what torch's network says."""

import sys

import pytest
import torch
from codecs_that_follow import DELAY, HOP, SMALL, joined, lively, music
from hypothesis import given, settings
from hypothesis import strategies as st

from accomp.core.errors import PluginError
from accomp.core.registry import Registry
from accomp.core.testing import check_plugin
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.magnitude import Magnitude

pytest.importorskip("numba")

FRAMES = 24


@pytest.fixture(scope="module", params=[("heap", 1), ("peaks", 1), ("peaks", 0)], ids=str)
def codec(request) -> Magnitude:
    phase, blocks = request.param
    return lively(phase=phase, stay=0.2, tuner_blocks=blocks)


@pytest.fixture(scope="module")
def offline(codec) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    audio = music(3, FRAMES)
    codes = codec.encode(audio)
    return audio, codes, codec.decode(codes)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 1900), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_streams_give_the_bits_of_the_offline_call(codec, offline, samples, frames):
    """Codes and sound alike, however they are cut, and again after the flush."""
    audio, codes, sound = offline
    encoder, decoder = codec.encoder(3), codec.decoder(3)
    for _ in range(2):
        assert torch.equal(joined(encoder, audio, samples), codes)
        assert torch.equal(joined(decoder, codes, frames), sound)


def test_rows_have_the_same_bits_in_any_company(codec, offline):
    audio, codes, sound = offline
    for row in range(3):
        assert torch.equal(codec.encode(audio[row : row + 1])[0], codes[row])
        assert torch.equal(codec.decode(codes[row : row + 1])[0], sound[row])
    assert len({tuple(row.flatten().tolist()) for row in codes}) == 3


@settings(max_examples=8, deadline=None)
@given(at=st.integers(0, FRAMES - 2), rows=st.lists(st.booleans(), min_size=3, max_size=3))
def test_rows_that_are_reset_begin_anew_and_leave_the_others(codec, offline, at, rows):
    audio, codes, sound = offline
    mask = torch.tensor(rows)
    encoder, decoder = codec.encoder(3), codec.decoder(3)
    decoder.push(encoder.push(audio[:, : at * HOP]))
    encoder.reset(mask)
    decoder.reset(mask)
    after = torch.cat([encoder.push(audio[:, at * HOP :]), encoder.flush()], dim=-1)
    heard = torch.cat([decoder.push(after), decoder.flush()], dim=-1)[:, -(FRAMES - at) * HOP :]
    if mask.any():
        anew = codec.encode(audio[mask][:, at * HOP :])
        assert torch.equal(after[mask], anew)
        assert torch.equal(heard[mask], codec.decode(anew))
    assert torch.equal(after[~mask], codes[~mask][..., at:])
    assert torch.equal(heard[~mask], sound[~mask][:, at * HOP :])


def test_it_is_what_torch_makes_of_the_network(codec):
    """The same codes, but where two are as near as float32 can tell; what other devices compute with."""
    audio = music(2, FRAMES)
    whole = torch.nn.functional.pad(audio, (0, 200)).double()
    codes = codec.encode(audio)
    assert (codec.encode_on(whole, History()) == codes).float().mean() > 0.98
    sound, own = codec.decode_on(codes, History())[:, DELAY:][:, :4000], codec.decode(codes)[:, :4000]
    assert (sound - own).norm() < 0.05 * own.norm(), "phases hang on comparisons, and so do not agree for ever"


def test_it_is_causal_and_its_delay_is_exact(codec):
    audio = music(1, 12)
    later = audio.clone()
    later[:, 6 * HOP :] = 0.3
    assert torch.equal(codec.encode(later)[..., :6], codec.encode(audio)[..., :6])
    assert not torch.equal(codec.encode(later)[..., 6:], codec.encode(audio)[..., 6:])
    codes = codec.encode(audio)
    other = codes.clone()
    other[..., 6:] = (other[..., 6:] + 7) % 64
    settled = 6 * HOP - DELAY
    same = codec.decode(other) == codec.decode(codes)
    assert same[:, :settled].all()
    assert not same[:, settled : settled + 160].all()


def test_the_conformance_kit_finds_nothing():
    assert check_plugin("tokenizer", "magnitude", Registry(third_party=False), stay=0.0, **SMALL)


def test_prepared_streams_are_the_same_and_nothing_is_compiled_for_them(codec):
    from accomp.plugins.tokenizers.codec.streams.cpu import kernels

    made = [value for value in vars(kernels).values() if hasattr(value, "signatures")]
    before = [len(kernel.signatures) for kernel in made]
    assert codec.prepares_quickly
    codec.prepare(2)
    with torch.inference_mode():
        codec.decoder(2).push(codec.encoder(2).push(music(2, 9).flip(1)).flip(1))
    assert [len(kernel.signatures) for kernel in made] == before
    assert len(before) > 8


def test_without_numba_it_says_what_to_install(monkeypatch):
    monkeypatch.delattr("accomp.plugins.tokenizers.codec.streams.cpu.network")
    monkeypatch.setitem(sys.modules, "accomp.plugins.tokenizers.codec.streams.cpu.network", None)
    with pytest.raises(PluginError, match=r"numba.*accomp\[codec\]"):
        Magnitude(Magnitude.Config(**SMALL))


def test_what_is_stored_depends_on_how_codes_are_chosen():
    """Tokens made with `stay` are others; how sound is made of them is no part of it."""

    def fingerprint(**changes) -> str:
        return Magnitude(Magnitude.Config(**SMALL, **changes)).fingerprint

    assert fingerprint(stay=0.1) != fingerprint() == fingerprint(phase="heap", rounds=0)


def shaken(part: str, **changes) -> Magnitude:
    """One whose weights of a part are a little different."""
    config = Magnitude.Config(**{**SMALL, "tuner_blocks": 1, **changes})
    torch.manual_seed(1)
    network = Magnitude.network_of(config)
    for name, tensor in network.state_dict().items():
        if name.startswith(part):
            tensor += 1e-3
    return Magnitude.trained(config, network)


DECODER = ("spread", "synthesis", "from_latent", "decoder_blocks.1.taps", "decoder_norm", "leave", "tuner.leave")
ENCODER = ("mean", "analysis", "enter", "encoder_blocks.1.taps", "encoder_norm", "to_latent")


@pytest.mark.parametrize("continuous", [0, 16])
def test_a_better_decoder_leaves_the_fingerprint_and_other_codes_change_it(continuous):
    def of(part: str) -> tuple[str, str]:
        codec = shaken(part, continuous=continuous)
        return codec.fingerprint, codec.decoder_fingerprint

    codes, sound = of("none")
    read, unread = ("whitening", "quantizer") if continuous else ("quantizer", "whitening")
    for part in (*DECODER, unread):
        assert of(part)[0] == codes, part
        assert of(part)[1] != sound, part
    for part in (*ENCODER, read):
        assert of(part)[0] != codes, part


def test_decoders_of_other_sizes_and_rules_have_the_fingerprint_and_another_sound():
    first = Magnitude(Magnitude.Config(**SMALL, tuner_blocks=0))
    heap = Magnitude(Magnitude.Config(**SMALL, tuner_blocks=0, phase="heap"))
    assert first.fingerprint == heap.fingerprint
    assert first.decoder_fingerprint != heap.decoder_fingerprint
    sizes = (shaken("none", tuner_blocks=blocks).fingerprint for blocks in (0, 2))
    assert len({*sizes}) == 1


@pytest.fixture(scope="module")
def latents() -> Magnitude:
    return lively(continuous=16)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 1900), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_latents_stream_as_codes_do(latents, samples, frames):
    audio = music(2, FRAMES)
    found = latents.encode(audio)
    assert (found.shape, found.dtype) == ((2, 16, FRAMES), torch.float32)
    assert torch.equal(found, found.half().float()), "what float16 holds"
    assert torch.equal(joined(latents.encoder(2), audio, samples), found)
    assert torch.equal(joined(latents.decoder(2), found, frames), latents.decode(found))


def test_latents_are_whitened_principal_components_of_the_magnitudes(latents):
    audio = music(8, 60)[:, : 59 * HOP]
    found = latents.encode(audio).transpose(1, 2).flatten(0, 1)
    covariance = torch.cov(found.T.double())
    assert (covariance - torch.eye(16)).abs().max() < 3e-3, "of the music that they were fitted to"
    z = latents.network.encode(audio.double(), History()).flatten(0, 1)[:, :64]
    centred = z - z.mean(0)
    kept = (centred @ torch.linalg.svd(centred, full_matrices=False)[2][:16].T).square().sum() / centred.square().sum()
    back = latents.network.whitening.back(found.double())[:, :64]
    missed = (back - z).square().sum() / centred.square().sum()
    assert abs(float(1 - kept - missed)) < 1e-4, "no 16 directions hold more"


def test_all_components_lose_nothing_and_codes_are_other_values():
    whole, codes = lively(continuous=80), lively()
    audio = music(1, 12)
    z = codes.network.encode(torch.nn.functional.pad(audio, (0, 200)).double(), History())
    back = whole.network.whitening.back(whole.encode(audio).transpose(1, 2))
    torch.testing.assert_close(back.double(), z, atol=1e-2, rtol=0)  # latents are rounded to float16
    assert whole.fingerprint != codes.fingerprint != lively(continuous=16).fingerprint
    assert (whole.space.codebooks, whole.space.codebook_size, whole.space.latent_dim) == (0, 0, 80)
    for bad, why in (
        (torch.zeros(1, 63, 2), r"expected float \[B, 80, T\]"),
        (torch.full((1, 80, 2), torch.nan), "NaN"),
    ):
        with pytest.raises(ValueError, match=why):
            whole.decode(bad)
    with pytest.raises(ValueError, match="at most 80"):
        Magnitude.Config(continuous=84)
    with pytest.raises(ValueError, match="at most 64"):
        Magnitude.Config(continuous=68, circles=0)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="latent 30; expected a multiple of 4"):
        Magnitude.Config(latent=30)
