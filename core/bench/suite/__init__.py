"""`accomp bench suite`: many benchmarks, each in a process of its own."""
