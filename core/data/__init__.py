"""Data pipeline from songs on disk to batches of tokens: ingest, store access, loader."""
