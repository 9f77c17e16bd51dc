"""Quality of codecs: figures, calibrations, and the page that compares codecs."""
