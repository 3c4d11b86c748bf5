"""The source `via`: regions drawn with the VGG Image Annotator, version 2 or 1.

A project, or its annotations exported as JSON or CSV. An attribute of the regions is their
class. Where regions overlap, the later one lies on top.
"""

import collections
import csv
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pydantic

from petseg.conversion import annotated_listing, annotation_files, shapes, text_files
from petseg.conversion.annotation_files import TOLERANT
from petseg.conversion.annotation_labels import choose_labels
from petseg.conversion.drawn_pair import DrawnPair, Size, StoredShapes, findings_of, upright_size
from petseg.conversion.files import stored_file
from petseg.conversion.image_index import SECOND_ANNOTATION, ImageIndex
from petseg.conversion.shapes import BadShape, Shape
from petseg.conversion.sources.base import Source, SourceListing, SourceOptions
from petseg.data import json_file
from petseg.data.manifest import Finding
from petseg.data.picture_file import BadFile
from petseg.errors import UserError, shown

NO_ATTRIBUTE = "object"  # the class of all regions, if none has an attribute
_PROJECT = "_via_img_metadata"
_COLUMNS = ("filename", "region_count", "region_shape_attributes", "region_attributes")
_UNDRAWN = "no region is drawn on it, so that nobody knows whether it was looked at"
_MAX_FIELD = 1 << 27  # characters of a CSV field
_NAMED = 8


@pydantic.with_config(TOLERANT)
@dataclasses.dataclass(frozen=True, slots=True)
class _Region:
    shape_attributes: dict[str, Any]
    region_attributes: dict[str, Any] = dataclasses.field(default_factory=dict)


@pydantic.with_config(TOLERANT)
@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """An image; VIA 1 numbers its regions."""

    filename: str
    regions: list[_Region] | dict[str, _Region]


@dataclasses.dataclass(frozen=True, slots=True)
class BadRegions:
    """Stands for regions that cannot be drawn, so that their image is rejected.

    Attributes:
      path: The file that says them.
      reason: Why.
    """

    path: str
    reason: str

    @property
    def bytes(self) -> int:
        """Nothing is read."""
        return 0

    def read(self, image: bytes) -> tuple[Size, list[Shape]]:
        """Raises BadShape."""
        raise BadShape(self.reason)


def list_via(options: SourceOptions) -> SourceListing:
    """Lists the images of VIA's files.

    An image without regions is left out, because VIA lists images that nobody has looked at.

    Args:
      options: `annotations` is a JSON or CSV file, a folder or pattern of them; by default all
        in raw_dir. `images` is where their images are; by default below raw_dir or beside the
        annotations. `attribute` is the attribute that is the class. Splits: see
        annotated_listing.choose; a file named after a split, or in a folder that is, says it.

    Raises:
      UserError: A file cannot be read, or there are several attributes to choose from.
    """
    annotation_files.require_some(options, "via")
    flag = "annotations" if options.annotations else "raw_dir"
    place = options.annotations or options.raw_dir
    paths = annotation_files.list_files(place, flag, (".json", ".csv"))
    index = ImageIndex(*annotation_files.folder_of_images(options, paths))
    rejected = list(index.findings)
    entries = [(path, entry) for path in paths for entry in _read(path)]
    attribute = _attribute(entries, options.attribute)
    drawn: dict[str, tuple[str, StoredShapes | BadRegions]] = {}
    known: dict[str, str] = {}
    used: set[str | None] = set()
    for path, entry in entries:
        split = annotated_listing.split_of_file(path, place)
        image, reason = index.find(entry.filename, path.rpartition("/")[0], split)
        key = index.key_of(image) if image else entry.filename
        used.add(image)
        if not image or key in drawn:
            rejected.append(Finding(shown(key), split, reason or SECOND_ANNOTATION))
        elif not entry.regions:
            rejected.append(Finding(shown(key), "", _UNDRAWN))
        else:
            drawn[key] = image, _shapes(path, entry, attribute)
            known[key] = split
            rejected += _without_pixels(key, *drawn[key])
    rejected += index.unused(used)
    found = (a.shapes for _, a in drawn.values() if isinstance(a, StoredShapes))
    labels = choose_labels({s.label for each in found for s in each}, options.mask_rules)
    pairs = {
        key: DrawnPair(stored_file(image), annotation, labels)
        for key, (image, annotation) in drawn.items()
    }
    by = "the annotation files"
    return annotated_listing.list_drawn(pairs, known, by, labels, options, rejected)


VIA = Source(list_examples=list_via, options=(*annotated_listing.OPTIONS, "attribute"))


def _read(path: str) -> list[_Entry]:
    """Reads a file; raises UserError if it is none of VIA's."""
    try:
        if path.lower().endswith(".csv"):
            return list(_entries_of_csv(path))
        content = annotation_files.read_json(path, dict[str, Any])
        content = content.get(_PROJECT, content)
        return [_entry(entry, key) for key, entry in content.items()]
    except (ValueError, OSError) as error:
        raise annotation_files.other_format(path, "via", error) from error


def _entry(content: object, where: str) -> _Entry:
    try:
        return json_file.parse(json.dumps(content), _Entry)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not VIA's: {shown(where)}: {error}") from error


def _entries_of_csv(path: str) -> Iterator[_Entry]:
    """Yields the images of a CSV file, which has a row for each region."""
    csv.field_size_limit(_MAX_FIELD)
    lines = text_files.to_lines(json_file.read_bytes(path))
    rows = csv.DictReader(line + "\n" for line in lines)
    names = {name.lstrip("#").strip(): name for name in rows.fieldnames or ()}
    if lacking := [name for name in _COLUMNS if name not in names]:
        raise ValueError(f"it has no column '{lacking[0]}', which VIA's CSV files have")
    regions: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        where = f"line {rows.line_num}"
        image = regions.setdefault(row[names["filename"]], [])
        shape = _json_of(row[names["region_shape_attributes"]], where)
        if shape:
            values = _json_of(row[names["region_attributes"]], where)
            image.append({"shape_attributes": shape, "region_attributes": values})
    for name, found in regions.items():
        yield _entry({"filename": name, "regions": found}, name)


def _json_of(text: str | None, where: str) -> object:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: JSON is broken: {error}") from error


def _regions(entry: _Entry) -> Sequence[_Region]:
    return list(entry.regions.values()) if isinstance(entry.regions, dict) else entry.regions


def _attribute(entries: Sequence[tuple[str, _Entry]], wanted: str) -> str:
    """Returns the attribute that is the class; empty if no region has one."""
    count = collections.Counter(
        name
        for _, entry in entries
        for region in _regions(entry)
        for name in region.region_attributes
    )
    shown_names = ", ".join(f"{shown(n)} ({c:,} regions)" for n, c in count.most_common(_NAMED))
    if wanted and wanted not in count:
        raise UserError(
            f"--attribute={wanted}: no region has it; there are {shown_names or 'none'}"
        )
    if not wanted and len(count) > 1:
        raise UserError(f"--attribute: name the attribute that is the class: {shown_names}")
    return wanted or next(iter(count), "")


def _shapes(path: str, entry: _Entry, attribute: str) -> StoredShapes | BadRegions:
    found = []
    for number, region in enumerate(_regions(entry)):
        place = f"region {number}"
        try:
            label = _label(region.region_attributes, attribute)
            kind, points = _outline(region.shape_attributes)
            found.append(Shape(label, kind, (points,), place))
        except BadShape as error:
            return BadRegions(path, str(error.at(place)))
    return StoredShapes(path, None, tuple(found))


def _label(attributes: Mapping[str, Any], attribute: str) -> str:
    """Returns a region's class: a text, or the only box that is ticked."""
    if not attribute:
        return NO_ATTRIBUTE
    value = attributes.get(attribute, "")
    if isinstance(value, dict):
        ticked = [name for name, is_ticked in value.items() if is_ticked]
        if len(ticked) > 1:
            raise BadShape(f"region of several classes: {', '.join(map(shown, ticked))}")
        value = ticked[0] if ticked else ""
    if not str(value).strip():
        raise BadShape(f"region without a value of '{attribute}'")
    return str(value).strip()


def _outline(shape: Mapping[str, Any]) -> tuple[str, Any]:
    """Returns the kind and the points of a region; raises BadShape."""
    kind = str(shape.get("name", ""))
    try:
        if kind in ("polygon", "polyline"):
            x, y = shape["all_points_x"], shape["all_points_y"]
            pairs = [list(pair) for pair in zip(x, y, strict=True)]
            return ("line" if kind == "polyline" else kind), shapes.to_points(pairs)
        if kind == "rect":
            x, y = shape["x"], shape["y"]
            corners = [x, y, x + shape["width"], y + shape["height"]]
            return "rectangle", shapes.to_points(corners)
        if kind in ("circle", "ellipse", "point"):
            x, y = shape["cx"], shape["cy"]
            if kind == "point":
                return kind, shapes.to_points([x, y])
            if kind == "circle":
                return kind, shapes.to_points([x, y, x + shape["r"], y])
            radii = shape["rx"], shape["ry"]
            return kind, shapes.to_points([x, y, *radii, shape.get("theta", 0), 0])
    except KeyError as error:
        raise BadShape(f"{kind} without {error}") from error
    except (TypeError, ValueError) as error:
        raise BadShape(f"{kind} has no points that are numbers, or x without y") from error
    raise BadShape(f"no kind of shape that petseg knows: '{kind}'")


def _without_pixels(key: str, image: str, annotation: StoredShapes | BadRegions) -> list[Finding]:
    if isinstance(annotation, BadRegions):
        return []
    try:
        size = upright_size(stored_file(image).read())
    except (OSError, BadFile):  # reading it will say why
        return []
    return findings_of(key, annotation.shapes, size)
