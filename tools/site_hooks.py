"""What mkdocs does beside its own work: pages of the documents that lie outside of docs/."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[1]
_PAGES = {
    "README.md": "index.md",
    **{f"{name}.md": f"{name}.md" for name in ("BUILD", "CHANGELOG", "CONTRIBUTING", "SECURITY")},
}
# Links to what is no page of the site, such as a notebook, a licence or a folder.
_NO_PAGE = re.compile(r"\[([^]]+)\]\((?:\.\./)?(examples/[^)]*|docs/decisions/|LICENSE)\)")


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401  (mkdocs gives its own)
    """Adds the documents of the repository's root."""
    for source, page in _PAGES.items():
        files.append(File.generated(config, page, content=(_ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:  # noqa: ANN401
    """Links as they are from the page's place in the site."""
    markdown = _NO_PAGE.sub(r"\1", markdown)
    if page.file.src_uri in _PAGES.values():
        markdown = re.sub(r"(\]\(|src=\")docs/", r"\1", markdown).replace(
            "](README.md", "](index.md"
        )
    for source, target in _PAGES.items():
        markdown = markdown.replace(f"](../{source}", f"]({target}")
    return markdown
