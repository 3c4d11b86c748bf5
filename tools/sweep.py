"""petseg-sweep from a clone; see petseg/cli/sweep.py."""

from petseg.cli.sweep import run

if __name__ == "__main__":
    run()
