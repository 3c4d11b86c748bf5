"""--config and flags such as --config.data.batch_size=4, before absl parses them."""

import re
from collections.abc import Sequence

from petseg.config_rules import explain_unknown_setting, is_setting
from petseg.errors import UserError


def refuse_unknown(arguments: Sequence[str]) -> None:
    """Checks the name of every setting on a command line.

    Raises:
      UserError: one is no setting; the message names the new or the nearest one.
    """
    for argument in arguments:
        if argument == "--":
            return
        match = re.match(r"--?(?:no)?(config\.[^=]+)", argument)
        if match and not is_setting(match[1]):
            raise UserError(explain_unknown_setting(match[1]))


def config_arguments(arguments: Sequence[str]) -> list[str]:
    """The part of a command line that makes the config: --config and its settings."""
    given: list[str] = []
    takes_value = False  # --config.data.dir OUT, without '='
    for argument in arguments:
        is_config = re.match(r"--?(no)?config([.=]|$)", argument) is not None
        if is_config or (takes_value and not argument.startswith("-")):
            given.append(argument)
        takes_value = is_config and "=" not in argument
    return given
