"""Followers: online trackers of beats and chords in the input."""
