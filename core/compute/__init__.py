"""What computes: devices, processors, compilers, sharded weights, interrupts, and the limits of a machine."""
