"""Sound that can be heard, saved and shown in a notebook, and what a model played to a recording."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen

from accomp.core.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from accomp.core.runs.run import Played


@frozen(eq=False)
class Sound:
    """Mono audio. A notebook shows it as a player.

    Attributes:
        audio: Samples [N], float32.
        sample_rate: In Hz.
    """

    audio: NDArray[np.float32] = field(repr=False)
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Its duration."""
        return len(self.audio) / self.sample_rate

    def save(self, path: str | Path) -> Path:
        """Write a file of 16-bit PCM, scaled down where the sound is louder than full scale.

        Args:
            path: Ends in .wav or .flac; its folder is made.

        Returns:
            The path.

        Raises:
            UserError: The name ends otherwise, or the sound holds NaN or infinity.
        """
        from accomp.core.audio.io import write
        from accomp.core.audio.loudness import within_full_scale

        path = Path(path)
        if path.suffix.lower() not in (".wav", ".flac"):
            raise UserError(f"expected a name that ends in .wav or .flac, got {path.name!r} @ {path}")
        try:
            sound, _ = within_full_scale(self.audio)
        except ValueError as error:
            raise UserError(f"{error} @ {path}") from None
        write(path, sound, self.sample_rate)
        return path

    def play(self) -> Any:
        """Make a player for a notebook.

        Returns:
            An `IPython.display.Audio`, which a notebook shows where it is the last value of a cell.

        Raises:
            UserError: IPython is not installed.
        """
        try:
            from IPython import display
        except ModuleNotFoundError:
            raise UserError(
                "a player in a notebook needs IPython; run: pip install ipython, or write a file with .save('out.wav')"
            ) from None
        player: Any = display.Audio  # without types
        return player(self.audio, rate=self.sample_rate, normalize=bool(np.abs(self.audio).max(initial=0) > 1))

    def _repr_html_(self) -> str | None:
        """The player of a notebook, above it the repr; None where IPython is missing."""
        from html import escape

        try:
            return f"<div>{escape(repr(self))}</div>{self.play()._repr_html_()}"
        except UserError:
            return None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.seconds:.2f} s at {self.sample_rate} Hz>"


@frozen(eq=False, repr=False)
class Accompaniment(Sound):
    """A stem that a model played to a recording, sample by sample in time with it.

    Attributes:
        codes: Codes [K, T] int64, or latents [E, T] float32, of all frames.
        timings: Seconds of computing: "start" before the first input, "whole" for all input, of which "encode" and
            "decode"; and "real_time_factor", below 1 where the machine keeps up.
        context: The recording [N], float32, as the model heard it.
        instrument: What it plays; None where that was not given.
    """

    codes: NDArray[Any] = field(repr=False)
    timings: dict[str, float] = field(repr=False)
    context: NDArray[np.float32] = field(repr=False)
    instrument: str | None = None

    def mix(self) -> Sound:
        """Mix the stem with the recording, both equally loud, at -18 LUFS or as loud as full scale allows."""
        return self._mixed

    @cached_property
    def _mixed(self) -> Sound:
        from accomp.core.audio.loudness import mix_for_listening

        mixed = mix_for_listening(self.context, self.audio, self.sample_rate, stems=1, above_db=0.0)
        return Sound(mixed, self.sample_rate)

    def __repr__(self) -> str:
        factor = f"{self.timings['real_time_factor']:.2f} x real time"
        return f"<{self.instrument or 'Accompaniment'}, {self.seconds:.2f} s at {self.sample_rate} Hz, in {factor}>"


def timings_of(played: Played, rate: int) -> dict[str, float]:
    """The timings of an Accompaniment at `rate` Hz."""
    whole, seconds = sum(played.whole), len(played.audio) / rate
    return {
        "start": played.start,
        "whole": whole,
        "encode": sum(played.encode),
        "decode": sum(played.decode),
        "real_time_factor": whole / seconds if seconds else 0.0,
    }
