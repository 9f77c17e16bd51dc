"""`accomp bench`: how fast the runtime is on this machine, one file a benchmark."""
