"""Batches and a model -> checkpoints and events."""
