"""python -m petseg.verify: the command petseg-verify."""

from petseg.cli.verify import run

if __name__ == "__main__":
    run()
