"""Patterns that would pair images with masks, for the errors that say that nothing pairs.

A hint is checked on the files themselves before it is given.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence

from petseg.conversion import pairing_wildcards

# Whether the patterns of images and of masks pair every image, with masks merged or not.
Check = Callable[[str, str, bool], bool]

_MASK_WORDS = re.compile(r"mask|label|seg|annot|truth|gt|trimap|matte", re.IGNORECASE)
_SEPARATOR = re.compile(r"[_\-. ]")
_LOSSY = ("jpg", "jpeg", "webp")
_ANY_NAME = re.compile(r"\*(\.\w+)?")  # the last part of a pattern that a hint may replace
_MOST_CANDIDATES = 3  # of a kind
_MOST_CHECKED = 12  # on the files


@dataclasses.dataclass(frozen=True)
class Side:
    """The images or the masks.

    Attributes:
      flag: What --images or --masks was.
      folder: The fixed part of it.
      paths: All its pictures.
    """

    flag: str
    folder: str
    paths: Sequence[str]


def renamed(images: Side, masks: Side, check: Check) -> str | None:
    """Proposes patterns for images and masks whose names differ by a part.

    Args:
      images: The images.
      masks: The masks.
      check: Whether two patterns pair every image.

    Returns:
      'try ...', or None if no such patterns pair every image.
    """
    image_stems, mask_stems = _stems(images.paths), _stems(masks.paths)
    candidates = [
        parts
        for parts in _candidates(image_stems, mask_stems)
        if all((mask := _swap(stem, *parts)) and mask in mask_stems for stem in image_stems)
    ]
    proposals = [
        *((f"{ib}*{ia}", f"{mb}*{ma}", False) for ib, ia, mb, ma in candidates[:_MOST_CANDIDATES]),
        *pairing_wildcards.propose(image_stems, mask_stems),
    ]
    checked: set[tuple[str, str, bool]] = set()
    for image_name, mask_name, is_merged in proposals:
        image_patterns = {_replaced(images, image_name): None}
        if image_name == "*":
            image_patterns = {images.flag: None, **image_patterns}
        mask_pattern = _replaced(masks, mask_name)
        for image_pattern in image_patterns:
            proposal = (image_pattern, mask_pattern, is_merged)
            if not (image_pattern and mask_pattern) or proposal in checked:
                continue
            checked.add(proposal)
            if len(checked) > _MOST_CHECKED:
                return None
            if check(*proposal):
                shown_images = (
                    f"--images='{image_pattern}' " if image_pattern != images.flag else ""
                )
                merging = " --several_masks" if is_merged else ""
                return f"try {shown_images}--masks='{mask_pattern}'{merging}"
    return None


def _replaced(side: Side, name: str) -> str | None:
    """Returns a side's flag with another pattern of names; None if that cannot be said."""
    if side.flag.rstrip("/") == side.folder.rstrip("/"):
        if pairing_wildcards.has_no_key(name):
            return None
        return _pattern(side.folder, side.paths, name)
    above, _, last = side.flag.rpartition("/")
    if match := _ANY_NAME.fullmatch(last):
        return f"{above}/{name}{match[1]}" if above else f"{name}{match[1]}"
    return None


def side_by_side(folder: str, paths: Sequence[str], check: Check) -> str | None:
    """Proposes patterns for images and masks that lie in one folder.

    Args:
      folder: The folder.
      paths: All its pictures.
      check: Whether two patterns pair every image.

    Returns:
      'try ...', or None if no such patterns pair every image.
    """
    for image_part, mask_part in _parts_side_by_side(paths):
        images = [path for path in paths if _is_like(path, image_part)]
        masks = [path for path in paths if _is_like(path, mask_part)]
        images = [path for path in images if path not in set(masks)] or images
        image_pattern = _pattern(folder, images, "*".join(image_part[:2]))
        mask_pattern = _pattern(folder, masks, "*".join(mask_part[:2]))
        if image_pattern and mask_pattern and check(image_pattern, mask_pattern, False):
            return f"try --images='{image_pattern}' --masks='{mask_pattern}'"
    return None


def _stems(paths: Sequence[str]) -> set[str]:
    """Returns the names without folders and suffixes."""
    return {path.rpartition("/")[2].rpartition(".")[0] for path in paths}


def _suffix(path: str) -> str:
    return path.rpartition(".")[2]


def _candidates(images: set[str], masks: set[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yields what stands before and after the common part, of images and of masks."""
    image = min(images, key=lambda name: (len(name), name))
    seen = set()
    for mask in sorted(masks, key=lambda name: (len(name), name)):
        for parts in (*_contained(image, mask), *_common(image, mask)):
            if parts not in seen and _is_sound(image, parts):
                seen.add(parts)
                yield parts


def _contained(image: str, mask: str) -> Iterator[tuple[str, str, str, str]]:
    for at in range(len(mask) - len(image) + 1):
        if mask.startswith(image, at):
            yield "", "", mask[:at], mask[at + len(image) :]
    for at in range(len(image) - len(mask) + 1):
        if image.startswith(mask, at):
            yield image[:at], image[at + len(mask) :], "", ""


def _common(image: str, mask: str) -> Iterator[tuple[str, str, str, str]]:
    """Yields the parts after the longest common beginning, and before the longest common end."""
    size = min(len(image), len(mask))
    start = next((i for i in range(size) if image[i] != mask[i]), size)
    end = next((i for i in range(1, size + 1) if image[-i] != mask[-i]), size + 1) - 1
    if start:
        yield "", image[start:], "", mask[start:]
    if end:
        yield image[:-end], "", mask[:-end], ""


def _is_sound(image: str, parts: tuple[str, str, str, str]) -> bool:
    """Whether no number is cut in two, as it would be between '1' and '10'."""
    core = image[len(parts[0]) : len(image) - len(parts[1])]
    before, after = (parts[0], parts[2]), (parts[1], parts[3])
    return bool(core) and not (
        (core[0].isdigit() and any(part[-1:].isdigit() for part in before))
        or (core[-1].isdigit() and any(part[:1].isdigit() for part in after))
    )


def _swap(
    image: str, image_before: str, image_after: str, mask_before: str, mask_after: str
) -> str | None:
    if not (image.startswith(image_before) and image.endswith(image_after)):
        return None
    core = image[len(image_before) : len(image) - len(image_after)]
    return f"{mask_before}{core}{mask_after}" if core else None


def _parts_side_by_side(paths: Sequence[str]) -> Iterator[tuple[tuple, tuple]]:
    """Yields (before, after, suffix) of images and of masks that may lie in one folder."""
    stems, suffixes = _stems(paths), sorted({_suffix(path) for path in paths})
    lossy = [suffix for suffix in suffixes if suffix.lower() in _LOSSY]
    if len(suffixes) == 2 and len(lossy) == 1:
        (mask_suffix,) = set(suffixes) - set(lossy)
        yield ("", "", lossy[0]), ("", "", mask_suffix)
    count: collections.Counter = collections.Counter()
    tails: collections.Counter = collections.Counter()
    for stem in sorted(stems):
        for match in _SEPARATOR.finditer(stem):
            if stem[: match.start()] in stems:
                count["", stem[match.start() :]] += 1
            if stem[match.end() :] in stems:
                count[stem[: match.end()], ""] += 1
            tails["", stem[match.start() :]] += 1
            tails[stem[: match.end()], ""] += 1
    for (before, after), _ in count.most_common(_MOST_CANDIDATES):
        yield ("", "", None), (before, after, None)
    halves = [part for part, number in tails.items() if 2 * number == len(stems)]
    mask_like = [part for part in halves if _MASK_WORDS.search("".join(part))]
    for mask in mask_like[:_MOST_CANDIDATES]:
        for image in halves:
            if image not in mask_like and bool(image[0]) == bool(mask[0]):
                yield (*image, None), (*mask, None)


def _is_like(path: str, part: tuple[str, str, str | None]) -> bool:
    before, after, suffix = part
    (stem,) = _stems([path])
    is_of_suffix = suffix is None or _suffix(path) == suffix
    return is_of_suffix and stem.startswith(before) and stem.endswith(after)


def _pattern(folder: str, paths: Sequence[str], name: str) -> str | None:
    """Returns the pattern of pictures below a folder; None if their suffixes differ."""
    suffixes = {_suffix(path) for path in paths}
    folder = folder.rstrip("/")
    if len(suffixes) != 1:
        return None
    is_flat = all(path.rpartition("/")[0] == folder for path in paths)
    return f"{folder}/{'' if is_flat else '**/'}{name}.{suffixes.pop()}"
