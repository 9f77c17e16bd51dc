"""`mirdd_open`: distances of descriptors."""
