"""petseg-draw-toy-pets from a clone; see petseg/cli/draw_toy_pets.py."""

from petseg.cli.draw_toy_pets import run

if __name__ == "__main__":
    run()
