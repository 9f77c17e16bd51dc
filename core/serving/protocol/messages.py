"""Messages of a page: JSON texts, as typed classes."""

from __future__ import annotations

from typing import Final, Literal

from attrs import field, frozen

from accomp.core.serving.protocol.frames import Format

OFF: Final = "off"
FOLLOW: Final = "follow"


@frozen
class Tempo:
    """A metronome set by a page. Attributes: place: of a downbeat; None if the server may choose."""

    bpm: float
    beats_per_bar: int = 4
    place: int | None = None


@frozen
class FollowClock:
    """A metronome set by the MIDI clock of the server's machine."""

    beats_per_bar: int = 4


Metronome = Literal["off", "follow"] | Tempo | FollowClock


@frozen
class CountIn:
    """Clicks before the music. Attributes: beats: their number."""

    bpm: float
    beats: int = 8
    beats_per_bar: int = 4

    @property
    def tempo(self) -> Tempo:
        """Tempo of the clicks."""
        return Tempo(self.bpm, self.beats_per_bar)


@frozen
class Hello:
    """The first message.

    Attributes:
        rate: of the page (Hz).
        frame: samples of each frame.
        resume: a session's secret, to resume it.
    """

    token: str = field(repr=False)
    rate: int
    frame: int
    format: Format = "f32"
    resume: str | None = field(default=None, repr=False)
    client: str = ""


@frozen
class Calibrate:
    """Measure the loopback.

    Attributes:
        place: of the probe's first output sample; None if `assumed_ms` replaces a measurement.
        rtt_p99: round trip of the network (ms).
        block_ms: of the page's audio, which is processed at once.
        device: measure the server's sound device.
    """

    place: int | None
    assumed_ms: float | None
    frame_ms: float
    rtt_p99: float
    block_ms: float = 0.0
    device: bool = False


@frozen
class Start:
    """Start to play. Attributes: first_ms: of the loopback. force: play though it does not fit."""

    model: str | None = None
    instrument: str | None = None
    temperature: float | None = None
    seed: int | None = None
    record: bool = False
    first_ms: float = 0.0
    count_in: CountIn | None = None
    metronome: Metronome = OFF
    chart: str = OFF
    force: bool = False

    @property
    def followed(self) -> list[str]:
        """Names of the timelines that are to be followed."""
        return [name for name, value in (("metronome", self.metronome), ("chart", self.chart)) if value == FOLLOW]


@frozen
class SetMetronome:
    """Set the metronome."""

    value: Metronome


@frozen
class SetChart:
    """Set the chart. Attributes: place: of its first bar; the next downbeat if None."""

    value: str
    place: int | None = None


@frozen
class SetTemperature:
    """Set the temperature."""

    temperature: float


@frozen
class Switch:
    """Switch on or off. Attributes: what: "mute" or "freeze"."""

    what: str
    on: bool


@frozen
class SetInstrument:
    """Set the instrument, by name."""

    name: str


@frozen
class Panic:
    """Silence all output."""


@frozen
class Machine:
    """Settings of the server's sound device.

    Attributes:
        first_ms: loopback latency. volume, silent: of the accompaniment.
        click: place of a click, a `strong` one or not. hush: drop the clicks to come.
    """

    first_ms: float | None = None
    volume: float | None = None
    silent: bool | None = None
    click: int | None = None
    strong: bool = False
    hush: bool = False


@frozen
class Stop:
    """End the session."""


@frozen
class Ping:
    """Request for an echo. Attributes: seen: number of the last state message that was read."""

    t: float | int | str | None = None
    seen: int | None = None


@frozen
class Counts:
    """A page's counters since its session began.

    Attributes:
        late, missing, gaps, lost: chunks, samples, gaps; input samples that could not be sent.
        margin_min_ms: smallest lead of output over its place since the last counters.
        rtt_ms: of the last ping.
        ranges: [first place, samples] of missing output since the last counters.
    """

    late: float = 0
    missing: float = 0
    gaps: float = 0
    margin_min_ms: float | None = None
    rtt_ms: float | None = None
    ranges: tuple[tuple[int, int], ...] = ()


Message = (
    Hello
    | Calibrate
    | Start
    | SetMetronome
    | SetChart
    | SetTemperature
    | Switch
    | SetInstrument
    | Panic
    | Machine
    | Stop
    | Ping
    | Counts
)
