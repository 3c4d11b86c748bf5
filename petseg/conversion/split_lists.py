"""Lists that name the images of a split, one per line, alone or each with its mask."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping

from petseg.conversion import files, text_files
from petseg.conversion.choices import SPLITS
from petseg.conversion.pairing import (
    ITSELF,
    ByKey,
    MaskedFile,
    composed,
    is_same_file,
    most_common_reason,
)
from petseg.conversion.sources.base import FilePair
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

_PICTURE = rf".+?(?:{'|'.join(map(re.escape, files.MASK_SUFFIXES))})"
_BETWEEN = r"\s*[,;\t]\s*|\s+"
_TWO_PICTURES = re.compile(rf"({_PICTURE})(?:{_BETWEEN})({_PICTURE})", re.IGNORECASE)
_TWO_WORDS = re.compile(r"([^\s,;]+)(?:\s*[,;]\s*|\s+)([^\s,;]+)")


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a list.

    Attributes:
      split: The split that the list is of.
      text: The line.
      where: The file and the line's number.
    """

    split: str
    text: str
    where: str

    @property
    def has_mask(self) -> bool:
        """Whether it surely names an image and a mask, by their suffixes."""
        return bool(_TWO_PICTURES.fullmatch(self.text))

    @property
    def columns(self) -> tuple[str, str] | None:
        """The image and the mask that it surely names; None without them."""
        match = _TWO_PICTURES.fullmatch(self.text)
        return (match[1], match[2]) if match else None


def read_lists(lists: Mapping[str, str]) -> list[Line]:
    """Reads the lists of all splits; empty lines and those that begin with # are skipped.

    Args:
      lists: Split -> path of its list.

    Raises:
      UserError: A list cannot be read, or a line names more than two pictures.
    """
    lines = []
    for split in SPLITS:
        if split not in lists:
            continue
        try:
            texts = text_files.read_lines(lists[split])
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--{split}_list: cannot read {lists[split]}: {error}") from error
        for number, text in enumerate(texts, 1):
            line = Line(split, text.strip(), f"{lists[split]}, line {number}")
            if line.text and not line.text.startswith("#"):
                match = _TWO_PICTURES.fullmatch(line.text)
                if match and _TWO_PICTURES.fullmatch(match[2]):
                    raise UserError(
                        f"--{split}_list: {line.where}: {shown(line.text)} names more than two "
                        "pictures; a line is an image, or an image and its mask"
                    )
                lines.append(line)
    return lines


def split_by_lists(
    lines: Iterable[Line],
    lists: Mapping[str, str],
    pairs: dict[str, MaskedFile],
    images: ByKey,
    masks: ByKey,
    rejected: list[Finding],
) -> dict[str, str]:
    """Chooses the split of each pair that is listed.

    A line names an image, by its key, by the end of its path, or by its file's name if that
    is the only one; or an image and, after white space or a comma, its mask.

    Args:
      lines: From `read_lists`.
      lists: Split -> path of its list.
      pairs: Key -> pair; a pair that a line makes is added, or replaces the one by name.
      images: Key -> paths of the images.
      masks: Key -> paths of the masks.
      rejected: Gets a finding for each line without a pair, and each pair without a line.

    Raises:
      UserError: No line names a pair.
    """
    known = _Known(
        pairs,
        _index(pairs),
        _paths_by_stem(images),
        _paths_by_stem(masks),
        {path: key for key, paths in images.items() for path in paths},
    )
    splits: dict[str, str] = {}
    first = ""
    for line in lines:
        first = first or line.text
        key, made, reason = _resolve(line, known)
        if key is None:
            rejected.append(Finding(shown(_bare(line.text)), line.split, f"listed, but {reason}"))
        elif key in splits:
            reason = "listed more than once; the first listing counts"
            rejected.append(Finding(shown(_bare(line.text)), line.split, reason))
        else:
            splits[key] = line.split
            if made:
                pairs[key] = made
    if not splits:
        like = f", the first listed {shown(first)!r}" if first else ""
        reason, count, _ = most_common_reason(rejected)
        like += f"; {count:,} of {len(rejected):,} lines are {reason}" if count else ""
        raise UserError(
            f"--{next(iter(lists))}_list: none of the names in {', '.join(lists.values())} is a "
            f"pair's; the first pair is called {shown(next(iter(pairs or images)))!r}{like}"
        )
    rejected += [Finding(shown(key), "", "in no list") for key in pairs if key not in splits]
    return splits


@dataclasses.dataclass(frozen=True)
class _Known:
    """What a line can name: pairs by key and by name, and files by stem, as (key, path)."""

    pairs: Mapping[str, MaskedFile]
    keys_by_name: Mapping[str, list[str]]
    images: Mapping[str, list[tuple[str, str]]]
    masks: Mapping[str, list[tuple[str, str]]]
    key_of_image: Mapping[str, str]


def _resolve(line: Line, known: _Known) -> tuple[str | None, FilePair | None, str]:
    """Returns the key that a line names, the pair if the line makes one, or why there is none."""
    name = _bare(line.text)
    if name in known.pairs:
        return name, None, ""
    if columns := _columns(line.text):
        found = [_find(columns[0], known.images), _find(columns[1], known.masks)]
        # A number after a name is a class in the lists of several data sets.
        if line.has_mask or (all(found) and not columns[1].isdecimal()):
            if reason := _why_not_two(found):
                return None, None, reason
            ((image,), (mask,)) = found
            pair = FilePair(files.stored_file(image), files.stored_file(mask))
            return known.key_of_image[image], pair, ""
    keys = _keys(name, known.keys_by_name)
    if columns and all("/" in column for column in columns):
        # Two paths, or one with a space in a folder's name: then it must be there as it stands.
        keys = [key for key in keys if _ends_with(known.pairs[key].image.path, name)]
    if len(keys) == 1:
        return keys[0], None, ""
    return None, None, f"fits {len(keys)} images" if keys else "image and mask missing"


def _ends_with(path: str, name: str) -> bool:
    return composed(_bare(path)).endswith(f"/{composed(name)}")


def _bare(name: str) -> str:
    """Returns a name without its picture's suffix."""
    suffix = next((s for s in files.MASK_SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _index(pairs: Mapping[str, MaskedFile]) -> dict[str, list[str]]:
    """Returns the last part of a key, and all of it, in composed form -> keys."""
    index: dict[str, list[str]] = collections.defaultdict(list)
    for key in pairs:
        for name in {composed(key), composed(_last(key))}:
            index[name].append(key)
    return index


def _keys(name: str, index: Mapping[str, list[str]]) -> list[str]:
    """Returns the keys that a name without suffix fits."""
    whole = [key for key in index.get(composed(name), []) if composed(key) == composed(name)]
    return whole if len(whole) == 1 else index.get(composed(_last(name)), [])


def _columns(text: str) -> tuple[str, str] | None:
    match = _TWO_PICTURES.fullmatch(text) or _TWO_WORDS.fullmatch(text)
    return (match[1], match[2]) if match else None


def _paths_by_stem(by_key: ByKey) -> dict[str, list[tuple[str, str]]]:
    """Returns the file's name, or its key's last part, without suffix -> (key, path)."""
    stems: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    for key, paths in by_key.items():
        for path in paths:
            for stem in {composed(_last(_bare(path))), composed(_last(key))}:
                stems[stem].append((key, path))
    return stems


def _find(column: str, stems: Mapping[str, list[tuple[str, str]]]) -> list[str]:
    """Returns the paths that a column can mean, those that fit more of it first of all."""
    name = composed(column)
    candidates = stems.get(composed(_last(_bare(column))), [])
    for fits in (
        lambda _, path: composed(path).endswith(f"/{name}"),
        lambda _, path: _bare(composed(path)).endswith(f"/{_bare(name)}"),
        lambda key, _: composed(key) == _bare(name),
        lambda *_: True,
    ):
        if found := [path for key, path in candidates if fits(key, path)]:
            return found
    return []


def _why_not_two(found: list[list[str]]) -> str | None:
    lacking = [what for what, of in zip(("image", "mask"), found, strict=True) if not of]
    if lacking:
        return f"{' and '.join(lacking)} missing"
    for what, of in zip(("images", "masks"), found, strict=True):
        if len(of) > 1:
            return f"fits {len(of)} {what}"
    return ITSELF if is_same_file(found[0][0], found[1][0]) else None
