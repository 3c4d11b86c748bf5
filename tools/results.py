"""petseg-results from a clone; see petseg/cli/results.py."""

from petseg.cli.results import run

if __name__ == "__main__":
    run()
