"""A trained model that plays: to recordings, in a live session, or in many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from accomp import catalog
from accomp.arguments import positive, sound_of, whole
from accomp.audio import Accompaniment, timings_of
from accomp.core.clock import Clock
from accomp.core.compute.devices import PLAYING_THREADS, number_of, threads
from accomp.core.errors import UserError
from accomp.core.model.conditions import class_names
from accomp.core.names import argument
from accomp.core.runs.models import find_model
from accomp.core.runs.player import Player, load_player, playing_checkpoint
from accomp.core.runs.run import perform, play
from accomp.player import RunPlayer

if TYPE_CHECKING:
    from accomp.core.interfaces import Tokenizer
    from accomp.core.registry import Registry
    from accomp.core.spec.schema import Spec
    from accomp.scores import Scores
    from accomp.session import Batch, Session


def load_run(
    run: str | Path,
    *,
    device: str | None = None,
    compile: bool | None = None,
    weights: str | None = None,
    guidance: Mapping[str, float] | None = None,
) -> Run:
    """Load the trained model of a run: of its best checkpoint on validation.

    Args:
        run: A run folder, the name of a model that comes along (`accomp models`), or "hub:owner/repo[@revision]".
        device: "cpu", "cuda", "mps" or "auto"; that of the run's spec where not given.
        compile: Whether to compile a step before the music starts, which takes a minute and makes it several times as
            fast; as in the run's spec where not given, which usually means: on a GPU.
        weights: "float32", "bfloat16", "int8" or, on CPUs, "w8a8"; as in the run's spec where not given.
        guidance: Condition -> scale of classifier-free guidance; as in the run's spec where not given.

    Returns:
        The run, ready to play.

    Raises:
        UserError: There is no such run, nothing is trained in it, or it does not fit the arguments.

    Example:
        >>> run = accomp.load_run("pretrained", device="cpu")
    """
    from accomp.core.compute.devices import device_of
    from accomp.core.generation.stream import runtime_of

    found = catalog.registry()
    folder = find_model(run, found)
    checkpoint = playing_checkpoint(folder)
    words = [] if compile is None else [f"compile={'on' if compile else 'off'}"]
    words += [] if weights is None else [f"weights={weights}"]
    settings = checkpoint.spec["run"]
    count = settings.get("threads") or PLAYING_THREADS
    with threads(count):
        player = load_player(
            folder,
            found,
            device_of(device, argument("device", device)) if device else device_of(settings["accelerator"]),
            guidance=guidance,
            runtime=runtime_of(checkpoint.spec, words, "argument "),
        )
    return Run(folder, player, found, count)


class Run:
    """A trained model and all that it needs to play; made by `load_run`.

    Attributes:
        folder: The run folder.
        player: What the commands of accomp play with; private to accomp.
    """

    def __init__(self, folder: Path, player: Player, registry: Registry, threads: int):
        self.folder, self.player = folder, player
        self._player = RunPlayer(folder, player, registry, threads)

    def __repr__(self) -> str:
        clock = "plays to whole recordings" if self.clock is None else f"t_f = {self.clock.t_f}, k = {self.clock.k}"
        return f"<Run {self.folder}: step {self.player.step}, {clock}, {self.tokenizer.name}, {self.player.device}>"

    @property
    def spec(self) -> Spec:
        """The spec that the model was trained with, complete."""
        from accomp.core.spec.schema import structure

        return structure(playing_checkpoint(self.folder).spec, self._player.registry, where=str(self.folder))

    @property
    def clock(self) -> Clock | None:
        """How far the model sees the input (t_f) and how much it plays at once (k), in codec frames.

        None for a model that hears a whole recording before it plays.
        """
        return self.player.model.clock

    @property
    def tokenizer(self) -> Tokenizer:
        """The codec."""
        return self.player.tokenizer

    @property
    def model(self) -> Any:
        """The network, a `torch.nn.Module` in evaluation mode."""
        return self.player.model

    @property
    def sample_rate(self) -> int:
        """The codec's, in Hz: of all that the model hears and plays."""
        return self._player.sample_rate

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Label -> the names of its classes, of the labels that the model takes."""
        known = self.player.model.conditions.labels
        return {name: tuple(class_names(name, condition)) for name, condition in known.items()}

    @property
    def latency(self) -> float:
        """How far a live output lags behind its input on an infinitely fast machine, in seconds.

        Negative for a model that plays ahead of what it has heard. Raises UserError for a model that cannot stream.
        """
        return self._player.latency

    def accompany(
        self,
        audio: str | Path | ArrayLike,
        *,
        sample_rate: int | None = None,
        instrument: str | None = None,
        seed: int = 0,
        temperature: float | None = None,
        metronome: str = "auto",
        chart: str = "auto",
        block: int | None = None,
        **labels: str,
    ) -> Accompaniment:
        """Play to a recording as if it came live; the same arguments give the same stem.

        Args:
            audio: An audio file of any rate and number of channels, or samples [N] in [-1, 1].
            sample_rate: Of samples, in Hz; they are resampled where the codec has another. Not for a file.
            instrument: What to play, such as "Bass" or "drums"; withheld from the model where not given.
            seed: Decides what is sampled.
            temperature: Of sampling; the sampler's own where not given.
            metronome: The beats: "120bpm", "90bpm/3" (beats a bar), "120bpm@0.35" (first downbeat, in seconds), a file
                of beats, "follow" (a tracker finds them in the input) or "off": a model with an ear hears them itself.
                "auto": "off" for such a model, else "follow" where the model takes a metronome.
            chart: The chords: "C Am F G", a text file, "follow", "off" or "auto", likewise.
            block: Samples fed at a time, a codec frame where not given; the stem does not depend on it.
            **labels: The other labels of `Run.labels`, by the names of their classes: genre="jazz". Those not given are
                withheld.

        Returns:
            The stem, as long as the recording.

        Raises:
            UserError: A label, a class or an argument is not known, or the audio cannot be used.

        Example:
            >>> take = run.accompany("song.wav", instrument="Bass", seed=1)
            >>> take.save("bass.wav")
        """
        sound = sound_of(audio, sample_rate, self.sample_rate)
        controls = self._player.controls(temperature)
        how: dict[str, Any] = {
            "labels": self._player.classes(instrument, labels),
            "seed": whole("seed", seed),
            "session": number_of("stream"),
            "timelines": self._player.timelines(metronome, chart),
        }
        piece = positive("block", self.tokenizer.space.hop if block is None else block)
        with self._player.computing():
            if self.player.clocked:
                pieces = [piece] * -(-len(sound) // piece)
                played = play(self.player, sound, pieces, controls=controls, **how)
            elif controls is None:
                played = perform(self.player, sound, **how)
            else:
                raise UserError(f"temperature={temperature}: a model without a clock has the sampler's own")
        return Accompaniment(
            played.audio, self.sample_rate, played.codes, timings_of(played, self.sample_rate), sound, instrument
        )

    def session(
        self,
        *,
        instrument: str | None = None,
        seed: int = 0,
        temperature: float | None = None,
        metronome: str = "auto",
        chart: str = "auto",
        **labels: str,
    ) -> Session:
        """Begin a live session, which shares nothing with any other.

        Args:
            instrument, seed, temperature, metronome, chart, **labels: As for `accompany`.

        Returns:
            The session; as a context manager it ends with the block.

        Raises:
            UserError: The model cannot stream, or an argument is not known.

        Example:
            >>> with run.session(instrument="Bass") as session:
            ...     out = session.push(block)
        """
        from accomp.session import Session

        return Session(
            self._player,
            classes=self._player.classes(instrument, labels),
            seed=whole("seed", seed),
            controls=self._player.controls(temperature),
            metronome=metronome,
            chart=chart,
        )

    def batch(self, slots: int, *, temperature: float = 1.0) -> Batch:
        """Make room for many sessions that advance together, as a server has them.

        Args:
            slots: How many there can be at a time; all are computed at every step.
            temperature: Of sessions that join without one, where the sampler has a temperature.

        Returns:
            An empty batch.

        Raises:
            UserError: The model cannot stream, or cannot be compiled as its runtime says.
        """
        from accomp.session import Batch

        return Batch(self._player, positive("slots", slots), temperature)

    def train(self) -> Path:
        """Train on, where the spec of the run folder asks for more; `accomp.train`. Load the run anew to play it."""
        from accomp.experiment import own_spec, train

        return train(own_spec(self.folder))

    def generate(self) -> Path:
        """Play to held-out songs, into the run folder; `accomp.generate`."""
        from accomp.experiment import generate, own_spec

        return generate(own_spec(self.folder))

    def evaluate(self, metrics: Sequence[str] | None = None) -> Scores:
        """Judge the run's takes; `accomp.evaluate`."""
        from accomp.scores import evaluate

        return evaluate(self, metrics=metrics)
