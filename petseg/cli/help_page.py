"""What --help says: how a command is used, the flags that matter first, and all others."""

import sys
import textwrap
from collections.abc import Mapping, Sequence

from absl import flags

_COLUMNS = 88
_INDENT = " " * 22


def wants_help(argv: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    return any(argument in ("--help", "-h", "-help", "-?", "--?") for argument in argv)


def page(text: str, first: Sequence[str], settings: Mapping[str, str]) -> str:
    """The page.

    Args:
      text: what the command does, examples and exit statuses: its module's docstring.
      first: names of the flags, or of the keys of `settings`, that matter first.
      settings: what is given as a flag but is none of absl's: name -> help.
    """
    own = {
        flag.name: _describe(flag)
        for module, found in flags.FLAGS.flags_by_module_dict().items()
        if module == sys.argv[0] or module.startswith("petseg")
        for flag in found
    }
    known = {**settings, **own}
    others = [name for name in known if name not in first]
    parts = [text.strip(), "", "The flags that matter first:"]
    parts += [_line(name, known[name]) for name in first]
    if others:
        parts += ["", "The others:"]
        parts += [_line(name, known[name]) for name in others]
    return "\n".join(parts)


def _describe(flag: flags.Flag) -> str:
    told = flag.help.rstrip()
    if flag.default not in (None, [], ""):
        default = flag.default
        shown = ",".join(map(str, default)) if isinstance(default, list) else default
        told += f" (default: {shown})"
    return told


def _line(name: str, text: str) -> str:
    lines = textwrap.wrap(text, _COLUMNS, initial_indent=_INDENT, subsequent_indent=_INDENT)
    head = f"  --{name}"
    if len(head) < len(_INDENT) and lines:
        lines[0] = head + lines[0][len(head) :]
        return "\n".join(lines)
    return "\n".join([head, *lines])
