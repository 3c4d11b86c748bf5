"""petseg-verify from a clone; see petseg/cli/verify.py."""

from petseg.cli.verify import run

if __name__ == "__main__":
    run()
