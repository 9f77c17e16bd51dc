"""Prometheus metrics of a server; no label holds a session, an address or a token."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from accomp.core.serving.protocol.messages import Counts

_MS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_SIGNED = (-0.5, -0.2, -0.1, -0.05, -0.02, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self, period: float = 0.02) -> None:
        """period: seconds of a tick."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        shares = [period * share for share in (0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.5, 2.0)]
        self.slots = self._gauge("slots", "Sessions that fit")
        self.active = self._gauge("sessions_active", "Sessions now")
        self.sessions = self._counter("sessions", "Sessions that have ended", "end")
        self.session_seconds = self._histogram("session_seconds", "Duration of sessions", (1, 10, 60, 300, 900, 3600))
        self.refused = self._counter("refused", "Clients refused", "reason")
        self.tick = self._histogram("tick_seconds", "Duration of a tick", shares)
        self.tick_late = self._counter("tick_late", "Ticks that ended after the next was due")
        self.load = self._gauge("load_ratio", "Busy share of the last 10 s")
        self.part = self._histogram("part_seconds", "Duration of the parts of a tick", shares, "part")
        self.margin = self._histogram("margin_seconds", "Lead of output over its place when sent", _SIGNED)
        self.client_margin = self._histogram("client_margin_seconds", "Smallest lead reported by pages", _SIGNED)
        self.chunks_late = self._counter("chunks_late", "Late chunks reported by pages")
        self.missing = self._counter("samples_missing", "Missing samples reported by pages")
        self.gaps = self._counter("gaps", "Gaps reported by pages")
        self.input_lost = self._counter("input_lost_samples", "Input samples replaced by silence")
        self.output_dropped = self._counter("output_dropped_samples", "Output samples dropped for slow readers")
        self.reanchored = self._counter("reanchored", "Resynchronised clocks of sessions")
        self.drift = self._histogram("clock_drift_ratio", "DriftControl of pages' clocks against the server's",
                                     (-5e-4, -2e-4, -1e-4, -2e-5, 0.0, 2e-5, 1e-4, 2e-4, 5e-4))  # fmt: skip
        self.rtt = self._histogram("client_rtt_seconds", "Round trips reported by pages", _MS)
        self.queue = self._histogram("queue_seconds", "Buffered audio", _MS, "direction")
        self.frames = self._counter("frames", "Frames", "direction")
        self.bytes = self._counter("bytes", "Bytes of frames", "direction")
        self.reconnects = self._counter("reconnects", "Resumed sessions")
        self.capacity = self._gauge("capacity_slots_measured", "Sessions that fit, by measurement")
        self.admission = self._gauge("admission_open", "1 if new sessions are admitted")
        self.model = Gauge("accomp_model_info", "Models", ["run", "step", "weights"], registry=self.registry)

    def text(self) -> bytes:
        """Export in Prometheus' text format."""
        return generate_latest(self.registry)

    def ticked(self, seconds: float, late: bool, parts: dict[str, float]) -> None:
        """Count a tick; a callback of Ticks."""
        self.tick.observe(seconds)
        if late:
            self.tick_late.inc()
        for name, took in parts.items():
            self.part.labels(name).observe(took)

    def count(self, counts: Counts, before: Counts) -> None:
        """Add the counters of a page, since those it sent before."""
        self.chunks_late.inc(max(0.0, counts.late - before.late))
        self.missing.inc(max(0.0, counts.missing - before.missing))
        self.gaps.inc(max(0.0, counts.gaps - before.gaps))
        if counts.margin_min_ms is not None:
            self.client_margin.observe(counts.margin_min_ms / 1000)
        if counts.rtt_ms is not None:
            self.rtt.observe(counts.rtt_ms / 1000)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(f"accomp_{name}", about, registry=self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"accomp_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...] | list[float], *labels: str) -> Histogram:
        return Histogram(f"accomp_{name}", about, labels, buckets=buckets, registry=self.registry)
