"""Training of the `magnitude` codec."""
