"""Broken plugins: followers."""

from fakes import Pulse

from accomp.core.music.annotations import NOTHING, Annotations, Beats
from broken_plugins.register import breaks


@breaks(
    "follower", "is built by cls(config, sample_rate) and states follows, fingerprint and provenance: follows is 'mood'"
)
class MoodFollower(Pulse):
    follows = "mood"


@breaks("follower", "known() is NOTHING at first, and after silence: Annotations(beats=Beats(times=(0.0, 0.5)")
class AlwaysCounting(Pulse):
    def known(self):
        return Annotations(Beats((0.0, 0.5)))


@breaks("follower", "begin() forgets; push takes audio [n] float32 and leaves it as it was: push changed its audio")
class LoudFollower(Pulse):
    def push(self, audio):
        audio *= 2
        super().push(audio)


@breaks("follower", "begin() forgets; push takes audio [n] float32 and leaves it as it was: Annotations")
class Slowing(Pulse):
    begun = 0

    def begin(self):
        super().begin()
        self.begun += 1

    def known(self):
        return Annotations(Beats((0.0, 0.5 * self.begun))) if self._loud else NOTHING


@breaks("follower", "known() tells what it follows, once there is a steady beat of chords")
class DeafFollower(Pulse):
    def push(self, audio):
        pass


@breaks("follower", "however the sound is cut, the same is known")
class Impatient(Pulse):
    def begin(self):
        self._loud, self._pushes = False, 0

    def push(self, audio):
        self._pushes += 1
        super().push(audio)

    def known(self):
        return Annotations(Beats((0.0, 0.5 / self._pushes))) if self._loud else NOTHING
