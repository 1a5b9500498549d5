"""Measuring: from a model's name, folder or module to a Breakdown. With `compress`, all that imports torch."""
