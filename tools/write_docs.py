"""Writes the generated pages of docs/: api.md, commands.md and configuration.md (make docs).

python tools/write_docs.py [FOLDER]
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from absl import flags

import petseg
from petseg import recipes
from petseg.cli import flag_parsing, settings_page
from petseg.cli.settings_page import Entry
from petseg.setting import Resume

_ROOT = Path(__file__).parents[1]
# In the order in which a user meets them; all others follow.
_FIRST = (
    *("quickstart", "convert", "verify", "train", "evaluate", "predict", "export"),
    *("sweep", "results", "benchmark"),
)
# In the order in which a program uses them.
_API = (
    *("convert", "load_recipe", "train", "load_run", "Run", "load_dataset", "build_model"),
    *("Config", "Stage", "UserError", "FaultFound", "StoppedBySignal"),
)
_NOTE = "<!-- Written by tools/write_docs.py (make docs): change the source, not this page. -->"
_RESUME = {
    Resume.FIXED: "",
    Resume.FREE: "yes",
    Resume.SAME_PRESENCE: "its value, but not whether it is empty",
}


def main() -> None:
    """Writes the pages into a folder, by default docs/."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _ROOT / "docs"
    pages = {
        "api": api_page(),
        "commands": commands_page(),
        "configuration": configuration_page(),
    }
    for name, page in pages.items():
        (folder / f"{name}.md").write_text(page)


def api_page() -> str:
    """What petseg has for Python: a table, and behind it what the site makes its docstrings of."""
    named = [getattr(petseg, name) for name in _API]
    rows = [f"| `{one.__name__}` | {_text(one.__doc__.splitlines()[0])} |" for one in named]
    parts = [
        _NOTE,
        "# API",
        "All names are those of `petseg`, as in `petseg.convert`; `help(petseg.convert)` shows its "
        "arguments, results and errors, and so does the site of these pages (`make site`). `import "
        "petseg` loads no TensorFlow; a function does when it first needs it. Every function may "
        "be called off the main thread, several times in one process, and in a notebook. Mistakes "
        "are exceptions of one line.",
        "\n".join(["| name | |", "| --- | --- |", *rows]),
        *(f"::: {one.__module__}.{one.__name__}" for one in named),
    ]
    return "\n\n".join(parts) + "\n"


def _recipe_row(name: str) -> str:
    """Name, first line of its text, and the weights that it needs."""
    text = ast.get_docstring(ast.parse(Path(recipes.find(name)).read_text()))
    weights = recipes.load(name).model.encoder_weights
    return f"| `{name}` | {text.splitlines()[0]} | {'none' if weights == 'none' else 'ImageNet'} |"


def commands_page() -> str:
    """Every command with its text of --help, and its flags as a table."""
    shared = _table(flags.FLAGS.flags_by_module_dict()[flag_parsing.__name__])
    parts = [
        _NOTE,
        "# Commands",
        "Every command is `--flag=value`, prints its results on standard output and all else on "
        "standard error. `petseg-NAME` is also `python -m petseg.cli.NAME`.",
        "| status | when |\n| --- | --- |\n"
        "| 0 | done |\n"
        "| 1 | the work found a fault: a bad record, an unreadable image, a loss that is not "
        "finite, a full disk, a host that has gone |\n"
        "| 2 | a wrong command, config, data set or run folder; nothing was begun |\n"
        "| 129, 130, 143 | stopped by SIGHUP, SIGINT or SIGTERM; training has saved its step |\n"
        "| 141 | nobody reads the output any more, as with `head -1` |",
        "A mistake is one line that begins with `error:`. Progress is a bar on a terminal and a "
        "line every half minute in a log. What `keras.json`, `KERAS_BACKEND` or `MPLBACKEND` set "
        "for other programs changes nothing. `TF_CPP_MIN_LOG_LEVEL=0` shows what TensorFlow's "
        "libraries print while they load.",
        "Flags of every command:",
        shared,
        *(part for name in _commands() for part in _command(name)),
    ]
    return "\n\n".join(parts) + "\n"


def configuration_page() -> str:
    """Every setting, section by section."""
    parts = [
        _NOTE,
        "# Configuration",
        "A recipe sets these, and `--config.SECTION.FIELD=VALUE` changes one, as in "
        "`--config.data.batch_size=32`. In Python a recipe is a `petseg.Config`, whose fields "
        "have the same names. What a resumed run may change says the third column; all else "
        "must be as it was.",
    ]
    for name, summary, entries in settings_page.groups():
        rows = "\n".join(map(_setting_row, entries))
        head = "| setting | default | may change on resume | |\n| --- | --- | --- | --- |"
        parts += [f"## {name}", summary, f"{head}\n{rows}"]
    rows = "\n".join(map(_recipe_row, recipes.names()))
    head = "| recipe | | weights from elsewhere |\n| --- | --- | --- |"
    parts += ["## Recipes", "For `--config` and `petseg.load_recipe`.", f"{head}\n{rows}"]
    return "\n\n".join(parts) + "\n"


def _commands() -> list[str]:
    """Modules of petseg.cli that can be run."""
    paths = (_ROOT / "petseg" / "cli").glob("*.py")
    found = {path.stem for path in paths if '__name__ == "__main__"' in path.read_text()}
    return [*_FIRST, *sorted(found - set(_FIRST))]


def _title(name: str) -> str:
    is_installed = f"petseg-{name} = " in (_ROOT / "setup.cfg").read_text()
    return f"petseg-{name}" if is_installed else f"python -m petseg.cli.{name}"


def _command(name: str) -> Iterator[str]:
    """Heading, text and flags of a command; its flags are then forgotten again."""
    module = importlib.import_module(f"petseg.cli.{name}")
    yield f"## {_title(name)}"
    yield _markdown(inspect.getdoc(module))
    defined = [
        flag
        for defining, of_module in flags.FLAGS.flags_by_module_dict().items()
        if defining.startswith("petseg") and defining != flag_parsing.__name__
        for flag in of_module
    ]
    yield _table(defined)
    for flag in defined:
        delattr(flags.FLAGS, flag.name)


def _markdown(docstring: str) -> str:
    """Indented examples as code; everything else as it is."""
    paragraphs = []
    for paragraph in docstring.split("\n\n"):
        is_code = paragraph.startswith("  ")
        text = "\n".join(f"  {line}" for line in paragraph.splitlines())
        paragraphs.append(text if is_code else _text(" ".join(paragraph.split())))
    return "\n\n".join(paragraphs)


def _table(defined: list[flags.Flag]) -> str:
    rows = []
    for flag in defined:
        is_required = any("other than None" in str(one.message) for one in flag.validators)
        text = _text(_help(flag))
        if flag.name == "config":
            text += " All of them: [configuration.md](configuration.md)."
        default = "required" if is_required else _default(flag.default)
        rows.append(f"| `--{flag.name}` | {default} | {text} |")
    return "\n".join(["| flag | default | |", "| --- | --- | --- |", *rows])


def _help(flag: flags.Flag) -> str:
    """A flag's help, without what absl adds, and its choices."""
    text = re.sub(r"^<[^>]*>: ", "", flag.help)
    text = text.replace("; repeat this option to specify a list of values", "")
    choices = [choice for choice in getattr(flag.parser, "enum_values", []) if choice]
    return f"{text} One of {', '.join(choices)}." if choices else text


def _default(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value in ("", []):
        return ""
    shown = ",".join(map(str, value)) if isinstance(value, list) else value
    return f"`{shown}`"


def _setting_row(entry: Entry) -> str:
    limits = f" ({entry.limits})" if entry.limits else ""
    default = _default(entry.default) if isinstance(entry.default, bool) else f"`{entry.default!r}`"
    name = entry.name.rpartition(".")[2]
    return f"| `{name}` | {default} | {_RESUME[entry.resume]} | {_text(entry.text + limits)} |"


def _text(text: str) -> str:
    """Words as Markdown shows them in a table."""
    for mark in "|*<>[]":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


if __name__ == "__main__":
    main()
