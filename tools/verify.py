"""The command petseg-verify, from a clone."""

from petseg.cli.verify import run

if __name__ == "__main__":
    run()
