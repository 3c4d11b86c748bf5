"""The command petseg-results, from a clone."""

from petseg.cli.results import run

if __name__ == "__main__":
    run()
