"""Streaming codecs: causal and look-ahead layers, compiled graphs, numba kernels."""
