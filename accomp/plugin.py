"""All that a plugin imports from accomp."""
