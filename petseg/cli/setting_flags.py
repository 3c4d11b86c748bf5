"""--config and flags such as --config.data.batch_size=4: what is done before absl parses them."""

import re
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from petseg.config_rules import explain_unknown_setting, is_setting
from petseg.errors import UserError
from petseg.image_size import ImageSize

_SIZE = re.compile(r"(-?\d+)(?:\s*[x,]\s*(-?\d+))?")


class _ImageSizeParser(flags.ArgumentParser):
    """Parses 224, 224x320, '(224, 320)' and '[224, 320]'."""

    syntactic_help = "height and width, or one number"

    def parse(self, argument: object) -> object:
        """The number or numbers of a text; a value that is none, such as the default, stays."""
        if not isinstance(argument, str):
            return argument
        text = argument.strip()
        if text[:1] + text[-1:] in ("()", "[]"):
            text = text[1:-1].strip()
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ValueError("it must be a number of pixels, or height and width, as in 224x320")
        height, width = match.groups()
        return (int(height), int(width)) if width else int(height)


# By the type of a field ml_collections chooses how its flag is parsed.
config_flags.register_flag_parser_for_type(ImageSize, _ImageSizeParser())


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


def config_of(arguments: Sequence[str]) -> str | None:
    """The value of --config on a command line, the last if there are several.

    Raises:
      UserError: a setting comes before it, or it has no value.
    """
    found, early = None, None
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        if re.match(r"--?config(=|$)", argument):
            following = arguments[index + 1 : index + 2]
            _, equals, value = argument.partition("=")
            if not equals and not following:
                raise UserError("--config is the last word; it needs a recipe's name or a file")
            found = value if equals else following[0]
            if early:
                raise UserError(f"--config={found} must come before {early}, which changes it")
        elif found is None and re.match(r"--?(no)?config\.", argument):
            early = argument
    return found


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
