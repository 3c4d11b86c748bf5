"""Flags such as --config.data.batch_size=4: the names of settings, checked before parsing."""

import re
from collections.abc import Sequence

from petseg.cli.config_rules_stub import explain_unknown_setting, is_setting
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
