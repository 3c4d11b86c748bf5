"""The version of petseg."""

__version__ = "0.3.0"
