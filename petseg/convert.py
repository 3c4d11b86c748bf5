"""python -m petseg.convert: the command petseg-convert."""

from petseg.cli.convert import run

if __name__ == "__main__":
    run()
