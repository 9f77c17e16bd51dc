"""What codecs are trained on: clips of music, and sounds made by formula."""
