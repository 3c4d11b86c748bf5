"""Lists that alone name all pairs: an image and its mask in each line, and no folders."""

import collections
import os
from collections.abc import Iterable

from petseg.conversion import files
from petseg.conversion.pairing import ITSELF, MaskedFile, is_same_file, most_common_reason
from petseg.conversion.sources.base import FilePair
from petseg.conversion.split_lists import Line
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

_AGAIN = "listed more than once; the first listing counts"  # a reason
Listed = tuple[dict[str, MaskedFile], dict[str, str]]


def pair_by_lists(lines: Iterable[Line], raw_dir: str, rejected: list[Finding]) -> Listed:
    """Pairs the images and masks that the lines of lists name.

    A path is that of a file if it is absolute and there is one. Otherwise, since the paths may
    be those of another machine, it is the longest end of the path that is a file below
    `raw_dir`: /SegNet/CamVid/train/x.png is RAW_DIR/train/x.png where RAW_DIR has no CamVid/.

    Args:
      lines: From split_lists.read_lists.
      raw_dir: Where relative paths begin; empty for the folder of the line's list.
      rejected: Gets a finding for each line without a pair.

    Returns:
      Key -> pair, key -> split. A key is the image's path from that folder on, without suffix
      unless images differ in it alone.

    Raises:
      UserError: No line names a pair.
    """
    pairs: dict[str, MaskedFile] = {}
    splits: dict[str, str] = {}
    lost: list[Finding] = []
    resolved = []
    images: dict[str, set[str]] = collections.defaultdict(set)
    for line in lines:
        base = raw_dir or os.path.dirname(line.where.rpartition(", line ")[0]) or "."
        path, pair, reason = _resolve(line, base)
        resolved.append((line, path, pair, reason))
        if pair:
            images[files.without_suffix(path)].add(path)
    for line, path, pair, reason in resolved:
        stem = files.without_suffix(path)
        key = path if len(images[stem]) > 1 else stem
        if pair is None:
            lost.append(Finding(shown(line.text), line.split, reason))
        elif key in pairs:
            lost.append(Finding(shown(line.text), line.split, _AGAIN))
        else:
            pairs[key], splits[key] = pair, line.split
    if not pairs:
        reason, count, example = most_common_reason(lost)
        raise UserError(
            f"no line of the lists names a pair: {count:,} of {len(lost):,} are {reason}, such as "
            f"{example}; paths begin at {raw_dir or 'the list itself'}: see --raw_dir, or name the "
            "folders with --images and --masks"
        )
    rejected.extend(lost)
    return pairs, splits


def _resolve(line: Line, base: str) -> tuple[str, FilePair | None, str]:
    """Returns the image's path below `base`, and the pair or the reason why there is none."""
    columns = line.columns
    if columns is None:
        return "", None, "listed, but without a mask in its line"
    image, mask = (_longest_end(path, base) for path in columns)
    if image is None or mask is None:
        lacking = [what for what, path in (("image", image), ("mask", mask)) if path is None]
        return "", None, f"listed, but {' and '.join(lacking)} missing"
    if is_same_file(image, mask):
        return "", None, f"listed, but {ITSELF}"
    relative = image.removeprefix(f"{base.rstrip('/')}/").lstrip("/")
    return relative, FilePair(files.stored_file(image), files.stored_file(mask)), ""


def _longest_end(path: str, base: str) -> str | None:
    """Returns the file that a path of perhaps another machine means."""
    path = path.replace("\\", "/") if "\\" in path and "/" not in path else path
    if path.startswith("/") and files.is_file(path):
        return path
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for start in range(len(parts)):
        candidate = "/".join([base.rstrip("/"), *parts[start:]])
        if files.is_file(candidate):
            return candidate
    return None
