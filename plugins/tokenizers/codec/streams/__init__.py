"""Codecs that work as the sound arrives: causal and sliding layers, graphs, machine code."""
