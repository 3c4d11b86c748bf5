"""What the documents say: their code, commands, links and anchors."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from testing.command_processes import ROOT

GENERATED = ("docs/commands.md", "docs/configuration.md", "docs/api.md")
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")


def documents() -> list[Path]:
    """Every document of the repository."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def fenced(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [block for _, found, block in _FENCE.findall(text) if found == language]


def code(text: str) -> Iterator[str]:
    """The lines of code blocks, indented or fenced with no language; `\\` joins them."""
    lines: list[str] = []
    for block in fenced(text, "") + fenced(text, "sh"):
        lines += ["", *block.splitlines()]
    rest = _FENCE.sub("\n", text)
    lines += [line if line.startswith("    ") else "" for line in rest.splitlines()]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return (line.strip() for line in joined.splitlines() if line.strip())


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Module and arguments of each petseg command in a document's code."""
    for line in code(text):
        if not re.search(r"(^|\s)(petseg-\w+|-m petseg\S*)(\s|$)", line):
            continue
        words = shlex.split(line, comments=True)
        starts = [n for n, word in enumerate(words) if re.fullmatch(r"petseg-\w+", word)]
        modules = [n for n, word in enumerate(words) if word == "-m"]
        if starts:
            first, module = starts[0], f"petseg.cli.{words[starts[0]].removeprefix('petseg-')}"
        elif modules:
            first, module = modules[0] + 1, words[modules[0] + 1]
        else:
            continue
        arguments = words[first + 1 :]
        ends = [n for n, word in enumerate(arguments) if word in ("|", ">", "2>&1", ";", "&&", "&")]
        yield module, arguments[: min(ends, default=len(arguments))]


def spans(text: str) -> list[str]:
    """Code within sentences and tables."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("\n", text))


def links(text: str) -> list[str]:
    """Targets of links and pictures that are no addresses of the web."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("\n", text))
    targets = [inline or html for inline, html in _LINK.findall(prose)]
    return [target for target in targets if not re.match(r"https?:|mailto:", target)]


def anchors(text: str) -> set[str]:
    """What links to headings may name, as GitHub and mkdocs make it."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("\n", text), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}
