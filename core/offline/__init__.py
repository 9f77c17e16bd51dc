"""Inference of models without a clock, whose input is a whole clip."""
