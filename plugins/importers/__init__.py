"""Commands that convert checkpoints of other programs to runs."""
