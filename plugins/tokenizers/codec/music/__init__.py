"""Training data of codecs: clips of music and synthesized sounds."""
