"""`accomp corpus mini-slakh`: multi-track MIDI, from wherever it may be had, rendered into Slakh2100's layout."""
