"""Devices, cores, compilers, sharded weights, signals, and the limits of a machine."""
