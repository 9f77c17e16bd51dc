"""The ingest stage: songs of a corpus become tokens in a store."""
