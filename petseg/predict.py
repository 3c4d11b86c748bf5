"""python -m petseg.predict: the command petseg-predict."""

from petseg.cli.predict import run

if __name__ == "__main__":
    run()
