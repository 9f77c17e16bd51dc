"""The network of the `magnitude` codec: STFT magnitudes to latents at the frame rate, and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from accomp.plugins.tokenizers.codec.networks.frame_blocks import FrameBlock, branch, through, trunk
from accomp.plugins.tokenizers.codec.networks.pitch_circles import EARLIER, SIZE, circles_of, moved, scaled, unscaled
from accomp.plugins.tokenizers.codec.networks.residual_codebooks import ResidualCodebooks
from accomp.plugins.tokenizers.codec.networks.tuner import TUNED, Tuner, by_slopes
from accomp.plugins.tokenizers.codec.streams.causal import History
from accomp.plugins.tokenizers.codec.training.sound.spectral_losses import mel_filters

SAMPLE_RATE = 32_000
HOP = 640
WINDOW = 1280
STEP = 160
SUBFRAMES = HOP // STEP
BINS = WINDOW // 2 + 1
LONG = 4096
LOW_BINS = 320
"""Lowest bins of the long window (7.8 Hz apart, up to 2.5 kHz): they tell the partials of the bass apart."""
DELAY = WINDOW - STEP
BANDS_FLOOR = 1e-4
"""Added to a band's magnitude before its logarithm is taken: -80 dB of a full-scale sine."""
FLOOR = 1e-5
"""Added to a bin's magnitude before its logarithm is taken: -100 dB of a full-scale sine."""
GRID = 2.0**-16
"""The encoder's logarithms are rounded to multiples of this, which cuts off the last digits of a transform."""


class Spectra(nn.Module):
    """audio [B, T * hop] -> magnitudes and features of every frame; those of pitch_circles.py where `circles` says so.

    Sub-frame j = 0..3 of frame i covers the 1280 samples that end with sample 640 i + 160 (j + 1), so that the frame
    depends on input up to its own last sample. Magnitudes are those of a Hann window over half its sum: a full-scale
    sine has 1.
    """

    window: Tensor
    long_window: Tensor
    bands: Tensor

    def __init__(self, bands: int, *, circles: bool = False):
        super().__init__()
        self.circles = circles
        for name, size in (("window", WINDOW), ("long_window", LONG)):
            hann = torch.hann_window(size, dtype=torch.float64)
            self.register_buffer(name, hann / (hann.sum() / 2), persistent=False)
        self.register_buffer("bands", filters_of(bands), persistent=False)

    @property
    def past(self) -> int:
        """Samples before a frame that it depends on."""
        return LONG - HOP + (EARLIER if self.circles else 0)

    def forward(self, audio: Tensor, history: History) -> tuple[Tensor, Tensor]:
        """audio [B, T * hop] -> magnitudes [B, T, 4, 641], features of the long window [B, T, 320 + 0 or SIZE].

        These are the log magnitudes of its lowest bins, and then its pitch circles.
        """
        whole = history.extend(self, audio, self.past)
        short = whole[:, self.past - DELAY :].unfold(-1, WINDOW, STEP)
        magnitudes = torch.fft.rfft(short * self.window.to(audio)).abs().unflatten(1, (-1, SUBFRAMES))
        long = self._long(whole[:, self.past - (LONG - HOP) :])
        low = (long.abs() + BANDS_FLOOR).log()
        if self.circles:
            circles = circles_of(long, self._long(whole[:, :-EARLIER]), SAMPLE_RATE / LONG)
            low = torch.cat([low, circles], dim=-1)
        return magnitudes, low

    def _long(self, whole: Tensor) -> Tensor:
        """The lowest bins of windows a hop apart [B, T, 320], complex."""
        return torch.fft.rfft(whole.unfold(-1, LONG, HOP) * self.long_window.to(whole))[..., :LOW_BINS]

    def log_bands(self, magnitudes: Tensor) -> Tensor:
        """Magnitudes [B, T, 4, 641] -> logarithms of the bands' mean magnitudes [B, T, 4 * bands]."""
        return (magnitudes @ self.bands.to(magnitudes).T + BANDS_FLOOR).log().flatten(2)


class Whitening(nn.Module):
    """Latents [..., E] <-> their first n principal components over their deviations [..., n]: what diffusion models.

    The components of the magnitudes come first, then those of the circles.
    """

    mean: Tensor
    axes: Tensor
    deviation: Tensor

    def __init__(self, latent: int, circles: int):
        super().__init__()
        self._sizes = latent, circles
        self.register_buffer("mean", torch.zeros(latent + circles))
        self.register_buffer("axes", torch.eye(latent + circles))
        self.register_buffer("deviation", torch.ones(latent + circles))

    @torch.no_grad()
    def fit(self, z: Tensor, *, circles_only: bool = False) -> None:
        """Mean, axes (loudest first) and deviations of latents [m, E], or of the circles among them."""
        latent, circles = self._sizes
        parts = [] if circles_only else [slice(0, latent)]
        if circles:
            parts.append(slice(latent, latent + circles))
        for own in parts:
            part = z[:, own].double()
            variances, axes = torch.linalg.eigh(torch.cov(part.T, correction=0))
            self.mean[own] = part.mean(0).to(self.mean)
            self.axes[own] = 0
            self.axes[own, own] = axes.flip(1).to(self.axes)
            self.deviation[own] = variances.flip(0).clamp(min=1e-12).sqrt().to(self.deviation)

    def forward(self, z: Tensor, n: int) -> Tensor:
        """[..., E] -> [..., n]."""
        mean, axes, deviation = (buffer.to(z) for buffer in (self.mean, self.axes, self.deviation))
        return (z - mean) @ axes[:, :n] / deviation[:n]

    def back(self, components: Tensor) -> Tensor:
        """[..., n] -> [..., E]."""
        n = components.shape[-1]
        mean, axes, deviation = (buffer.to(components) for buffer in (self.mean, self.axes, self.deviation))
        return (components * deviation[:n]) @ axes[:, :n].T + mean


class MagnitudeNetwork(nn.Module):
    """Encoder, codebooks and decoder; see Magnitude.Config for the sizes. E = latent + (SIZE with circles, else 0).

    Levels before number `circles` quantize the first `latent` numbers, that level and later ones all.

    Encoder and decoder are a linear code of the log band magnitudes (`analysis`, `mean`, `synthesis`: at the start
    their principal components) and what causal blocks add to it. The decoder widens bands to bins by the pseudo-inverse
    of the bands' filters, clipped, and corrects every bin.
    """

    sample_rate = SAMPLE_RATE
    hop = HOP
    delay = DELAY
    causal = True
    mixed = False
    """Whether blocks compute in bfloat16, as training may."""
    mean: Tensor
    spread: Tensor
    widen: Tensor

    def __init__(
        self,
        *,
        codebooks: int,
        codebook_size: int,
        bands: int,
        latent: int,
        width: int,
        hidden: int,
        encoder_blocks: int,
        decoder_blocks: int,
        kernel: int,
        tuner_blocks: int = 0,
        circles: int = 0,
    ):
        super().__init__()
        size = SUBFRAMES * bands
        beside = SIZE if circles else 0
        quantized = latent + beside
        widths = [latent if level < circles else quantized for level in range(1, codebooks + 1)]
        self.spectra = Spectra(bands, circles=circles > 0)
        self.register_buffer("mean", torch.full((size,), math.log(BANDS_FLOOR)))
        self.register_buffer("spread", torch.ones(()))
        self.analysis = nn.Parameter(torch.randn(latent, size) * size**-0.5)
        self.synthesis = nn.Parameter(torch.randn(size, latent) * latent**-0.5)
        self.register_buffer("widen", torch.linalg.pinv(self.spectra.bands).T.float().contiguous(), persistent=False)
        self.enter = nn.Linear(size + LOW_BINS, width)
        self.encoder_blocks = nn.ModuleList(FrameBlock(width, hidden, kernel) for _ in range(encoder_blocks))
        self.encoder_norm = nn.LayerNorm(width)
        self.to_latent = nn.Linear(width, latent)
        self.quantizer = ResidualCodebooks(widths, codebook_size, quantized)
        self.whitening = Whitening(latent, beside)
        self.from_latent = nn.Linear(quantized, width)
        self.decoder_blocks = nn.ModuleList(FrameBlock(width, hidden, kernel) for _ in range(decoder_blocks))
        self.decoder_norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, SUBFRAMES * BINS)
        self.tuner = Tuner(width + beside, width, hidden, tuner_blocks, kernel, SUBFRAMES) if tuner_blocks else None
        for corrects in (self.to_latent, self.leave):
            nn.init.zeros_(corrects.weight)
            nn.init.zeros_(corrects.bias)

    def encode(self, audio: Tensor, history: History) -> Tensor:
        """audio [B, T * hop] -> latents [B, T, E]."""
        magnitudes, low = self.spectra(audio, history)
        return self.latents(self.spectra.log_bands(magnitudes), low, history)

    def latents(self, bands: Tensor, low: Tensor, history: History) -> Tensor:
        """Log bands [B, T, 4 * bands] and features of the long window (see Spectra) -> latents [B, T, E]."""
        bands, low = (torch.round(x / GRID) * GRID for x in (bands, low))
        low, circles = low[..., :LOW_BINS], low[..., LOW_BINS:]
        features = torch.cat([bands, low], dim=-1) / 4 + 1.5
        layers = self.enter, self.encoder_blocks, self.encoder_norm, self.to_latent
        linear = (bands - self.mean) @ self.analysis.T.to(bands)
        z = linear + through(*layers, features, history, mixed=self.mixed)
        return torch.cat([z, scaled(circles)], dim=-1) if self.spectra.circles else z

    def decode(self, z: Tensor, history: History) -> Tensor:
        """Latents [B, T, E] -> log(magnitude + 1e-5) [B, T, 4, 641]."""
        return self.decode_in_tune(z, history)[0]

    def decode_in_tune(self, z: Tensor, history: History) -> tuple[Tensor, Tensor | None]:
        """What `decode` gives, and the tuner's output [B, T * 4, 96], where there is one."""
        features = self.features(z, history)
        tuning = self.tuner(self.tuner_input(z, features), history) if self.tuner else None
        return self.logs(z, features), tuning

    def tuner_input(self, z: Tensor, features: Tensor) -> Tensor:
        """Latents [B, T, E] and their `features` -> what the tuner sees: these, and the circles."""
        return torch.cat([features, unscaled(z[..., -SIZE:])], dim=-1) if self.spectra.circles else features

    def placed(self, z: Tensor, magnitudes: Tensor, tuning: Tensor | None) -> Tensor:
        """The tuner's output, moved to where the circles of latents z [B, T, E] say; magnitudes [B, T * 4, 641]."""
        own = by_slopes(magnitudes) + torch.arange(TUNED, device=z.device)
        hertz = (own if tuning is None else own + tuning) * (SAMPLE_RATE / WINDOW)
        circles = unscaled(z[..., -SIZE:]).repeat_interleave(SUBFRAMES, dim=1)
        return moved(hertz, circles) * (WINDOW / SAMPLE_RATE) - own

    def logs(self, z: Tensor, features: Tensor) -> Tensor:
        """Latents [B, T, E] and their `features` -> log(magnitude + 1e-5) [B, T, 4, 641]."""
        correction = branch(self.leave, features, mixed=self.mixed).unflatten(2, (SUBFRAMES, BINS))
        return self._widened(z[..., : self.synthesis.shape[1]] @ self.synthesis.T + self.mean) + correction

    def features(self, z: Tensor, history: History) -> Tensor:
        """Latents [B, T, E] -> what the decoder's last layer sees [B, T, width]."""
        layers = self.from_latent, self.decoder_blocks, self.decoder_norm
        return trunk(*layers, z / self.spread, history, mixed=self.mixed)

    def _widened(self, bands: Tensor) -> Tensor:
        """Log bands [B, T, 4 * bands] -> log magnitudes of the bins [B, T, 4, 641].

        Where the pseudo-inverse is negative a fiftieth of its size stays, that the correction has something to work on.
        """
        bins = (bands.exp() - BANDS_FLOOR).unflatten(2, (SUBFRAMES, -1)) @ self.widen.to(bands)
        return (bins.clamp(min=0) + bins.detach().abs() / 50 + FLOOR).log()

    @torch.no_grad()
    def start(self, bands: Tensor) -> float:
        """Begin with the principal components of log bands [n, 4 * bands]; returns the share of variance they miss."""
        size = self.analysis.shape[0]
        self.mean.copy_(bands.mean(0))
        centred = bands - self.mean
        variances, axes = torch.linalg.eigh((centred.T @ centred / len(bands)).double())
        leading = axes.flip(1)[:, :size].to(bands)
        self.analysis.copy_(leading.T)
        self.synthesis.copy_(leading)
        self.spread.copy_((centred @ leading).std(0).mean())
        return float(1 - variances.flip(0)[:size].sum() / variances.sum())

    @torch.no_grad()
    def take(self, other: MagnitudeNetwork) -> None:
        """Take the weights of a network without tuner or circles; levels that quantize circles become unfitted."""
        own, found = self.state_dict(), other.state_dict()
        for enters in ("from_latent.weight", "tuner.enter.weight"):
            if enters in found:
                own[enters].zero_()  # columns that `other` lacks: the decoder does not react to circles yet
        for name, tensor in found.items():
            own[name][tuple(map(slice, tensor.shape))] = tensor
        for level in self.quantizer.levels:
            if level.width > other.quantizer.latent:
                level.codebook.fill_(torch.nan)

    def encoder_parts(self) -> list[nn.Module]:
        """The modules that encoding runs in float64."""
        return [self.spectra, self.enter, self.encoder_blocks, self.encoder_norm, self.to_latent, self.quantizer]

    def encoder_tensors(self, continuous: bool = False) -> dict[str, Tensor]:
        """All that decides which codes come out and which vectors they stand for, by name; or which latents."""
        last = "whitening" if continuous else "quantizer"
        return self._tensors("mean", "analysis", "enter", "encoder_blocks", "encoder_norm", "to_latent", last)

    def decoder_tensors(self) -> dict[str, Tensor]:
        """All that decides what latents sound like, by name."""
        return self._tensors(
            "mean", "spread", "synthesis", "from_latent", "decoder_blocks", "decoder_norm", "leave", "tuner"
        )

    def _tensors(self, *parts: str) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.state_dict().items() if name.partition(".")[0] in parts}

    def learning(self, only: str) -> list[Tensor]:
        """The parameters that "all", the "decoder" with its tuner, or the "tuner" alone learn; "rare_codes": none."""
        names: dict[str, dict[str, Tensor]] = {
            "all": self.state_dict(),
            "decoder": self.decoder_tensors(),
            "tuner": self._tensors("tuner"),
            "rare_codes": {},
        }
        return [parameter for name, parameter in self.named_parameters() if name in names[only]]


def filters_of(bands: int) -> Tensor:
    """Mel filters [bands, 641] float64 that take means: each sums to 1."""
    filters = mel_filters(bands, BINS, SAMPLE_RATE).double()
    return filters / filters.sum(1, keepdim=True)


def magnitudes_of(log_magnitudes: Tensor) -> Tensor:
    """What `decode` gives, as magnitudes, at least 0."""
    return (log_magnitudes.exp() - FLOOR).clamp(min=0)
