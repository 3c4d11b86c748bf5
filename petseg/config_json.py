"""The settings of a run as config.json has them."""

import dataclasses
import json
import os
import typing

import pydantic

from petseg.config import Config, Stage
from petseg.data import json_file
from petseg.setting import Section, rules_of

_Json = dict[str, pydantic.JsonValue]


def spell_out(config: Config) -> Config:
    """A copy whose local paths are absolute.

    So a run folder means the same wherever the next command is started.
    """
    copy = from_json(to_json(config))
    for section_field in dataclasses.fields(copy):
        section = getattr(copy, section_field.name)
        if not isinstance(section, Section):
            continue
        for field in dataclasses.fields(section):
            rules, value = rules_of(field), getattr(section, field.name)
            if rules.is_path and value and value not in rules.not_paths:
                setattr(section, field.name, value if "://" in value else os.path.abspath(value))
    return copy


def to_json(config: Config) -> str:
    """The settings as JSON; `from_json` reads it."""
    return json.dumps(dataclasses.asdict(config), indent=1) + "\n"


def from_json(text: str | bytes) -> Config:
    """Reads what `to_json` wrote.

    Raises:
      ValueError: It is not JSON, or a setting is unknown.
    """
    content = json_file.parse(text, _Json)
    types = typing.get_type_hints(Config)
    try:
        sections = {
            name: kind(**_with_tuples(_section(content, name)))
            for name, kind in types.items()
            if isinstance(kind, type) and issubclass(kind, Section)
        }
        stages, plugins = content["train"]["stages"], content["plugins"]
        if not (isinstance(stages, list) and isinstance(plugins, list)):
            raise TypeError("train.stages and plugins must be lists")
        sections["train"].stages = [Stage(**stage) for stage in stages]
        return Config(**sections, plugins=tuple(plugins))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _section(content: dict, name: str) -> dict:
    """A section's fields; {} for one that runs of before it do not have."""
    return content.get(name, {}) if name == "patches" else content[name]


def is_of_first_edition(text: str | bytes) -> bool:
    """Whether a run's config.json was written by petseg 0.1."""
    try:
        return "head" in json_file.parse(text, _Json)["model"]
    except (ValueError, KeyError, TypeError):
        return False


def _with_tuples(fields: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) and k != "stages" else v for k, v in fields.items()}
