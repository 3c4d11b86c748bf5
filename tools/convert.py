"""The command petseg-convert, from a clone."""

from petseg.cli.convert import run

if __name__ == "__main__":
    run()
