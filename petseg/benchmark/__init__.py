"""What petseg-benchmark measures."""
