"""Stands in for petseg.config_rules until that exists: then import it and delete this file."""

import difflib
from collections.abc import Iterator

from petseg.config import Config, Stage


def is_setting(name: str) -> bool:
    """Whether 'config.train.then[0].epochs' or the like names a setting, or a group."""
    section: object = Config()
    section.train.then = [Stage()]
    for part in name.split(".")[1:]:
        field, bracket, _ = part.partition("[")
        if field not in getattr(section, "__dataclass_fields__", ()):
            return False
        section = getattr(section, field)
        if bracket:
            section = section[0] if section else None
    return True


def explain_unknown_setting(name: str) -> str:
    """One line about a name such as 'config.model.heads' that is no setting."""
    near = difflib.get_close_matches(name, [*_settings(Config(), "config")], 1)
    return f"{name} is no setting{f'; did you mean {near[0]}?' if near else ''}"


def _settings(section: object, prefix: str) -> Iterator[str]:
    for name in getattr(section, "__dataclass_fields__", ()):
        yield f"{prefix}.{name}"
        yield from _settings(getattr(section, name), f"{prefix}.{name}")
