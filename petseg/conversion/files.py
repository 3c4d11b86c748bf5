"""Source files: in folders and archives, on local disks and in buckets."""

import collections
import dataclasses
import os
import re
from collections.abc import Callable, Collection, Iterator

from etils import epath

from petseg.data import regular_file
from petseg.errors import UserError, shown

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (*PICTURE_SUFFIXES, ".npy", ".mat")
# What file managers, notebooks and disk stations keep beside pictures, besides '.*' folders.
_HIDDEN_FOLDERS = ("@eaDir", "@Recycle", "#recycle", "#snapshot", "$RECYCLE.BIN", "__MACOSX")
ANY, CLASS = "{any}", "{class}"  # wildcards that are no part of a key
_WILDCARD = re.compile(r"[*?\[]|\{any\}|\{class\}")
_TOKEN = re.compile(r"\*\*/?|\*|\?|\{any\}|\{class\}|\[[^\]]*\]|[^*?\[{]+|[\[{]")


@dataclasses.dataclass(frozen=True, slots=True)
class StoredFile:
    """A file, or a file within an uncompressed file.

    Attributes:
      path: A local or remote path (gs:// and the like).
      bytes: The size of the file, in bytes.
      offset: The position in `path` where it begins; None if it is all of `path`.
    """

    path: str
    bytes: int
    offset: int | None = None

    def __reduce__(self) -> tuple:
        """Pickles in a third of the time; plans hold millions of these."""
        return StoredFile, (self.path, self.bytes, self.offset)

    @property
    def name(self) -> str:
        """The file's name, without its folders."""
        return self.path.rpartition("/")[2]

    def read(self) -> bytes:
        """Reads the content; raises OSError."""
        if "://" not in self.path:  # without epath, at half the cost
            size = None if self.offset is None else self.bytes
            return regular_file.read_regular(self.path, self.offset or 0, size)
        with epath.Path(self.path).open("rb") as file:
            if self.offset is None:
                return file.read()
            file.seek(self.offset)
            return file.read(self.bytes)


def stored_file(path: str) -> StoredFile:
    """Returns a whole file; its size is 0 if it is unknown (reading then says why)."""
    try:
        size = epath.Path(path).stat().length if "://" in path else os.stat(path).st_size
    except OSError:
        size = 0
    return StoredFile(path, size)


def names_in(folder: str) -> Iterator[str]:
    """Yields the names in a folder; no path object is made for local ones."""
    if "://" in folder:
        yield from (path.name for path in epath.Path(folder).iterdir())
        return
    with os.scandir(folder) as entries:  # not listdir: there may be millions
        yield from (entry.name for entry in entries)


def is_folder(path: str) -> bool:
    """Whether a path is a folder or a link to one."""
    return epath.Path(path).is_dir() if "://" in path else os.path.isdir(path)


def is_file(path: str) -> bool:
    """Whether a path is a file or a link to one."""
    return epath.Path(path).is_file() if "://" in path else os.path.isfile(path)


def is_twin(name: str) -> bool:
    """Whether a name is one of the '._*' files that macOS leaves beside others."""
    return name.startswith("._")


def is_hidden_folder(name: str) -> bool:
    """Whether a folder holds copies, thumbnails or rubbish, as '.ipynb_checkpoints' does."""
    return name.startswith(".") or name in _HIDDEN_FOLDERS


def is_picture_name(name: str) -> bool:
    """Whether a name has a picture's suffix, in lower or upper case."""
    return name.lower().endswith(PICTURE_SUFFIXES)


def fixed_part(pattern: str) -> str:
    """Returns the folders of a pattern before its first wildcard; all of it if it has none.

    A folder that exists is literal, whatever its name: 'pets [v2]' has no wildcard then.
    """
    parts = pattern.split("/")
    for index, part in enumerate(parts):
        if _WILDCARD.search(part) and not is_folder("/".join(parts[: index + 1])):
            return "/".join(parts[:index]) or ("/" if pattern.startswith("/") else ".")
    return pattern


def list_pictures(
    pattern: str, hidden: collections.Counter | None = None, *, by_folder: bool = False
) -> Iterator[tuple[str, str]]:
    """Yields the files of a folder and its sub-folders, or of a pattern, with their keys.

    A key is what the wildcards stand for, joined by '/': 'a/x' for a/images/x_rgb.jpg and
    the pattern '*/images/*_rgb.jpg'. In a folder it is the path within the folder without
    the suffix. Wildcards are *, ?, [...], and ** for any number of folders; {any} and {class}
    stand for text within one name that is no part of the key. Each wildcard takes as much as
    it can, those on the left first.

    Args:
      pattern: A folder, or a path with wildcards.
      hidden: Counts, by name, the hidden folders that are not read. A pattern reads those
        that it names itself, without a wildcard.
      by_folder: In a folder, the key of a file in a sub-folder is that sub-folder's path.

    Yields:
      (key, path) in any order; for a folder also files that are no pictures.
    """
    root, rest, matcher = _parsed(pattern)
    depth = None if matcher is None or "**" in rest else rest.count("/")
    named = frozenset(rest.split("/") if matcher else ())
    for relative in _walk(root, depth, named, hidden):
        path = f"{root.rstrip('/')}/{relative}"
        if matcher is None:
            folder = relative.rpartition("/")[0]
            yield folder if by_folder and folder else without_suffix(relative), path
        elif match := matcher.fullmatch(relative):
            yield key_of(match), path


def has_class(pattern: str) -> bool:
    """Whether {class} is a wildcard of a pattern, and no folder's own name."""
    return CLASS in pattern[len(fixed_part(pattern)) :]


def class_reader(pattern: str) -> Callable[[str], str]:
    """Returns a function that reads, in a path that matches, what {class} stands for."""
    root, _, matcher = _parsed(pattern)
    start = len(root.rstrip("/")) + 1
    return lambda path: matcher.fullmatch(path[start:])["class_"]


def key_of(match: re.Match) -> str:
    """Returns the key of a name that a pattern's regular expression (`to_regex`) matches."""
    texts = list(match.groups())
    if "class_" in match.re.groupindex:
        del texts[match.re.groupindex["class_"] - 1]
    return "/".join(text.strip("/") for text in texts if text)


def without_suffix(path: str) -> str:
    """Returns a path without what follows its name's last dot."""
    stem, dot, suffix = path.rpartition(".")
    return stem if dot and "/" not in suffix else path


def _parsed(pattern: str) -> tuple[str, str, re.Pattern | None]:
    """Returns a pattern's fixed folder, the rest, and its expression; None without wildcards."""
    root = fixed_part(pattern)
    rest = pattern[len(root) :].lstrip("/") if root not in (pattern, ".") else pattern
    try:
        return root, rest, None if pattern == root else re.compile(to_regex(rest))
    except re.error as error:
        raise UserError(
            f"{shown(pattern)} is no pattern: {error}; see 'Pairs' in docs/your_data.md"
        ) from error


def _walk(
    root: str, depth: int | None, named: Collection[str], hidden: collections.Counter | None
) -> Iterator[str]:
    """Yields relative paths of the files below a folder; follows no link in circles."""
    pending: list[tuple[str, tuple[str, ...]]] = [("", ())]
    while pending:
        folder, above = pending.pop()
        here = f"{root}/{folder}" if folder else root
        real = here if "://" in root else os.path.realpath(here)
        if real in above:  # a symbolic link to a folder that contains it
            continue
        for name in names_in(here):
            relative = f"{folder}/{name}" if folder else name
            # Asking whether each picture is a folder would double the time.
            if is_picture_name(name) or not is_folder(f"{here}/{name}"):
                yield relative
            elif is_hidden_folder(name) and name not in named:
                if hidden is not None:
                    hidden[name] += 1
            elif depth is None or len(above) < depth:
                pending.append((relative, (*above, real)))


def to_regex(pattern: str) -> str:
    """Returns a pattern's regular expression, with a group for each wildcard but {any}."""
    out, has_class = [], False
    for part in _TOKEN.findall(pattern):
        if part.startswith("**"):
            out.append("((?:[^/]+/)*)" if part.endswith("/") else "(.*)")
        elif part == "*":
            out.append("([^/]*)")
        elif part == "?":
            out.append("([^/])")
        elif part == ANY:
            out.append("[^/]*")
        elif part == CLASS:
            out.append("(?P=class_)" if has_class else "(?P<class_>[^/]+)")
            has_class = True
        elif part.startswith("[") and part.endswith("]"):
            out.append(f"({part.replace('[!', '[^')})")
        else:
            out.append(re.escape(part))
    return "".join(out)
