"""`spectral` in machine code: streams that were prepared give the offline codes and sound, and compile nothing more."""

import sys
from types import SimpleNamespace

import pytest
import torch

from accomp.core.errors import PluginError
from accomp.plugins.tokenizers.causal import CausalBlock, FixedHistory, History
from accomp.plugins.tokenizers.dac import Dac
from accomp.plugins.tokenizers.spectral import Spectral
from accomp.plugins.tokenizers.speed import prepared

pytest.importorskip("numba")

from accomp.plugins.tokenizers import machine_code, spectral_live

HOP = 640
SMALL = {"weights": "random", "width": 24, "hidden": 32, "encoder_blocks": 2, "decoder_blocks": 2, "codebook_size": 64}


@pytest.fixture(scope="module", params=["shipped", "untrained"])
def codec(request) -> Spectral:
    codec = Spectral(Spectral.Config() if request.param == "shipped" else Spectral.Config(**SMALL, kernel=3))
    codec.prepare(1)
    codec.prepare(5)
    return codec


def music(rows: int, frames: int) -> torch.Tensor:
    """Chords that are struck again and again, over noise [B, N]; N is no whole number of frames."""
    rng = torch.Generator().manual_seed(rows)
    t = torch.arange(frames * HOP - 200) / 32_000
    tones = 2 * torch.pi * 110 * 2 ** (torch.randint(0, 36, (rows, 3, 1), generator=rng) / 12) * t
    struck = torch.exp(-(t * 4 + torch.rand(rows, 1, generator=rng)) % 1 * 5)
    return 0.2 * tones.sin().sum(1) * struck + 0.01 * torch.randn(rows, len(t), generator=rng)


def sizes(total: int, most: int, seed: int) -> list[int]:
    """Random pushes, of nothing too, that add up to `total`."""
    rng, found = torch.Generator().manual_seed(seed), [0]
    while (left := total - sum(found)) > 0:
        found.append(min(left, int(torch.randint(0, most, (), generator=rng))))
    return found


def joined(stream, value: torch.Tensor, pushes: list[int]) -> torch.Tensor:
    return torch.cat([*(stream.push(part) for part in value.split(pushes, dim=-1)), stream.flush()], dim=-1)


@pytest.mark.parametrize(("rows", "most"), [(1, 900), (1, 30 * HOP), (5, 900), (5, 6 * HOP)])
def test_codes_are_the_offline_codes_and_sound_the_offline_sound(codec, rows, most):
    """Pushes of less than a frame, of a few, and of so many that torch takes them, in one stream."""
    audio = music(rows, 50)
    codes = codec.encode(audio)
    encoder, decoder = codec.encoder(rows), codec.decoder(rows)
    sound = codec.decode(codes)
    for seed in range(2):  # and again after the flush
        assert torch.equal(joined(encoder, audio, sizes(audio.shape[1], most, seed)), codes)
        heard = joined(decoder, codes, sizes(50, max(2, most // HOP), seed))
        torch.testing.assert_close(heard, sound, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rows", [1, 5])
def test_rows_that_are_reset_begin_anew_and_leave_the_others(codec, rows):
    audio, at = music(rows, 30), 11
    mask = torch.arange(rows) % 2 == 0
    encoder, decoder = codec.encoder(rows), codec.decoder(rows)
    parts, codes = audio.split(HOP, dim=1), codec.encode(audio)
    for part in parts[:at]:
        decoder.push(encoder.push(part))
    encoder.reset(mask)
    decoder.reset(mask)
    after = torch.cat([*(encoder.push(part) for part in parts[at:]), encoder.flush()], dim=-1)
    anew = codec.encode(audio[:, at * HOP :])
    assert torch.equal(after[mask], anew[mask])
    assert torch.equal(after[~mask], codes[~mask][..., at:])
    heard = torch.cat([*(decoder.push(frame) for frame in after.split(1, dim=-1)), decoder.flush()], dim=-1)
    delay = codec.space.delay
    torch.testing.assert_close(heard[mask][:, delay:], codec.decode(anew)[mask], atol=1e-4, rtol=0)
    through_all = codec.decode(codes)[~mask]
    torch.testing.assert_close(heard[~mask], through_all[:, at * HOP - delay :], atol=1e-4, rtol=0)


def test_streams_do_not_disturb_each_other_in_and_out_of_inference_mode(codec):
    audio = music(1, 8)
    one, other = codec.encoder(), codec.encoder()
    out = []
    for i, part in enumerate(audio.split(HOP, dim=1)):
        with torch.inference_mode(i % 2 == 0):
            out.append(one.push(part).clone())
            other.push(-part)
    assert torch.equal(torch.cat([*out, one.flush()], dim=-1), codec.encode(audio))


def test_nothing_is_compiled_after_it_was_prepared(codec):
    kernels = [value for value in vars(machine_code).values() if hasattr(value, "signatures")]
    assert len(kernels) == 9

    def known() -> list[int]:
        return [len(kernel.signatures) for kernel in kernels]

    before = known()
    for rows in (1, 3, 5):
        codec.prepare(rows)
        encoder, decoder = codec.encoder(rows), codec.decoder(rows)
        with torch.inference_mode():
            for part in music(rows, 9).flip(1).split(1500, dim=1):  # strides that are not those of a lone tensor
                decoder.push(encoder.push(part).flip(1))
    assert known() == before
    assert min(before) > 0


def test_few_rows_go_through_machine_code_and_only_where_prepared(monkeypatch):
    codec, calls = Spectral(Spectral.Config(**SMALL)), []
    monkeypatch.setattr(machine_code, "block", lambda h, *_: calls.append(len(h)) or h)
    part = music(1, 4)[:, : 3 * HOP]
    codec.encoder().push(part)
    assert calls == []
    codec.prepare(1)
    calls.clear()
    codec.encoder().push(part)
    assert calls == [3, 3]
    codec.encoder().push(part.repeat(1, 6))
    codec.encoder(2).push(part.repeat(2, 1))
    assert calls == [3, 3], "18 frames are torch's, and rows that nobody prepared"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("kernel", "rows"), [(1, 1), (2, 4), (7, 1), (7, 6)])
@torch.no_grad()
def test_a_block_is_the_block(dtype, tolerance, kernel, rows):
    """Fewer frames than it remembers, more, and again fewer: all in one past."""
    rng = torch.Generator().manual_seed(0)
    block = CausalBlock(12, 20, kernel)
    for parameter in block.parameters():
        parameter.normal_(generator=rng)
    frames = torch.randn(rows, 20, 12, dtype=dtype, generator=rng)
    weights = spectral_live._block(block)
    expected = block.to(dtype)(frames, History())
    history = FixedHistory({block: torch.zeros(rows, kernel - 1, 12, dtype=dtype)})
    heard = []
    for part in frames.split([1, 1, 3, 9, 1, 5], dim=1):
        h = machine_code.block(part.reshape(-1, 12).numpy(), history.of(block).numpy(), *weights)
        heard.append(torch.from_numpy(h).view(rows, -1, 12))
    torch.testing.assert_close(torch.cat(heard, dim=1), expected, atol=tolerance, rtol=tolerance)


def test_without_numba_it_says_so_and_streams_work_as_they_did(monkeypatch):
    codec, audio = Spectral(Spectral.Config(**SMALL)), music(1, 4)
    monkeypatch.setitem(sys.modules, "accomp.plugins.tokenizers.spectral_live", None)
    with pytest.raises(PluginError, match=r"numba.*accomp\[codec\].*compile = \"off\""):
        codec.prepare(1)
    assert torch.equal(joined(codec.encoder(), audio, [audio.shape[1]]), codec.encode(audio))


def test_what_hears_the_future_cannot_be_compiled_and_its_speed_is_told_without():
    codec = Spectral(Spectral.Config(**SMALL, causal=False))
    with pytest.raises(PluginError, match="hears the future"):
        codec.prepare(1)
    assert "hears the future" in prepared(codec, 1, 1)
    assert prepared(SimpleNamespace(name="other"), 1, 1) == "tokenizer 'other' does not compile its streams"
    assert prepared(Spectral(Spectral.Config(**SMALL)), 1, 1) == "compiled"


def test_a_codec_that_moves_is_not_prepared_any_more():
    codec = Dac(Dac.Config(weights="random", latent=8, encoder_width=2, decoder_width=4, strides=(2,)))
    codec._live[1] = (object(), object())
    assert codec.to("cpu").encoder(1)._live is None
