"""Export of trained models, and their serving functions."""
