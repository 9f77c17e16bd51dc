"""What the tokenizers share, and the commands that train, measure and compare codecs."""
