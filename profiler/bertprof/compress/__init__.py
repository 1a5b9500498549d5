"""Compression methods: what each changes about a model's structure, storage and execution."""
