"""The text of --help_config: every setting, its default, what it may be and what it does."""

import dataclasses
import inspect
import re
import textwrap

from petseg.config import Config, Stage
from petseg.setting import Resume, Rules, Section, rules_of

_COLUMNS = 88


@dataclasses.dataclass(frozen=True)
class Entry:
    """What there is to know of a setting.

    Attributes:
      name: As on the command line, such as config.data.dir.
      default: Its default.
      limits: What it may be, '' for anything of its type.
      text: What it does.
      resume: Whether a resumed run may change it.
    """

    name: str
    default: object
    limits: str
    text: str
    resume: Resume


def groups() -> list[tuple[str, str, list[Entry]]]:
    """Name, summary and settings of each section, in the order of petseg/config.py.

    Settings of no section come under config, those of a stage last.
    """
    config, loose, found = Config(), [], []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"config.{field.name}"
        if isinstance(value, Section):
            found.append((name, inspect.getdoc(value).splitlines()[0], _entries(name, value)))
        else:
            loose.append(_entry(name, value, field, Config))
    found.append(("config", "Settings of no section.", loose))
    stage = "config.train.stages[0]"
    found.append((stage, "A stage of config.train.stages.", _entries(stage, Stage())))
    return found


def page() -> str:
    """Every setting, as text for a terminal."""
    parts = ["A recipe sets these; --config.SECTION.FIELD=VALUE changes one."]
    for name, summary, entries in groups():
        parts += [f"{name}: {summary}", *map(_shown, entries)]
    return "\n\n".join(parts)


def _shown(entry: Entry) -> str:
    limits = f" [{entry.limits}]" if entry.limits else ""
    lines = textwrap.wrap(entry.text + limits, _COLUMNS - 6)
    return "\n".join([f"  --{entry.name}={entry.default!r}", *(f"      {one}" for one in lines)])


def _entries(prefix: str, section: Section) -> list[Entry]:
    fields = dataclasses.fields(section)
    return [
        _entry(f"{prefix}.{field.name}", getattr(section, field.name), field, type(section))
        for field in fields
    ]


def _entry(name: str, default: object, field: dataclasses.Field, section: type) -> Entry:
    rules = rules_of(field)
    return Entry(name, default, _limits(rules), _texts(section)[field.name], rules.resume)


def _limits(rules: Rules) -> str:
    if rules.choices is not None:
        return ", ".join(rules.choices)
    limits = []
    if rules.multiple_of != 1:
        limits.append(f"a multiple of {rules.multiple_of}")
    if rules.at_least is not None:
        limits.append(f"at least {rules.at_least:,}")
    if rules.above is not None:
        limits.append(f"above {rules.above}")
    if rules.at_most is not None:
        limits.append(f"at most {rules.at_most:,}")
    return ", ".join(limits)


def _texts(section: type) -> dict[str, str]:
    """What a section's docstring says of each attribute, by name."""
    _, _, attributes = inspect.getdoc(section).partition("Attributes:\n")
    entries = re.split(r"^  (?=\w+: )", attributes, flags=re.MULTILINE)
    pairs = (entry.partition(": ") for entry in entries if entry)
    return {name: " ".join(text.split()) for name, _, text in pairs}
