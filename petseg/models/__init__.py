"""Segmentation models: encoders, decoders, and both together."""
