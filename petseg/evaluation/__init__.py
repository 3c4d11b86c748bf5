"""Evaluation of a run on one split: counts, figures, a table and a page."""
