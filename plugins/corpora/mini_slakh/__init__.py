"""`accomp corpus mini-slakh`: multi-track MIDI from several sources, rendered into the Slakh2100 layout."""
