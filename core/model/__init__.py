"""The model of codes: its sequence, vocabulary, conditions, guidance and sampling."""
