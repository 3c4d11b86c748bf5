"""Flags that are paths."""

from absl import flags

from petseg import paths

flags.disclaim_key_flags()  # they belong to the modules that call `define`


class _PathParser(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        return paths.expand(argument)


def define(
    name: str, default: str | None, help: str, *, required: bool = False
) -> flags.FlagHolder[str]:
    """Defines a flag whose value is a path; a leading ~ is the user's folder."""
    return flags.DEFINE(_PathParser(), name, default, help, required=required)
