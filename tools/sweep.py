"""The command petseg-sweep, from a clone."""

from petseg.cli.sweep import run

if __name__ == "__main__":
    run()
