"""The command petseg-benchmark, from a clone."""

from petseg.cli.benchmark import run

if __name__ == "__main__":
    run()
