"""Real-time playing: audio drivers, ring buffers, dropout concealment, warm-up."""
