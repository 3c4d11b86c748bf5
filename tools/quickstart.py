"""petseg-quickstart from a clone; see petseg/cli/quickstart.py."""

from petseg.cli.quickstart import run

if __name__ == "__main__":
    run()
