"""What a codec is worth: figures, calibrations, and the page that compares codecs."""
