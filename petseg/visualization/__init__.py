"""Draws charts and pictures."""
