"""Streaming inference: steps, KV cache, sessions, batches."""
