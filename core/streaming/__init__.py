"""Models that play frame by frame: caches, steps, sessions, and batches of sessions."""
