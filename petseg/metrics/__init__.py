"""Metrics: counts of pixels, and figures computed from them."""
