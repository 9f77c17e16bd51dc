"""Evaluation of takes: clips, anchors, metrics and their intervals."""
