"""The source `labelme`: a JSON file of LabelMe's beside each image.

Where shapes overlap, the later one lies on top, as in LabelMe's own exports.
"""

import base64
import binascii
import dataclasses

import numpy as np
import pydantic

from petseg.conversion import annotated_listing, annotation_files, shapes
from petseg.conversion.annotation_files import TOLERANT
from petseg.conversion.annotation_labels import choose_labels
from petseg.conversion.drawn_pair import DrawnPair, Size, findings_of, upright_size
from petseg.conversion.files import StoredFile, stored_file
from petseg.conversion.image_index import SECOND_ANNOTATION, ImageIndex
from petseg.conversion.shapes import BadShape, Shape
from petseg.conversion.sources.base import (
    Source,
    SourceListing,
    SourceOptions,
    Unreadable,
    read_stored,
)
from petseg.data import json_file
from petseg.data.manifest import Finding
from petseg.data.picture_file import BadFile, open_picture
from petseg.errors import UserError, shown

# LabelMe's kinds of shape and those of tools that write its files -> petseg's.
_KINDS = {
    **dict.fromkeys(("", "polygon", "rotation", "oriented_rectangle", "quadrilateral"), "polygon"),
    **{"rectangle": "rectangle", "circle": "circle", "point": "point", "points": "point"},
    **{"line": "line", "linestrip": "line", "mask": "mask"},
}


@pydantic.with_config(TOLERANT)
@dataclasses.dataclass(frozen=True, slots=True)
class _Shape:
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None
    mask: str | None = None


@pydantic.with_config(TOLERANT)
@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    shapes: list[_Shape]
    imagePath: str = ""
    imageHeight: int | None = None
    imageWidth: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class StoredLabelMe:
    """A JSON file of LabelMe's."""

    file: StoredFile

    @property
    def bytes(self) -> int:
        """The size of the file, in bytes."""
        return self.file.bytes

    @property
    def path(self) -> str:
        """The file that says them."""
        return self.file.path

    def read(self, image: bytes) -> tuple[Size, list[Shape]]:
        """Reads the shapes; raises Unreadable, BadShape or BadFile."""
        try:
            content = json_file.parse(read_stored(self.file, "annotation"), _File)
        except ValueError as error:
            raise Unreadable(f"annotation is malformed: {error}") from error
        return _size_of(content) or upright_size(image), _shapes(content)


def list_labelme(options: SourceOptions) -> SourceListing:
    """Lists LabelMe's files, each with its image.

    Args:
      options: `annotations` is a folder or pattern of JSON files, by default raw_dir; `images`
        is where their images are, by default the same. A file belongs to the image that it
        names, else to the one of its own name. Splits: see annotated_listing.choose.

    Raises:
      UserError: No JSON file or no image is there, or no file belongs to an image.
    """
    annotation_files.require_some(options, "labelme")
    flag = "annotations" if options.annotations else "raw_dir"
    paths = annotation_files.list_files(options.annotations or options.raw_dir, flag, (".json",))
    index = ImageIndex(*annotation_files.folder_of_images(options, paths))
    rejected = list(index.findings)
    found, names = _match(paths, index, rejected)
    labels = choose_labels(names, options.mask_rules)
    pairs = {
        key: DrawnPair(stored_file(image), StoredLabelMe(stored_file(path)), labels)
        for key, (image, path) in found.items()
    }
    return annotated_listing.list_drawn(pairs, {}, "", labels, options, rejected)


LABELME = Source(list_examples=list_labelme, options=annotated_listing.OPTIONS)


def _match(
    paths: list[str], index: ImageIndex, rejected: list[Finding]
) -> tuple[dict[str, tuple[str, str]], set[str]]:
    """Returns the name of each image -> its path and that of its JSON; and all labels."""
    found: dict[str, tuple[str, str]] = {}
    labels: set[str] = set()
    spoiled: set[str | None] = set()
    first: UserError | None = None
    for path in paths:
        folder, _, file_name = path.rpartition("/")
        try:
            content = annotation_files.read_json(path, _File)
        except ValueError as error:
            first = first or annotation_files.other_format(path, "labelme", error)
            # It may be the annotation of an image, which is lost then.
            image = _of_own_name(file_name, folder, index)
            reason = f"LabelMe's file is malformed: {error}"
            name = index.key_of(image) if image else file_name
            rejected.append(Finding(shown(name), "train" if image else "", reason))
            spoiled.add(image)
            continue
        named, reason = index.find(content.imagePath or file_name, folder)
        image = named or _of_own_name(file_name, folder, index)
        key = index.key_of(image) if image else file_name
        if not image or key in found:
            rejected.append(Finding(shown(key), "", reason if not image else SECOND_ANNOTATION))
            continue
        found[key] = image, path
        labels |= {shape.label for shape in content.shapes}
        rejected += _without_pixels(key, content)
    if not found and first:
        raise first
    rejected += index.unused({image for image, _ in found.values()} | spoiled)
    return found, labels


def _of_own_name(file_name: str, folder: str, index: ImageIndex) -> str | None:
    return index.find_stem(file_name.removesuffix(".json"), folder)


def _without_pixels(key: str, content: _File) -> list[Finding]:
    size = _size_of(content)
    try:
        return findings_of(key, _shapes(content), size) if size else []
    except BadShape:  # reading it will say why
        return []


def _size_of(content: _File) -> Size | None:
    if content.imageHeight and content.imageWidth:
        return content.imageHeight, content.imageWidth
    return None


def _shapes(content: _File) -> list[Shape]:
    """Returns the shapes of a file; raises BadShape."""
    found = []
    for number, shape in enumerate(content.shapes):
        place = f"shape {number}"
        try:
            found.append(_to_shape(shape, place))
        except BadShape as error:
            raise error.at(place) from error
    return found


def _to_shape(shape: _Shape, place: str) -> Shape:
    written = shape.shape_type or ""
    kind, points = _KINDS.get(written, written), shapes.to_points(shape.points)
    if kind == "mask":
        return _to_mask(shape, points, place)
    if kind == "rectangle" and len(points) == 4:  # as other tools write it
        kind = "polygon"
    if kind == "circle" and len(points) > 2:
        raise BadShape(f"circle of {len(points)} points, not two")
    return Shape(shape.label, kind, (points,), place)


def _to_mask(shape: _Shape, points: np.ndarray, place: str) -> Shape:
    """Returns a mask that LabelMe keeps as a PNG of the box from one corner to the other."""
    try:
        content = base64.b64decode(shape.mask or "", validate=True)
    except binascii.Error as error:
        raise BadShape("mask is no base64 text") from error
    try:
        with open_picture(content, "mask of a shape") as picture:
            pixels = np.asarray(picture.convert("L")) > 0
    except BadFile as error:
        raise BadShape(str(error)) from error
    if len(points) != 2:
        raise BadShape(f"mask of {len(points)} corners, not two")
    corner = np.floor(points.min(0))
    columns, rows = (np.floor(points.max(0)) - corner + 1).astype(int).tolist()
    if pixels.shape != (rows, columns):
        height, width = pixels.shape
        raise BadShape(f"mask of {width}x{height} px in a box of {columns}x{rows}")
    return Shape(shape.label, "mask", (corner[None],), place, pixels)
