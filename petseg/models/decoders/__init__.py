"""Decoders: an encoder's features -> logits."""
