"""python -m petseg.evaluate: the command petseg-evaluate."""

from petseg.cli.evaluate import run

if __name__ == "__main__":
    run()
