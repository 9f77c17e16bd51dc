"""What a model plays, kept on the disk while it plays, so that nothing is lost however the playing ends.

    OUTPUT        the stem          while it is played 32-bit float, as it comes; at the end 16 bit, scaled to fit
    OUTPUT-mix    with what it was played to          half of each; at the end both equally loud

A FLAC file cannot grow and be whole at any time; while it is played, NAME.playing.wav stands for it.
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
    """A stem at `output` and the mix at `mixed`; use it as a context, from before anything is loaded.

    When the block ends, so does the recording. However it ends, what was played is on the disk. Raises then WorkError
    where the disk is full or fails, and for a stem that holds NaN or Inf, Interrupted for KeyboardInterrupt; both say
    what is kept.
    """

    def __init__(self, output: Path | None, mixed: Path | None):
        """Nothing is kept of what does not go to files."""
        self._output, self._mixed = output, mixed
        self._live: list[LiveWav] = []
        self._heard: list[np.ndarray] = []
        self._played: list[np.ndarray] = []
        self._rate = 0
        self._tried = self._finished = False

    def add(self, heard: np.ndarray, played: np.ndarray, rate: int) -> None:
        """Keep what was heard and what was played to it, [n] each at `rate` Hz. Raises OSError where the disk fails."""
        if self._output is None or self._mixed is None or not len(played):
            return
        self._rate = rate
        self._heard.append(heard)
        self._played.append(played)
        if not self._live:
            self._live = [LiveWav(_growing(path), rate) for path in (self._output, self._mixed)]
        stem, mix = self._live
        stem.append(played)
        mix.append((heard + played) / 2)

    @property
    def seconds(self) -> float:
        """How much of the stem is on the disk."""
        return self._live[0].samples / self._rate if self._live else 0.0

    def finish(self) -> None:
        """Write the two as they shall be, in place of what has grown; tried once. Says so.

        Raises WorkError for a stem that holds NaN or Inf, OSError where the disk fails; what has grown stays.
        """
        if self._tried or not self._live:
            return
        self._tried = True
        assert self._output is not None, "what is live goes to files"
        assert self._mixed is not None
        played, heard = np.concatenate(self._played), np.concatenate(self._heard)
        try:
            stem, gain = within_full_scale(played)
        except ValueError as error:
            raise WorkError(f"{error}; {self.kept()}") from error
        mix = mix_for_listening(heard, stem, self._rate, stems=1, above_db=0.0)
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

    def kept(self) -> str:
        """What of it is on the disk."""
        if self._output is None:
            return "nothing was to be kept"
        if not self._live or not self._live[0].samples:
            return "nothing was played yet, and nothing was written"
        if self._finished:
            return f"what was played, {self.seconds:.2f} s, is kept: {self._output}, the mix {self._mixed}"
        stem, mix = (live.path for live in self._live)
        return (
            f"what was played, {self.seconds:.2f} s, is kept, in 32-bit float: {stem}, half of it and the input: {mix}"
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
            raise Interrupted(f"interrupted{f' by {found}' if str(found) else ''}; {self.kept()}") from found
        if (trouble := trouble_in(found)) is not None:
            raise WorkError(f"{fault(trouble)}; {self.kept()}") from found
        if found is not error and found is not None:
            raise found
        if error is not None and self._live:
            warn(self.kept())


def _growing(path: Path) -> Path:
    return path if path.suffix.lower() == ".wav" else path.with_name(f"{path.stem}.playing.wav")
