"""The version of petseg."""

__version__ = "0.2.0"
