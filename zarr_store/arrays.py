"""Expected layout of a track's arrays, derived from its record, and its comparison with Zarr metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accomp.zarr_store.layout import Identity, TrackRecord

BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
INDEX_CODECS = [BYTES, {"name": "crc32c"}]
CHAINS = {("bytes", "blosc"): False, ("bytes", "blosc", "crc32c"): True}
"""Codecs of an inner chunk -> presence of a checksum; versions 1 to 4 have none."""


@dataclass(frozen=True)
class Expected:
    """Expected metadata of an array: shape and type, as Zarr names it."""

    shape: tuple[int, ...]
    data_type: str

    @classmethod
    def tokens(cls, record: TrackRecord, identity: Identity) -> Expected:
        """Return the layout of a track's codes [P, T, K], or latents [P, T, E]."""
        shape = (len(record.parts), record.frames, identity.channels)
        return cls(shape, "float16" if identity.continuous else "uint16")

    @classmethod
    def levels(cls, record: TrackRecord) -> Expected:
        """Return the layout of a track's levels [S, T]."""
        return cls((len(record.stems), record.frames), "float16")

    def chunk_of(self, metadata: dict[str, Any]) -> tuple[int, bool]:
        """Return the frames of an inner chunk, and whether it carries a checksum.

        Raises ValueError, with the difference, for metadata of another array or another layout; KeyError or TypeError
        for anything that is no array metadata.
        """
        (sharding,) = metadata["codecs"]
        inner = sharding["configuration"]
        rows, length, *rest = self.shape
        frames = inner["chunk_shape"][1]
        if type(frames) is not int or not 1 <= frames <= length:
            raise ValueError(f"chunks of {frames!r} frames, of an array of {length}")
        chain = tuple(codec["name"] for codec in inner["codecs"])
        if chain not in CHAINS:
            raise ValueError(f"codecs {' '.join(map(str, chain))}")
        found = {name: metadata.get(name) for name in ("shape", "data_type", "fill_value", "chunk_grid", "node_type")}
        found |= {name: metadata.get(name) for name in ("zarr_format", "chunk_key_encoding")}
        found |= {name: inner.get(name) for name in ("chunk_shape", "index_codecs", "index_location")}
        found |= {"sharding": sharding["name"], "bytes": inner["codecs"][0]}
        shard = [rows, -(-length // frames) * frames, *rest]
        expected = {
            "shape": list(self.shape),
            "data_type": self.data_type,
            "fill_value": 0,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
            "node_type": "array",
            "zarr_format": 3,
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "chunk_shape": [1, frames, *rest],
            "index_codecs": INDEX_CODECS,
            "index_location": "end",
            "sharding": "sharding_indexed",
            "bytes": BYTES,
        }
        for name, value in expected.items():
            if found[name] != value:
                raise ValueError(f"{name} is {found[name]!r}, by the track's record it is {value!r}")
        return frames, CHAINS[chain]
