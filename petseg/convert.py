"""python -m petseg.convert: the command petseg-convert."""

if __name__ == "petseg.convert":
    # As a module it would replace the library's function of that name.
    raise ImportError(
        "petseg.convert is no module to import: call petseg.convert(...) after `import petseg`, "
        "or import the command from petseg.cli.convert"
    )

from petseg.cli.convert import run

if __name__ == "__main__":
    run()
