"""python -m petseg.train: the command petseg-train."""

from petseg.cli.train import run

if __name__ == "__main__":
    run()
