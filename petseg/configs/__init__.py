"""Recipes: settings with the command that uses them; --config=NAME finds them by name."""
