"""The command petseg-quickstart, from a clone."""

from petseg.cli.quickstart import run

if __name__ == "__main__":
    run()
