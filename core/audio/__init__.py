"""Audio files and arrays: decoding, claimed and actual lengths, loudness."""
