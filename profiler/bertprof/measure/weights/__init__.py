"""Weights as they are stored: checkpoints on disk, quantised and pruned ones, modules that others quantised."""
