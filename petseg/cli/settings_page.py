"""The text of --help_config: every setting, its default, what it may be and what it does."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator

from petseg.config import Config, Stage
from petseg.setting import Rules, Section, rules_of

_COLUMNS = 88


def page() -> str:
    """Every setting, in the order of petseg/config.py."""
    parts = ["A recipe sets these; --config.SECTION.FIELD=VALUE changes one."]
    for field in dataclasses.fields(Config()):
        value, name = getattr(Config(), field.name), f"config.{field.name}"
        if not isinstance(value, Section):
            parts.append(_entry(name, value, rules_of(field), _texts(Config)[field.name]))
            continue
        parts += [f"{name}: {inspect.getdoc(value).splitlines()[0]}", *_entries(name, value)]
    parts += ["A stage of config.train.stages:", *_entries("config.train.stages[0]", Stage())]
    return "\n\n".join(parts)


def _entries(prefix: str, section: Section) -> Iterator[str]:
    texts = _texts(type(section))
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        yield _entry(f"{prefix}.{field.name}", value, rules_of(field), texts[field.name])


def _entry(name: str, default: object, rules: Rules, text: str) -> str:
    shown = f"  --{name}={default!r}"
    limits = _limits(rules)
    lines = textwrap.wrap(f"{text} {limits}".strip(), _COLUMNS - 6)
    return "\n".join([shown, *(f"      {line}" for line in lines)])


def _limits(rules: Rules) -> str:
    if rules.choices is not None:
        return f"[{', '.join(rules.choices)}]"
    limits = []
    if rules.multiple_of != 1:
        limits.append(f"a multiple of {rules.multiple_of}")
    if rules.at_least is not None:
        limits.append(f"at least {rules.at_least:,}")
    if rules.above is not None:
        limits.append(f"above {rules.above}")
    if rules.at_most is not None:
        limits.append(f"at most {rules.at_most:,}")
    return f"[{', '.join(limits)}]" if limits else ""


def _texts(section: type) -> dict[str, str]:
    """What a section's docstring says of each attribute, by name."""
    _, _, attributes = inspect.getdoc(section).partition("Attributes:\n")
    entries = re.split(r"^  (?=\w+: )", attributes, flags=re.MULTILINE)
    pairs = (entry.partition(": ") for entry in entries if entry)
    return {name: " ".join(text.split()) for name, _, text in pairs}
