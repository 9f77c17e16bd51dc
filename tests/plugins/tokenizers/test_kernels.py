"""Machine code of the `magnitude` network: what torch's layers compute, and the same bits however rows are grouped."""

import numpy as np
import pytest
import torch
from codecs_that_follow import KeptPhases
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from numba import njit

from accomp.plugins.tokenizers.codec.networks.frame_blocks import FrameBlock
from accomp.plugins.tokenizers.codec.networks.magnitude_network import (
    GRID,
    HOP,
    LOW_BINS,
    MagnitudeNetwork,
    Spectra,
    magnitudes_of,
)
from accomp.plugins.tokenizers.codec.networks.residual_codebooks import ResidualCodebooks
from accomp.plugins.tokenizers.codec.phase import lanes
from accomp.plugins.tokenizers.codec.phase.lanes import COUNT
from accomp.plugins.tokenizers.codec.streams.causal import FixedHistory, History
from accomp.plugins.tokenizers.codec.streams.cpu import kernels, layers, log_spectra, reductions
from accomp.plugins.tokenizers.codec.streams.cpu.network import CpuDecoder
from accomp.plugins.tokenizers.codec.streams.cpu.spectra import CpuSpectra

SIZES = dict(
    codebooks=3,
    codebook_size=32,
    bands=24,
    latent=16,
    width=16,
    hidden=24,
    encoder_blocks=1,
    decoder_blocks=2,
    kernel=3,
)


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


@settings(deadline=None)
@given(rows=st.integers(1, 110), cut=st.integers(0, 110), outputs=st.sampled_from([3, 16, 37, 64, 100, 145]))
def test_a_row_has_the_same_bits_in_any_company(rows, cut, outputs):
    """And a column: whatever tiles of the product they lie in."""
    x, weight, bias = numbers(rows, 12), numbers(12, outputs, seed=1), numbers(outputs, seed=2)
    whole = kernels.linear(x, weight, bias)
    parts = [kernels.linear(part, weight, bias) for part in (x[:cut], x[cut:])]
    assert np.array_equal(np.concatenate(parts), whole)
    some = np.ascontiguousarray(weight[:, : outputs // 2 + 1])
    assert np.array_equal(kernels.linear(x, some, bias[: outputs // 2 + 1]), whole[:, : outputs // 2 + 1])
    np.testing.assert_allclose(whole, x.astype(np.float64) @ weight + bias, atol=1e-5)


@pytest.mark.skipif(not lanes.reads_halves(), reason="no instruction that widens float16 here")
@pytest.mark.parametrize("rows", [1, 5, 6, 100])
@pytest.mark.parametrize("outputs", [16, 37, 145])
def test_a_matrix_of_halves_gives_the_bits_of_the_same_in_float32(rows, outputs):
    """Also the smallest, those below the normal range, and the largest."""
    x, bias = numbers(rows, 40), numbers(outputs, seed=2)
    exact = torch.from_numpy(numbers(40, outputs, seed=1)).half().float()
    exact[:3, 0] = torch.tensor([2.0**-24, -3 * 2.0**-20, 65504])
    halves = layers.matrix(exact)
    assert halves.dtype == np.uint16
    assert np.array_equal(kernels.linear(x, halves, bias), kernels.linear(x, exact.numpy(), bias))


def test_a_matrix_is_halved_only_where_that_is_exact_and_taken():
    exact = torch.from_numpy(numbers(40, 16)).half().float()
    for other in (exact + 2.0**-13, exact * 1e6, exact[:, :15]):
        kept = layers.matrix(other)
        assert kept.dtype == np.float32
        assert np.array_equal(kept, other.numpy())


def test_the_norm_is_layer_norm():
    x, norm = numbers(5, 20), torch.nn.LayerNorm(20)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    expected = norm(torch.from_numpy(x)).detach()
    got = kernels.norm(x.copy(), norm.weight.detach().numpy(), norm.bias.detach().numpy(), norm.eps)
    torch.testing.assert_close(torch.from_numpy(got), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("kernel", "rows"), [(1, 1), (2, 4), (7, 1), (7, 6)])
@torch.no_grad()
def test_a_block_is_the_block(kernel, rows):
    """Fewer frames than it remembers, more, and again fewer: all in one past."""
    rng = torch.Generator().manual_seed(0)
    block = FrameBlock(12, 20, kernel)
    for parameter in block.parameters():
        parameter.normal_(generator=rng)
    frames = torch.randn(rows, 20, 12, generator=rng)
    weights = layers._block(block)
    expected = block(frames, History())
    history = FixedHistory({block: torch.zeros(rows, kernel - 1, 12)})
    heard = []
    for part in frames.split([1, 1, 3, 9, 1, 5], dim=1):
        h = kernels.block(part.reshape(-1, 12).numpy(), history.of(block).numpy(), *weights)
        heard.append(torch.from_numpy(h).view(rows, -1, 12))
    torch.testing.assert_close(torch.cat(heard, dim=1), expected, atol=1e-4, rtol=1e-4)


def test_the_exponential_is_one():
    x = np.concatenate([np.linspace(-80, 80, 20_001), [0.0, 1e-8, -1e-8]]).astype(np.float32)[None]
    got = kernels.exponential(x.copy())
    exact = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(got, exact, rtol=3e-7)
    ends = kernels.exponential(np.array([[-1e30, -90, 90, 1e30]], np.float32))
    assert np.isfinite(ends).all()
    assert (ends[0, :2] < 1e-30).all()


@pytest.mark.parametrize("circles", [False, True])
@pytest.mark.parametrize("frames", [1, 5])
def test_log_spectra_are_those_of_the_network(frames, circles):
    spectra, rng = Spectra(24, circles=circles), torch.Generator().manual_seed(1)
    audio = 0.1 * torch.randn(2, (8 + frames) * HOP, dtype=torch.float64, generator=rng)
    audio[1] = 0.1 * torch.sin(2 * torch.pi * 220 / 32_000 * torch.arange(audio.shape[1]).double())
    history = History()
    spectra(audio[:, : 8 * HOP], history)
    magnitudes, low = spectra(audio[:, 8 * HOP :], history)
    machine = CpuSpectra(spectra)
    past = machine.begin(2).numpy()
    machine(audio[:, : 8 * HOP].numpy(), past)
    got = machine(audio[:, 8 * HOP :].numpy(), past)
    for logs, expected in zip(got, (spectra.log_bands(magnitudes), low), strict=True):
        assert np.abs(logs - expected.flatten(0, 1).numpy()).max() <= GRID / 2 + 1e-6
        assert np.array_equal(logs, np.rint(logs.astype(np.float64) / GRID) * GRID), "multiples of the grid"
    assert not circles or np.abs(got[1][-1, LOW_BINS:]).max() > 0.4, "the sine's pitch"


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_spectra_have_the_same_bits_however_the_sound_is_cut(sizes):
    """Windows share their vectors with others then, and the past is the last samples."""
    audio = numbers(2, sum(sizes) * HOP).astype(np.float64)
    audio[1] = np.sin(2 * np.pi * 220 / 32_000 * np.arange(audio.shape[1]))
    spectra = Spectra(24, circles=True)
    machine = CpuSpectra(spectra)
    past = machine.begin(2).numpy()
    at, parts = 0, []
    for size in sizes:
        piece = audio[:, at * HOP : (at + size) * HOP]
        parts.append([logs.reshape(2, size, logs.shape[1]) for logs in machine(piece, past)])
        at += size
    whole = [logs.reshape(2, at, logs.shape[1]) for logs in machine(audio, machine.begin(2).numpy())]
    for piece, logs in zip(zip(*parts, strict=True), whole, strict=True):
        assert np.array_equal(np.concatenate(piece, axis=1), logs)
    assert np.array_equal(past, np.concatenate([np.zeros((2, spectra.past)), audio], axis=1)[:, -spectra.past :])


def test_the_logarithm_is_one():
    """Of any size that is not denormal, near 1, and where the power of 2 changes."""
    x = np.concatenate([np.geomspace(1e-300, 1e300, 4001), 1 + np.linspace(-0.01, 0.01, 2001), 2.0 ** np.arange(-5, 6)])
    x = np.concatenate([x, np.sqrt(0.5) * (1 + np.array([-1e-15, 0, 1e-15]))])
    np.testing.assert_allclose(
        logarithms(np.resize(x, -(-len(x) // COUNT) * COUNT))[: len(x)], np.log(x), rtol=1e-14, atol=3e-16
    )


@njit
def logarithms(x):
    out = np.empty_like(x)
    for i in range(0, len(x), COUNT):
        lanes.store(out, i, log_spectra.log(lanes.load(x, i)))
    return out


def test_each_lane_gets_the_sum_of_its_eight():
    x = np.random.default_rng(0).standard_normal((COUNT, COUNT))
    np.testing.assert_allclose(sums(x.ravel()), x.sum(1), atol=1e-14)


@njit
def sums(x):
    out = np.empty(COUNT)
    lanes.store(out, 0, reductions.totals(x))
    return out


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=70))
@settings(deadline=None)
def test_the_first_of_the_greatest_is_found(values):
    x = np.array(values, np.float32)
    assert kernels.greatest(x) == int(x.argmax())


@pytest.mark.parametrize("stay", [0.0, 0.3])
def test_codes_are_looked_up_as_the_codebooks_do(stay):
    books = ResidualCodebooks([12, 16, 8], 32, 16)
    z = torch.from_numpy(numbers(2, 12, 16).cumsum(1) * 0.4)
    expected = books.codes(z.double(), stay)
    widths = np.array([12, 16, 8])
    arrays = np.stack([np.pad(level.codebook.T.numpy(), ((0, 16 - level.width), (0, 0))) for level in books.levels])
    halves = np.square(arrays.astype(np.float64)).sum(1).astype(np.float32) / 2
    last = np.zeros((2, 3), np.int64)
    parts = []
    for part in z.split([1, 4, 7], dim=1):
        codes = np.empty((2, 3, part.shape[1]), np.int64)
        kernels.look_up(part.reshape(-1, 16).numpy().copy(), arrays, widths, halves, stay, last, codes)
        parts.append(codes)
    got = np.concatenate(parts, axis=2)
    assert np.array_equal(got, expected.numpy())
    assert np.array_equal(last, got[:, :, -1] + 1)
    np.testing.assert_allclose(kernels.embed(got, np.ascontiguousarray(arrays.transpose(0, 2, 1))).reshape(2, 12, 16),
                               books.embed(expected), atol=1e-6)  # fmt: skip


def test_a_code_stays_only_where_it_is_nearly_as_near():
    books = ResidualCodebooks([4], 3, 5)
    books.levels[0].codebook.copy_(torch.tensor([[0.0, 0, 0, 0], [1, 0, 0, 0], [9, 0, 0, 0]]))
    z = torch.tensor([[[0.0, 0, 0, 0, 9], [0.52, 1, 0, 0, 9], [0.9, 0, 0, 0, 9], [0.9, 0, 0, 0, 9]]])  # 9: of no level
    assert books.codes(z)[0, 0].tolist() == [0, 1, 1, 1]
    assert books.codes(z, stay=0.1)[0, 0].tolist() == [0, 0, 1, 1], "1.2704 is within 1.1 times 1.2304; 0.81 is not"


@torch.no_grad()
def test_magnitudes_are_those_of_the_network():
    torch.manual_seed(0)
    network = MagnitudeNetwork(**SIZES)
    torch.nn.init.normal_(network.leave.weight, std=0.1)
    network.mean.fill_(-5.0)
    z = torch.randn(2, 9, 16)
    expected = magnitudes_of(network.double().decode(z.double(), History()))
    network.float()
    network.spectra.double()
    heard = []
    decoder = CpuDecoder(network, KeptPhases(heard))
    decoder.sound(z.reshape(-1, 16).numpy(), 2, decoder.begin(2))
    torch.testing.assert_close(heard[-1][0].double(), expected.flatten(1, 2), atol=1e-5, rtol=1e-3)
