"""python -m petseg.train: the command petseg-train."""

if __name__ == "petseg.train":
    # As a module it would replace the library's function of that name.
    raise ImportError(
        "petseg.train is no module to import: call petseg.train(...) after `import petseg`, "
        "or import the command from petseg.cli.train"
    )

from petseg.cli.train import run

if __name__ == "__main__":
    run()
