"""Networks of the codecs, and their quantizers."""
