"""The source `coco`: COCO's instances as JSON, of polygons and run-length encoded masks.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. Objects become their
categories; where they overlap, the one with fewer pixels lies on top.
"""

import array
import collections
import dataclasses
from collections.abc import Mapping, Sequence

import pydantic

from petseg.conversion import annotated_listing, annotation_files, json_stream, shapes
from petseg.conversion.annotation_files import TOLERANT
from petseg.conversion.annotation_labels import Labels, choose_labels
from petseg.conversion.drawn_pair import DrawnPair, Size, findings_of, upright_size
from petseg.conversion.files import StoredFile, stored_file
from petseg.conversion.image_index import SECOND_ANNOTATION, ImageIndex
from petseg.conversion.json_stream import Piece
from petseg.conversion.shapes import BadShape, Shape
from petseg.conversion.sources.base import (
    Source,
    SourceListing,
    SourceOptions,
    Unreadable,
    read_stored,
)
from petseg.data import json_file
from petseg.data.label_map import IGNORED
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

Id = int | str
_WANTED = ("images", "annotations", "categories")
_ANY_SIZE = 1 << 30  # stands for a side that the file does not state
_NAMED = 5


@pydantic.with_config(TOLERANT)
@dataclasses.dataclass(frozen=True, slots=True)
class _Category:
    id: int
    name: str


@pydantic.with_config(TOLERANT)
@dataclasses.dataclass(frozen=True, slots=True)
class _Image:
    id: Id
    file_name: str
    height: int | None = None
    width: int | None = None


@pydantic.with_config(TOLERANT)
@dataclasses.dataclass(frozen=True, slots=True)
class _Rle:
    size: tuple[int, int]
    counts: str | list[int]


@pydantic.with_config(TOLERANT)
@dataclasses.dataclass(frozen=True, slots=True)
class _Annotation:
    image_id: Id
    category_id: int
    id: Id | None = None
    segmentation: list[list[float]] | _Rle | None = None
    iscrowd: int | bool = 0


@dataclasses.dataclass(frozen=True)
class _File:
    """A file of annotations, and what its categories are called."""

    path: str
    names: Mapping[int, str]


@dataclasses.dataclass(frozen=True, slots=True)
class StoredInstances:
    """Where in a JSON file the annotations of an image are.

    Attributes:
      file: The file.
      image_id: The image's id in it.
      size: The image's height and width as the file says; None if it does not.
      spans: Offset and length of each annotation, by turns, int64.
    """

    file: _File
    image_id: Id
    size: Size | None
    spans: array.array

    @property
    def bytes(self) -> int:
        """The size of all annotations, in bytes."""
        return sum(self.spans[1::2])

    @property
    def path(self) -> str:
        """The file that says them."""
        return self.file.path

    def read(self, image: bytes) -> tuple[Size, list[Shape]]:
        """Reads the annotations; raises Unreadable, BadShape or BadFile."""
        size = self.size or upright_size(image)
        found = []
        for offset, length in zip(self.spans[::2], self.spans[1::2], strict=True):
            content = read_stored(StoredFile(self.file.path, length, offset), "annotation")
            found.append(_shape(content, self.image_id, self.file.names, size))
        return size, found


def list_coco(options: SourceOptions) -> SourceListing:
    """Lists the images of COCO files, whose masks are drawn when a pair is read.

    The files are read as streams, and only the places of annotations are kept. An image that a
    file lists without annotations is all background. Crowds are ignored pixels.

    Args:
      options: `annotations` is a file, folder or pattern; by default raw_dir's
        instances_*.json, else its *.json. `images` is a folder or pattern; by default all below
        raw_dir, or beside the annotations. Splits: see annotated_listing.choose; a file such as
        instances_val2017.json or valid/_annotations.coco.json says the split of its images.

    Raises:
      UserError: A file cannot be read, or is not COCO's; or no image is there.
    """
    annotation_files.require_some(options, "coco")
    place, paths = options.annotations or options.raw_dir, _paths(options)
    index = ImageIndex(*annotation_files.folder_of_images(options, paths))
    rejected = list(index.findings)
    contents = [_read_file(path, rejected) for path in paths]
    labels = _labels(contents, options)
    pairs: dict[str, DrawnPair] = {}
    known: dict[str, str] = {}
    for content in contents:
        split = annotated_listing.split_of_file(content.path, place)
        file = _File(content.path, _names(content))
        keys: dict[Id, str] = {}
        for image in _listed_once(content, split, rejected):
            path, reason = index.find(image.file_name, content.path.rpartition("/")[0], split)
            key = index.key_of(path) if path else image.file_name
            if not path or key in pairs:
                rejected.append(Finding(shown(key), split, reason or SECOND_ANNOTATION))
                continue
            spans = content.spans.get(image.id, array.array("q"))
            annotation = StoredInstances(file, image.id, _size_of(image), spans)
            pairs[key] = DrawnPair(stored_file(path), annotation, labels, smaller_on_top=True)
            keys[image.id], known[key] = key, split
        rejected += content.without_pixels(keys)
    rejected += index.unused({pair.image.path for pair in pairs.values()})
    by = "the annotation files"
    return annotated_listing.list_drawn(pairs, known, by, labels, options, rejected)


COCO = Source(list_examples=list_coco, options=annotated_listing.OPTIONS)


def _paths(options: SourceOptions) -> list[str]:
    """Returns the files to read; those of captions and keypoints are left aside."""
    if options.annotations:
        return annotation_files.list_files(options.annotations, "annotations", (".json",))
    found = annotation_files.list_files(options.raw_dir, "raw_dir", (".json",))
    instances = [p for p in found if p.rpartition("/")[2].startswith("instances")]
    return instances or found


@dataclasses.dataclass
class _Content:
    """What a file says besides the shapes themselves."""

    path: str
    categories: list[_Category] = dataclasses.field(default_factory=list)
    images: dict[Id, _Image] = dataclasses.field(default_factory=dict)  # by id; the last of each
    listed: list[_Image] = dataclasses.field(default_factory=list)
    spans: dict[Id, array.array] = dataclasses.field(default_factory=dict)
    ids: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    used: set[int] = dataclasses.field(default_factory=set)  # ids of categories
    keys: set[str] = dataclasses.field(default_factory=set)
    doubtful: list[_Annotation] = dataclasses.field(default_factory=list)

    def add(self, piece: Piece) -> None:
        """Takes a part of the file; raises ValueError if it is none of COCO's."""
        self.keys.add(piece.key)
        if piece.index is None:
            if piece.key in _WANTED and piece.content != b"[]":
                raise ValueError(f"{piece.key}: it should be a list")
            return
        where = f"{piece.key}[{piece.index}]"
        if piece.key == "categories":
            self.categories.append(_parse(piece.content, _Category, where))
        elif piece.key == "images":
            image = _parse(piece.content, _Image, where)
            self.listed.append(image)
            self.images[image.id] = image
        elif piece.key == "annotations":
            found = _annotation_of(piece.content) or _parse(piece.content, _Identity, where)
            spans = self.spans.setdefault(found.image_id, array.array("q"))
            spans.extend((piece.offset, len(piece.content)))
            self.used.add(found.category_id)
            if found.id is not None:
                self.ids[found.id] += 1
            if "images" in self.keys and isinstance(found, _Annotation):
                self.check(found)

    def check(self, annotation: _Annotation) -> None:
        """Keeps an annotation if its points may leave no pixel; its image must be known."""
        image, outline = self.images.get(annotation.image_id), annotation.segmentation
        if not image or not isinstance(outline, list) or not outline:
            return
        height, width = _size_of(image) or (_ANY_SIZE, _ANY_SIZE)
        x, y = ([n for numbers in outline for n in numbers[i::2]] for i in (0, 1))
        is_within = x and y and min(x) < width and min(y) < height and max(x) > 0 < max(y)
        if not is_within or max(map(len, outline)) < 2 * shapes.MIN_POINTS["polygon"]:
            self.doubtful.append(annotation)

    def without_pixels(self, keys: Mapping[Id, str]) -> list[Finding]:
        """Returns a finding for each annotation that leaves no pixel, because of its points.

        Args:
          keys: Id -> name of each example.
        """
        names = {category.id: category.name for category in self.categories}
        findings = []
        for annotation in self.doubtful:
            image = self.images[annotation.image_id]
            size = _size_of(image) or (_ANY_SIZE, _ANY_SIZE)
            try:
                parts = tuple(map(shapes.to_points, annotation.segmentation))
            except BadShape:  # reading it will say why
                continue
            label = names.get(annotation.category_id, f"category {annotation.category_id}")
            shape = Shape(label, "polygon", parts, f"annotation {annotation.id}")
            name = keys.get(annotation.image_id, image.file_name)
            findings += findings_of(name, [shape], size)
        return findings


def _size_of(image: _Image) -> Size | None:
    return (image.height, image.width) if image.height and image.width else None


def _read_file(path: str, rejected: list[Finding]) -> _Content:
    """Reads all of a file but the shapes of its annotations.

    Raises:
      UserError: It cannot be read, or is not COCO's.
    """
    content = _Content(path)
    late = False
    try:
        for piece in json_stream.read_pieces(path):
            # Most files list images first; otherwise the file is read a second time.
            late |= piece.key == "annotations" and "images" not in content.keys
            content.add(piece)
        for piece in json_stream.read_pieces(path) if late else ():
            if piece.key == "annotations" and (annotation := _annotation_of(piece.content)):
                content.check(annotation)
    except (ValueError, OSError) as error:
        raise annotation_files.other_format(path, "coco", error) from error
    if lacking := [key for key in _WANTED if key not in content.keys]:
        error = ValueError(f"it has no '{lacking[0]}', which COCO's instances have")
        raise annotation_files.other_format(path, "coco", error)
    if repeated := [n for n, count in content.ids.items() if count > 1]:
        reason = "ids of annotations that repeat; all are drawn: "
        reason += f"{len(repeated):,} ids, the first {repeated[0]}"
        rejected.append(Finding(shown(path), "", reason))
    _report_strangers(content, rejected)
    return content


@pydantic.with_config(TOLERANT)
@dataclasses.dataclass(frozen=True, slots=True)
class _Identity:
    """What listing needs of an annotation."""

    image_id: Id
    category_id: int
    id: Id | None = None


def _annotation_of(content: bytes) -> _Annotation | None:
    """Returns an annotation; None if it is malformed, which reading it will say."""
    try:
        return json_file.parse(content, _Annotation)
    except ValueError:
        return None


def _parse(content: bytes, schema: type, where: str) -> object:
    try:
        return json_file.parse(content, schema)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _names(content: _Content) -> dict[int, str]:
    names: dict[int, str] = {}
    for category in content.categories:
        if names.setdefault(category.id, category.name) != category.name:
            raise UserError(
                f"--annotations: {shown(content.path)}: category id {category.id} repeats: "
                f"'{names[category.id]}' and '{category.name}'"
            )
    return names


def _listed_once(content: _Content, split: str, rejected: list[Finding]) -> list[_Image]:
    """Returns the images but those whose id repeats, and all but the first of one file name."""
    count = collections.Counter(image.id for image in content.listed)
    kept: dict[str, _Image] = {}
    for image in content.listed:
        if count[image.id] > 1:
            reason = f"id of images that repeats, so that their annotations mix: {image.id}"
        elif image.file_name in kept:
            reason = SECOND_ANNOTATION
        else:
            kept[image.file_name] = image
            continue
        rejected.append(Finding(shown(image.file_name), split or "train", reason))
    return list(kept.values())


def _report_strangers(content: _Content, rejected: list[Finding]) -> None:
    if strangers := [image_id for image_id in content.spans if image_id not in content.images]:
        total = sum(len(content.spans[image_id]) // 2 for image_id in strangers)
        ids = ", ".join(map(str, strangers[:_NAMED]))
        reason = f"annotations of an image that the file does not list: {total:,} of image_id {ids}"
        rejected.append(Finding(shown(content.path), "", reason))


def _labels(contents: Sequence[_Content], options: SourceOptions) -> Labels:
    """Returns the raw value of each category: its id, if that is possible.

    A category 0 without annotations, as Roboflow writes it for the project, is left out.
    """
    used = {number for content in contents for number in content.used}
    ids: dict[str, int] = {}
    numbered = {(c.id == 0, c.id, c.name) for content in contents for c in content.categories}
    for _, number, name in sorted(numbered):
        if number or number in used:
            ids.setdefault(name, number)
    return choose_labels(ids, options.mask_rules, ids)


def _shape(content: bytes, image_id: Id, names: Mapping[int, str], size: Size) -> Shape:
    """Returns the shape of an annotation; raises Unreadable or BadShape."""
    try:
        annotation = json_file.parse(content, _Annotation)
    except ValueError as error:
        raise Unreadable(f"annotation is malformed: {error}") from error
    place = f"annotation {annotation.id}"
    if annotation.image_id != image_id:
        raise Unreadable(f"annotations have changed since they were listed: {place}")
    if annotation.category_id not in names:
        raise Unreadable(
            "annotation of a category that the file does not list: category_id "
            f"{annotation.category_id}, {place}"
        )
    label = IGNORED if annotation.iscrowd else names[annotation.category_id]
    outline = annotation.segmentation
    if not outline:
        raise Unreadable(f"annotation is a box without an outline: {place}")
    try:
        if isinstance(outline, list):
            parts = tuple(shapes.to_points(numbers) for numbers in outline)
            return Shape(label, "polygon", parts, place)
        if tuple(outline.size) != size:
            (height, width), (rows, columns) = size, outline.size
            raise BadShape(f"RLE of another size: {columns}x{rows} px, its image {width}x{height}")
        return Shape(label, "rle", (), place, counts=outline.counts)
    except BadShape as error:
        raise error.at(place) from error
