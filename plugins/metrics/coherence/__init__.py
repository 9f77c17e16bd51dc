"""`coherence`: a learned judgement of what belongs together."""
