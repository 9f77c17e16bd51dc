"""Embeddings of VGGish (Hershey et al., 2017), used by most published Frechet audio distances; needs weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from attrs import frozen
from safetensors.torch import load_file
from torch import Tensor, nn

from accomp.core.errors import PluginError
from accomp.core.files import hash_file

RATE, WINDOW, HOP, FFT = 16000, 400, 160, 512
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0
FRAMES = 96
"""Frames of a patch, 0.96 s; patches do not overlap."""
OFFSET = 0.01
BATCH = 64
FILE = "vggish-10086976.pth"
SOURCE = f"https://github.com/harritaylor/torchvggish/releases/download/v0.1/{FILE}"
CONVOLUTIONS = (0, 3, 6, 8, 11, 13)
"""Indices of the convolutions in `features` of the weights file; ReLUs and poolings are between them."""
POOLED = (0, 3, 8, 13)
"""Convolutions followed by pooling of both axes."""


class VGGish:
    """The 128 outputs of VGGish for each 0.96 s, without PCA and last activation.

    `weights` is the file vggish-10086976.pth, the one that the package frechet-audio-distance uses, or its
    folder (`ckpt_dir` there); by default torch's hub folder. Nothing is downloaded.
    """

    sample_rate = RATE

    @frozen
    class Config:
        weights: str | None = None

    def __init__(self, config: Config):
        """Raises PluginError if the weights are missing or not of a VGGish."""
        path = _found(config.weights)
        try:
            weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
            if bad := [name for name, weight in weights.items() if not weight.isfinite().all()]:
                raise ValueError(f"{bad[0]} holds NaN or Inf")
            self._network = VGGishNetwork(weights).eval()
        except Exception as error:
            raise PluginError(f"not weights of VGGish: {error} @ embedder vggish: weights = '{path}'") from error
        self._mel = torch.from_numpy(mel_matrix())
        self.fingerprint = f"vggish 1 {hash_file(path)}"
        self.provenance = f"VGGish ({path.name}, Apache-2.0), no PCA, no last activation, patches of 0.96 s"

    @classmethod
    def example_config(cls, folder: Path) -> Config:
        """Return a small VGGish with random weights."""
        rng = torch.Generator().manual_seed(0)
        sizes = (1, 2, 3, 4, 4, 5, 5)
        shapes: dict[str, tuple[int, ...]] = {
            f"features.{at}": (sizes[i + 1], sizes[i], 3, 3) for i, at in enumerate(CONVOLUTIONS)
        }
        shapes |= {"embeddings.0": (8, 5 * 6 * 4), "embeddings.2": (8, 8), "embeddings.4": (128, 8)}
        weights = {f"{name}.weight": 0.3 * torch.randn(shape, generator=rng) for name, shape in shapes.items()}
        weights |= {f"{name}.bias": 0.1 * torch.randn(shape[0], generator=rng) for name, shape in shapes.items()}
        torch.save(weights, folder / FILE)
        return cls.Config(weights=str(folder / FILE))

    @torch.inference_mode()
    def embed(self, audio: np.ndarray) -> np.ndarray:
        """audio [N] at 16 kHz -> [n, 128] float32, a row a patch. Raises ValueError for less than a patch."""
        mel = self.log_mel(torch.from_numpy(np.asarray(audio, dtype=np.float64)))
        patches = mel[: len(mel) // FRAMES * FRAMES].reshape(-1, FRAMES, BANDS).float()
        if not len(patches):
            needed = ((FRAMES - 1) * HOP + WINDOW) / RATE
            raise ValueError(f"{len(audio) / RATE:.2f} s of sound; VGGish needs patches of {needed:.3f} s")
        return torch.cat([self._network(batch) for batch in patches.split(BATCH)]).numpy()

    def log_mel(self, audio: Tensor) -> Tensor:
        """audio [N] float64 -> log(mel magnitude + 0.01) [T, 64], 100 frames a second, the first from sample 0 on."""
        if len(audio) < WINDOW:
            return torch.zeros(0, BANDS, dtype=audio.dtype)
        frames = audio.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW, dtype=audio.dtype)
        return torch.log(torch.fft.rfft(frames, FFT).abs() @ self._mel + OFFSET)


class VGGishNetwork(nn.Module):
    """Patches [B, 96, 64] -> [B, 128]. Widths follow the weights."""

    def __init__(self, weights: dict[str, Tensor]):
        """Raises KeyError or RuntimeError for weights of something else."""
        super().__init__()
        with torch.device("meta"):
            layers = {at: _convolution(weights[f"features.{at}.weight"]) for at in CONVOLUTIONS}
            self.features = nn.ModuleDict({str(at): layer for at, layer in layers.items()})
            dense = {at: _dense(weights[f"embeddings.{at}.weight"]) for at in (0, 2, 4)}
            self.embeddings = nn.ModuleDict({str(at): layer for at, layer in dense.items()})
        self.load_state_dict(weights, assign=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None]
        for at in CONVOLUTIONS:
            x = torch.relu(self.features[str(at)](x))
            if at in POOLED:
                x = nn.functional.max_pool2d(x, 2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # the original has channels last
        x = torch.relu(self.embeddings["0"](x))
        return self.embeddings["4"](torch.relu(self.embeddings["2"](x)))


def mel_matrix() -> np.ndarray:
    """[257, 64]: triangles on the mel scale 1127 ln(1 + f / 700), linear in mel; zero at DC."""

    def mel(frequency: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(frequency) / 700.0)

    bins = mel(np.linspace(0, RATE / 2, FFT // 2 + 1))[:, None]
    edges = np.linspace(mel(LOWEST), mel(HIGHEST), BANDS + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    matrix = np.maximum(0.0, np.minimum(rising, falling))
    matrix[0] = 0.0
    return matrix


def _convolution(kernel: Tensor) -> nn.Conv2d:
    return nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)


def _dense(matrix: Tensor) -> nn.Linear:
    return nn.Linear(matrix.shape[1], matrix.shape[0])


def _found(weights: str | None) -> Path:
    """Locate the weights file. Raises PluginError with the searched paths and the source."""
    place = Path(torch.hub.get_dir()) if weights is None else Path(weights)
    candidates = [place, place / FILE, place / "checkpoints" / FILE]
    for path in candidates:
        if path.is_file():
            return path
    raise PluginError(
        f"no weights of VGGish: there is neither a file '{place}' nor {FILE} in it or in its folder 'checkpoints'; "
        f"fetch {SOURCE} and give its path @ embedder vggish: weights"
    )
