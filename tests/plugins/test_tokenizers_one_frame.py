"""Single frames in machine code: the block that torch computes, its past included, and codes as they were."""

import sys

import pytest
import torch

from accomp.plugins.tokenizers.causal import CausalBlock, History
from accomp.plugins.tokenizers.one_frame import OneFrame, compiled
from accomp.plugins.tokenizers.spectral import Spectral

WIDTH, FRAMES = 12, 9


@pytest.fixture(scope="module")
def kernel():
    pytest.importorskip("numba")
    return compiled()


def codec() -> Spectral:
    return Spectral(
        Spectral.Config(weights="random", width=24, hidden=32, encoder_blocks=2, decoder_blocks=2, codebook_size=64)
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("kernel_size", [1, 2, 7])
@torch.no_grad()
def test_it_is_the_block(kernel, dtype, tolerance, kernel_size):
    """Single frames, some frames at once and single frames again: all in one past."""
    torch.manual_seed(0)
    block = CausalBlock(WIDTH, 20, kernel_size)
    for parameter in block.parameters():
        parameter.normal_()
    block.to(dtype)
    frames = torch.randn(1, FRAMES, WIDTH, dtype=dtype)
    expected = block(frames, History())
    block.one_frame = OneFrame(kernel, block)
    history = History()
    parts = [block(part, history) for part in frames.split([1, 1, 1, 3, 1, 1, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=tolerance, rtol=tolerance)


def test_live_streams_give_the_offline_codes_and_sound(kernel):
    audio = 0.2 * torch.randn(1, FRAMES * 640, generator=torch.Generator().manual_seed(1))
    codes, sound = codec().encode(audio), codec().decode(codec().encode(audio))
    live = codec()
    encoder, decoder = live.encoder(), live.decoder()
    assert live.network.encoder_blocks[0].one_frame
    assert torch.equal(torch.cat([encoder.push(part) for part in audio.split(640, dim=1)], dim=-1), codes)
    heard = torch.cat([*(decoder.push(part) for part in codes.split(1, dim=-1)), decoder.flush()], dim=-1)
    torch.testing.assert_close(heard, sound, atol=1e-4, rtol=0)
    encoder.reset(torch.tensor([True]))
    assert torch.equal(torch.cat([encoder.push(part) for part in audio.split(640, dim=1)], dim=-1), codes)


def test_without_numba_torch_does_it_all(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert compiled() is None
    live = codec()
    live.encoder()
    assert live.network.encoder_blocks[0].one_frame is None
