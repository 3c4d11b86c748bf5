"""python -m petseg.cli.draw_toy_pets, from a clone."""

from petseg.cli.draw_toy_pets import run

if __name__ == "__main__":
    run()
