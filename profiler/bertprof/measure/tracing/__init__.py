"""torch.profiler as a clock, and what its trace tells."""
