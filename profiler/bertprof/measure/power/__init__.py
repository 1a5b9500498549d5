"""Energy, by the counter of an NVIDIA GPU."""
