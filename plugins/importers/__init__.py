"""Commands that turn the checkpoints of other programs into runs."""
