"""From songs on disk to batches of tokens: the ingest, the store, and its loader."""
