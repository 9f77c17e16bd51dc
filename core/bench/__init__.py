"""`accomp bench`: performance of the runtime on this machine, one file a benchmark."""
