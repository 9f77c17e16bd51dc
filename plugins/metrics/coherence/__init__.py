"""`coherence`: a learned score of the temporal fit of stem and context."""
