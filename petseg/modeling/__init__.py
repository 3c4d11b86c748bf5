"""Batches of uint8 images -> logits, losses and counts."""
