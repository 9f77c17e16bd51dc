"""Messages of a session whose sound goes to a device instead of its page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accomp.core.serving.machine.audio import MachineAudio
from accomp.core.serving.playing.output_stream import Outbox
from accomp.core.serving.protocol.frames import Frame


class MachineOutbox(Outbox):
    """Sends JSON messages to the page, and frames to a device."""

    def __init__(self, audio: MachineAudio, wake: Callable[[], None]):
        super().__init__(audio.rate, wake)
        self._audio = audio

    def send(self, message: dict[str, Any]) -> None:
        """See Outbox."""
        if message["type"] == "playing":
            self._audio.expect(message["place"])
        super().send(message)

    def send_frame(self, frame: Frame) -> None:
        """See Outbox."""
        self._audio.take(frame)

    def clear_audio(self) -> None:
        """See Outbox."""
        self._audio.clear()
