"""petseg-convert from a clone; see petseg/cli/convert.py."""

from petseg.cli.convert import run

if __name__ == "__main__":
    run()
