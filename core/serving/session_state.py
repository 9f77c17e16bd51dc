"""The state message of a session."""

from __future__ import annotations

from typing import Any

from accomp.core.serving.playing.live import LiveSession
from accomp.core.serving.server import Server


def state_of(server: Server, live: LiveSession | None, lost: float) -> dict[str, Any]:
    """State of a session that plays, or of the server alone. lost: seconds of input that were lost."""
    run = server.engine.find(live) if live is not None else None
    run = run or next(iter(server.runs.values()))
    p50, p99 = run.ticks.quantiles(0.5, 0.99)
    state: dict[str, Any] = {
        "type": "state", "tick_ms": {"p50": round(1000 * p50, 2), "p99": round(1000 * p99, 2)},
        "load": round(run.ticks.load, 3), "lost_input_ms": 0.0, "drift_ppm": 0.0, "ahead_ms": 0.0,
        "slots_free": server.slots["free"], "bpm": None, "chord": None, "said": "",
    }  # fmt: skip
    if server.device is not None:
        state["device"] = server.device.state(playing=live is not None)
    if server.clock is not None:
        state["clock"] = server.clock.state()
    if live is None:
        return state
    state["lost_input_ms"] = round(1000 * lost, 1)
    state["drift_ppm"] = round(1e6 * (live.drift.share if live.drift else 0.0), 1)
    state["ahead_ms"] = round(1000 * live.margin, 1)
    if live.timelines is not None and live.voices:
        try:
            place = round(live.input.place_at(live.input.taken))
            state["bpm"], state["chord"] = live.timelines.now(place, live.voices[0].following)
        except (IndexError, RuntimeError):  # a concurrent change
            pass
    state["said"] = live.recording.failure if live.recording is not None else ""
    return state
