"""Playing by the clock of a sound device: buffers, gaps, warm-up."""
