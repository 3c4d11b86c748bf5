"""petseg-benchmark from a clone; see petseg/cli/benchmark.py."""

from petseg.cli.benchmark import run

if __name__ == "__main__":
    run()
