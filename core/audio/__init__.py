"""Sound in files and in arrays: reading, lengths as they are claimed and as they are, loudness."""
