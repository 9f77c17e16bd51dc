"""What a server counts, for Prometheus; no label holds a session, an address or a token."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

_MS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_SIGNED = (-0.5, -0.2, -0.1, -0.05, -0.02, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class Metrics:
    """All of one server, in a registry of its own."""

    def __init__(self, period: float = 0.02) -> None:
        """period: seconds of a tick."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        shares = [period * share for share in (0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.5, 2.0)]
        self.slots = self._gauge("slots", "Sessions that fit")
        self.active = self._gauge("sessions_active", "Sessions now")
        self.sessions = self._counter("sessions", "Sessions that have ended", "end")
        self.session_seconds = self._histogram(
            "session_seconds", "How long sessions lasted", (1, 10, 60, 300, 900, 3600)
        )
        self.refused = self._counter("refused", "Clients refused", "reason")
        self.tick = self._histogram("tick_seconds", "What a tick took", shares)
        self.tick_late = self._counter("tick_late", "Ticks that ended after the next was due")
        self.load = self._gauge("load_ratio", "Busy share of the last 10 s")
        self.part = self._histogram("part_seconds", "What the parts of a tick took", shares, "part")
        self.margin = self._histogram("margin_seconds", "How far ahead of its place output left", _SIGNED)
        self.client_margin = self._histogram("client_margin_seconds", "The least margin that pages tell", _SIGNED)
        self.chunks_late = self._counter("chunks_late", "Late chunks that pages tell")
        self.missing = self._counter("samples_missing", "Missing samples that pages tell")
        self.gaps = self._counter("gaps", "Gaps that pages tell")
        self.input_lost = self._counter("input_lost_samples", "Samples heard as silence")
        self.output_dropped = self._counter("output_dropped_samples", "Samples that slow readers lost")
        self.reanchored = self._counter("reanchored", "Sessions whose clock had to be matched anew")
        self.drift = self._histogram("clock_drift_ratio", "Pages' clocks against the server's",
                                     (-5e-4, -2e-4, -1e-4, -2e-5, 0.0, 2e-5, 1e-4, 2e-4, 5e-4))  # fmt: skip
        self.rtt = self._histogram("client_rtt_seconds", "Round trips that pages tell", _MS)
        self.queue = self._histogram("queue_seconds", "Sound that waits", _MS, "direction")
        self.frames = self._counter("frames", "Frames", "direction")
        self.bytes = self._counter("bytes", "Bytes of frames", "direction")
        self.reconnects = self._counter("reconnects", "Sessions that came back")
        self.capacity = self._gauge("capacity_slots_measured", "Sessions that fit, by measurement")
        self.admission = self._gauge("admission_open", "Whether new sessions are admitted")
        self.model = Gauge("accomp_model_info", "Models", ["run", "step", "weights"], registry=self.registry)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

    def ticked(self, seconds: float, late: bool, parts: dict[str, float]) -> None:
        """A tick, as Ticks tells of it."""
        self.tick.observe(seconds)
        if late:
            self.tick_late.inc()
        for name, took in parts.items():
            self.part.labels(name).observe(took)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(f"accomp_{name}", about, registry=self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"accomp_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...] | list[float], *labels: str) -> Histogram:
        return Histogram(f"accomp_{name}", about, labels, buckets=buckets, registry=self.registry)
