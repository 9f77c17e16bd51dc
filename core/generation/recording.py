"""Crash-safe recording of a model's output, written to disk while it plays.

    OUTPUT        the stem          32-bit float while playing; at the end 16 bit, scaled to fit
    OUTPUT-mix    with its input    half of each; at the end both equally loud

A FLAC file cannot grow and stay valid; while playing, NAME.playing.wav takes its place.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from accomp.core.audio import io as audio
from accomp.core.audio.loudness import mix_for_listening, within_full_scale
from accomp.core.console import say, warn
from accomp.core.errors import Interrupted, WorkError
from accomp.core.files import write_atomic
from accomp.core.generation.live_wav import LiveWav
from accomp.core.trouble import fault, trouble_in


class Recording:
    """A stem at `output` and the mix at `mixed`; a context manager, to be entered before anything is loaded.

    The recording ends with the block, and all output so far is then on disk in any case. Raises at its end WorkError if
    the disk is full or fails, and for a stem with NaN or Inf, Interrupted for KeyboardInterrupt; both name the files.
    """

    def __init__(self, output: Path | None, mixed: Path | None):
        """With None for a path nothing is recorded."""
        self._output, self._mixed = output, mixed
        self._live: list[LiveWav] = []
        self._inputs: list[np.ndarray] = []
        self._outputs: list[np.ndarray] = []
        self._rate = 0
        self._tried = self._finished = False

    def add(self, x: np.ndarray, played: np.ndarray, rate: int) -> None:
        """Append input and output, [n] each at `rate` Hz. Raises OSError if the disk fails."""
        if self._output is None or self._mixed is None or not len(played):
            return
        self._rate = rate
        self._inputs.append(x)
        self._outputs.append(played)
        if not self._live:
            self._live = [LiveWav(_growing(path), rate) for path in (self._output, self._mixed)]
        stem, mix = self._live
        stem.append(played)
        mix.append((x + played) / 2)

    @property
    def seconds(self) -> float:
        """Length of the stem on disk."""
        return self._live[0].samples / self._rate if self._live else 0.0

    def finish(self) -> None:
        """Write the final files in place of the growing ones; tried once, and reported.

        Raises WorkError for a stem with NaN or Inf, OSError if the disk fails; the growing files stay.
        """
        if self._tried or not self._live:
            return
        self._tried = True
        assert self._output is not None, "live files have paths"
        assert self._mixed is not None
        played, inputs = np.concatenate(self._outputs), np.concatenate(self._inputs)
        try:
            stem, gain = within_full_scale(played)
        except ValueError as error:
            raise WorkError(f"{error}; {self.files_report()}") from error
        mix = mix_for_listening(inputs, stem, self._rate, stems=1, above_db=0.0)
        for path, content in ((self._output, stem), (self._mixed, mix)):
            write_atomic(path, audio.encoded(content, self._rate, path.suffix))
        for live in self._live:
            if live.path not in (self._output, self._mixed):
                live.path.unlink(missing_ok=True)
        self._finished = True
        if gain < 1:
            say(f"the stem was louder than a file can hold; scaled by {gain:.3f}")
        say(f"stem: {self._output}")
        say(f"mix, both equally loud: {self._mixed}")

    def files_report(self) -> str:
        """Report of the files on disk."""
        if self._output is None:
            return "nothing was recorded"
        if not self._live or not self._live[0].samples:
            return "nothing was played yet, and nothing was written"
        if self._finished:
            return f"the output so far, {self.seconds:.2f} s, is kept: {self._output}, the mix {self._mixed}"
        stem, mix = (live.path for live in self._live)
        return (
            f"the output so far, {self.seconds:.2f} s, is kept, in 32-bit float: {stem}, half of it and the input: "
            f"{mix}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        found = error
        try:
            if error is None or not isinstance(trouble_in(error), OSError):
                self.finish()
        except (Exception, KeyboardInterrupt) as problem:
            if error is None or isinstance(problem, KeyboardInterrupt):
                found = problem
        finally:
            for live in self._live:
                live.close()
        if isinstance(found, KeyboardInterrupt):
            raise Interrupted(f"interrupted{f' by {found}' if str(found) else ''}; {self.files_report()}") from found
        if (trouble := trouble_in(found)) is not None:
            raise WorkError(f"{fault(trouble)}; {self.files_report()}") from found
        if found is not error and found is not None:
            raise found
        if error is not None and self._live:
            warn(self.files_report())


def _growing(path: Path) -> Path:
    return path if path.suffix.lower() == ".wav" else path.with_name(f"{path.stem}.playing.wav")
