"""Shared parts of the tokenizers, and the commands that train, measure and compare codecs."""
