"""python -m petseg.export: the command petseg-export."""

from petseg.cli.export import run

if __name__ == "__main__":
    run()
