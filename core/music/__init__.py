"""What is known of music beside its sound: beats, chords and charts as timelines, instrument classes."""
