"""Losses: one file per family, chosen by name."""
