"""How plugins of any kind import libraries that need a hand; no plugin lies here."""
