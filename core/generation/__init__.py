"""Takes of held-out songs, and a file played as if it came live."""
