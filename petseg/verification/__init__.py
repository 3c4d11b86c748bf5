"""Checks a finished data set against its manifest, and draws it."""
