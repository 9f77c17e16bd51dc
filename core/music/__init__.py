"""Musical annotations: beats, chords and charts as timelines, labels, instrument classes."""
