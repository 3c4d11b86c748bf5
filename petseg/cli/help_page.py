"""The text of --help: how a command is used, its most important flags, and all others."""

import sys
import textwrap
from collections.abc import Mapping, Sequence

from absl import flags

from petseg.version import __version__

_COLUMNS = 88
_INDENT = " " * 22


def answer(
    argv: Sequence[str], text: str, first: Sequence[str], settings: Mapping[str, str]
) -> str | None:
    """What a command prints instead of doing its work; None if nobody asks.

    Args:
      argv: the command line.
      text: see `page`.
      first: see `page`.
      settings: see `page`.
    """
    asked = {argument.lstrip("-") for argument in argv if argument.startswith("-")}
    if asked & {"help", "h", "?"}:
        return page(text, first, settings)
    if "version" in asked:
        return f"petseg {__version__}"
    if "help_config" in asked:
        # Loads the config's modules.
        from petseg.cli import settings_page

        return settings_page.page()
    return None


def page(text: str, first: Sequence[str], settings: Mapping[str, str]) -> str:
    """The text that --help prints.

    Args:
      text: what the command does, examples and exit statuses: its module's docstring.
      first: names of flags, or keys of `settings`, that are listed first.
      settings: flags that absl does not know, such as config.data.dir: name -> help.
    """
    defined = {
        flag.name: _describe(flag)
        for module, module_flags in flags.FLAGS.flags_by_module_dict().items()
        if module == sys.argv[0] or module.startswith("petseg")
        for flag in module_flags
    }
    known = {**settings, **defined}
    others = [name for name in known if name not in first]
    parts = [text.strip(), "", "The flags that matter first:"]
    parts += [_entry(name, known[name]) for name in first]
    if others:
        parts += ["", "The others:"]
        parts += [_entry(name, known[name]) for name in others]
    return "\n".join(parts)


def _describe(flag: flags.Flag) -> str:
    """A flag's help, with its default if it has one."""
    text = flag.help.rstrip()
    if flag.default not in (None, [], ""):
        default = flag.default
        shown = ",".join(map(str, default)) if isinstance(default, list) else default
        text += f" (default: {shown})"
    return text


def _entry(name: str, text: str) -> str:
    lines = textwrap.wrap(text, _COLUMNS, initial_indent=_INDENT, subsequent_indent=_INDENT)
    label = f"  --{name}"
    if len(label) < len(_INDENT) and lines:
        lines[0] = label + lines[0][len(label) :]
        return "\n".join(lines)
    return "\n".join([label, *lines])
