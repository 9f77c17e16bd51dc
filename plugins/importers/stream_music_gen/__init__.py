"""Checkpoints of stream-music-gen, the public code of the streaming paper (arXiv 2510.22105)."""
