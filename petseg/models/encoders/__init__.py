"""Encoders: images -> features at several strides."""
