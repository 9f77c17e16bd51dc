"""The `magnitude` codec on a CPU: numba kernels whose order of operations does not depend on the block size."""
