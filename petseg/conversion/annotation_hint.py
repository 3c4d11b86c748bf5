"""Tells by their content which source reads files of annotations."""

import itertools
import re
from collections.abc import Sequence

from petseg.conversion import files
from petseg.conversion.files import StoredFile
from petseg.errors import UserError

_SUFFIXES = (".json", ".txt", ".xml", ".csv", ".tfrecord")
_LOOK_BYTES = 64 << 10  # 64 KiB at each end of a file
_MOST_NAMES, _MOST_FILES = 20_000, 5  # of a folder and its sub-folders
_LABELME = "LabelMe's annotations"
_LAYOUTS = {
    "voc": ({"JPEGImages", "SegmentationClass"}, "PASCAL VOC"),
    "cityscapes": ({"leftImg8bit", "gtFine"}, "Cityscapes"),
}
_UNKNOWN = ("", "")
_YOLO_LINE = re.compile(r"\d+(?:\s+\d*\.?\d+(?:e-?\d+)?){6,}\s*")
_BOX_LINE = re.compile(r"\d+(?:\s+\d*\.?\d+(?:e-?\d+)?){4,5}\s*")


def explained(error: UserError, *folders: str) -> UserError:
    """Adds to an error which source reads the annotations in the first folder that has some."""
    found = next((text for folder in folders if folder and (text := hint(folder))), None)
    return UserError(f"{error}; {found}") if found else error


def hint(folder: str) -> str | None:
    """Returns which source reads the annotations in a folder, or None if there are none.

    Args:
      folder: A folder, or a pattern. A few files are read, in the order of their names.
    """
    root = files.fixed_part(folder)
    if not files.is_folder(root):
        return None
    if found := _layout(root):
        return found
    seen: dict[str, list[str]] = {}
    for number, (_, path) in enumerate(files.list_pictures(root)):
        if number >= _MOST_NAMES:
            break
        suffix = f".{path.rpartition('.')[2].lower()}"
        name = path.rpartition("/")[2]
        if (suffix in _SUFFIXES or ".tfrecord" in name) and not files.is_twin(name):
            seen.setdefault(suffix, []).append(path)
    for paths in seen.values():
        for path in sorted(paths)[:_MOST_FILES]:
            if found := of_file(path):
                return found
    return None


def _layout(folder: str) -> str | None:
    """Returns which source reads a public data set that a folder, or the one above, holds."""
    for there in (folder, folder.rpartition("/")[0]):
        if not there or not files.is_folder(there):
            continue
        names = set(itertools.islice(files.names_in(there), _MOST_NAMES))
        for source, (needed, what) in _LAYOUTS.items():
            if needed <= names:
                return f"{there} has {what}'s layout, which --source={source} reads"
    return None


def of_file(path: str, source: str = "") -> str | None:
    """Returns what a file of annotations is and which source reads it.

    Args:
      path: The file.
      source: A source that need not be named, because it is the one that was asked for.

    Returns:
      'x.json holds ..., which --source=... reads', or None.
    """
    try:
        stored = files.stored_file(path)
        head = StoredFile(path, min(stored.bytes, _LOOK_BYTES), 0).read()
        tail = StoredFile(path, len(head), max(stored.bytes - _LOOK_BYTES, 0)).read()
    except OSError:
        return None
    name = path.rpartition("/")[2]
    text, lines = (head + tail).decode("latin-1"), head.decode("latin-1").splitlines()[:20]
    what, by = _kind_of(name, text, lines)
    if not what or (by and by == source):
        return None
    return f"{name} holds {what}" + (f", which --source={by} reads" if by else "")


def _kind_of(name: str, text: str, lines: Sequence[str]) -> tuple[str, str]:
    """Returns what a file holds, and the source that reads it; empty where there is none."""
    suffix = name.lower().rpartition(".")[2]
    if suffix == "json":
        return next((kind for keys, kind in _JSON if all(f'"{k}"' in text for k in keys)), _UNKNOWN)
    if suffix == "xml":
        return next((kind for marks, kind in _XML if all(m in text for m in marks)), _UNKNOWN)
    if suffix == "txt":
        return _kind_of_lines([line for line in lines if line.strip()])
    if suffix == "csv" and "region_shape_attributes" in text:
        return "VIA's regions", "via"
    is_record = suffix == "tfrecord" or ".tfrecord-" in name
    return ("records", "tfrecord") if is_record else _UNKNOWN


def _kind_of_lines(lines: list[str]) -> tuple[str, str]:
    whole = lines[:-1] or lines  # the last one may be cut
    if whole and all(_YOLO_LINE.fullmatch(line) for line in whole):
        return "YOLO's polygons", "yolo"
    if whole and all(_BOX_LINE.fullmatch(line) for line in whole):
        return "YOLO's boxes, no outlines, which no source reads", ""
    return _UNKNOWN


# Keys that are in a file -> what it is, and the source that reads it; the surest first.
_JSON = (
    (("_via_img_metadata",), ("a project of VIA", "via")),
    (("shape_attributes", "region_attributes"), ("VIA's regions", "via")),
    (("shapes", "imagePath"), (_LABELME, "labelme")),
    (("shapes", "shape_type"), (_LABELME, "labelme")),
    (("images", "annotations"), ("COCO's annotations", "coco")),
    (("annotations", "category_id", "image_id"), ("COCO's annotations", "coco")),
    (("imgHeight", "objects"), ("Cityscapes' polygons", "cityscapes")),
)
_CVAT = (
    "CVAT's own annotations (export them as COCO, for --source=coco, or as masks, for --source=voc)"
)
_OLD_LABELME = "the first LabelMe's XML (export it as JSON of the newer one)"
_XML = (
    (("<annotations>", "<image "), (_CVAT, "")),
    (("<bndbox>",), ("Pascal VOC's boxes, no outlines, which no source reads", "")),
    (("<polygon>", "<pt>"), (_OLD_LABELME, "")),
)
