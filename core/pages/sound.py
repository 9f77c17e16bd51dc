"""Sound inside a page: a player's data as Ogg Vorbis or FLAC, and a picture of what it holds."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import soundfile

Colours = tuple[tuple[int, int, int], ...]

COLUMNS, ROWS = 360, 72
RANGE = 70.0
"""dB between the darkest and the brightest point of a picture."""
LOWEST, HIGHEST = 40.0, 12000.0
"""Hz, the ends of a picture's logarithmic frequency axis (or half the sample rate, where that is lower)."""
AXES = f"time across, frequency up ({LOWEST:g} Hz to {HIGHEST / 1000:g} kHz), brighter is louder"
"""How a spectrogram is read, for the text beside it."""
SPREAD = 30.0
"""dB of difference, up or down, at which the colours of a picture of differences end."""
_COLOURS = ((8, 10, 24), (37, 36, 92), (92, 47, 130), (160, 58, 122), (220, 92, 89), (248, 158, 90), (252, 236, 180))
"""From soft to loud; between them colours are interpolated."""
_DIVERGING = ((20, 60, 160), (90, 150, 220), (235, 235, 235), (225, 130, 90), (150, 20, 40))
"""From softer through equal to louder."""


def player_data(audio: np.ndarray, rate: int) -> str:
    """audio [N] in [-1, 1] at `rate` Hz -> a data URI of Ogg Vorbis, a twelfth of the size of 16-bit PCM."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, format="OGG", subtype="VORBIS") as out:
        for start in range(0, len(audio), rate):  # a whole song in one write overflows libsndfile's stack
            out.write(audio[start : start + rate])
    return _uri("audio/ogg", file.getvalue())


def lossless_data(audio: np.ndarray, rate: int) -> str:
    """audio [N] in [-1, 1] at `rate` Hz -> a data URI of 16-bit FLAC: as it is, where codecs are compared.

    Raises ValueError for samples outside of [-1, 1].
    """
    if not (peak := float(np.abs(audio).max(initial=0.0))) <= 1.0:
        raise ValueError(f"peak {peak:.3f} would clip; scale the audio first")
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format="FLAC", subtype="PCM_16")
    return _uri("audio/flac", file.getvalue())


def spectrogram_data(audio: np.ndarray, rate: int) -> str:
    """audio [N] at `rate` Hz -> a data URI of a PNG: time across, frequency up (logarithmic), level as colour."""
    levels = _levels(audio, rate)
    return _uri("image/png", _png(np.round(255 * levels).astype(np.uint8), _COLOURS))


def difference_data(made: np.ndarray, original: np.ndarray, rate: int) -> str:
    """Both [N] at `rate` Hz -> a data URI of a PNG as `spectrogram_data` has it, of how much louder `made` is.

    Blue is softer, red louder, by SPREAD dB or more at the ends. Both count as no softer than the darkest of a
    spectrogram, so that what is not to be seen there is no difference here.
    """
    place = np.clip(_differences(made, original, rate) / SPREAD, -1, 1) / 2 + 0.5
    return _uri("image/png", _png(np.round(255 * place).astype(np.uint8), _DIVERGING))


def _differences(made: np.ndarray, original: np.ndarray, rate: int) -> np.ndarray:
    """dB [ROWS, COLUMNS], the highest frequency first."""
    ours, theirs = (np.maximum(_decibels(sound, rate), -RANGE) for sound in (made, original))
    return ours - theirs


def _levels(audio: np.ndarray, rate: int) -> np.ndarray:
    """[ROWS, COLUMNS] in [0, 1], as `_decibels` has them: from RANGE below 0 dB to 0 dB."""
    return np.clip(_decibels(audio, rate) / RANGE + 1, 0, 1)


def _decibels(audio: np.ndarray, rate: int) -> np.ndarray:
    """[ROWS, COLUMNS], the highest frequency first; 0 dB is a sine at a tenth of full scale."""
    size = 2048
    window = np.hanning(size)
    padded = np.pad(np.asarray(audio, dtype=np.float64), (size // 2, size // 2))
    starts = np.linspace(0, len(padded) - size, COLUMNS).round().astype(int)
    frames = np.stack([padded[start : start + size] for start in starts])
    power = np.abs(np.fft.rfft(frames * window)) ** 2 / (window.sum() / 2) ** 2
    edges = np.geomspace(LOWEST, min(HIGHEST, rate / 2), ROWS + 1) * size / rate
    low = np.floor(edges[:-1]).astype(int)
    high = np.maximum(np.ceil(edges[1:]).astype(int), low + 1)
    bands = np.stack([power[:, a:b].max(axis=1) for a, b in zip(low, high, strict=True)])
    decibels: np.ndarray = 10 * np.log10(bands / 0.01 + 1e-12)
    return decibels[::-1]


def _palette(colours: Colours) -> bytes:
    stops = np.linspace(0, 255, len(colours))
    channels = [np.interp(np.arange(256), stops, [colour[c] for colour in colours]) for c in range(3)]
    return np.round(np.stack(channels, axis=1)).astype(np.uint8).tobytes()


def _png(pixels: np.ndarray, colours: Colours) -> bytes:
    """pixels [rows, columns] uint8 -> a PNG file whose colours are the palette's."""
    rows, columns = pixels.shape
    lines = np.hstack([np.zeros((rows, 1), dtype=np.uint8), pixels]).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", _palette(colours)), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
