"""`cocola`: the published network."""
