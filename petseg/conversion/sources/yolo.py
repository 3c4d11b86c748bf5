"""The source `yolo`: outlines in YOLO's text files, one beside each image.

A line is a class's number and the points of a polygon, as shares of the image's width and
height. Class n has the raw value n + 1, because 0 is the background. Where polygons overlap,
the one with fewer pixels lies on top.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import yaml

from petseg.conversion import annotated_listing, annotation_files, files, shapes, text_files
from petseg.conversion.annotation_labels import choose_labels
from petseg.conversion.drawn_pair import DrawnPair, Size, findings_of, upright_size
from petseg.conversion.files import StoredFile, stored_file
from petseg.conversion.image_index import ImageIndex
from petseg.conversion.pairing import composed
from petseg.conversion.shapes import BadShape, Shape
from petseg.conversion.sources.base import (
    Source,
    SourceListing,
    SourceOptions,
    Unreadable,
    read_stored,
)
from petseg.data import regular_file
from petseg.data.manifest import Finding
from petseg.errors import UserError, shown

_MAX_YAML_BYTES = 1 << 20  # 1 MiB
_IMAGES, _LABELS = "images", "labels"
_BOX_NUMBERS = 4
_NO_FILE = "image without a file of labels; an empty one says that nothing is on it"
_SHARES = (1, 1)  # the size of an image whose points are shares


@dataclasses.dataclass(frozen=True, slots=True)
class StoredYolo:
    """A text file of YOLO's, and the names of its classes."""

    file: StoredFile
    names: Mapping[int, str]

    @property
    def bytes(self) -> int:
        """The size of the file, in bytes."""
        return self.file.bytes

    @property
    def path(self) -> str:
        """The file that says them."""
        return self.file.path

    def read(self, image: bytes) -> tuple[Size, list[Shape]]:
        """Reads the polygons; raises Unreadable, BadShape or BadFile."""
        size = upright_size(image)
        try:
            lines = text_files.to_lines(read_stored(self.file, "file of labels"))
        except UnicodeDecodeError as error:
            raise Unreadable("file of labels is no text") from error
        return size, [_scaled(shape, size) for shape in _shapes(lines, self.names)]


def list_yolo(options: SourceOptions) -> SourceListing:
    """Lists the images of a YOLO data set.

    An image a/images/b.jpg has its labels in a/labels/b.txt, or in b.txt beside it. An empty
    file says that nothing is on the image; an image without a file is left out.

    Args:
      options: `annotations` is the data set's YAML file; by default the only one in raw_dir.
        `images` is where the images are; by default below raw_dir, or beside the YAML file.
        Splits: see annotated_listing.choose; folders called train, val and test say them.

    Raises:
      UserError: The YAML file or its names are missing, or no image has labels.
    """
    annotation_files.require_some(options, "yolo")
    path = options.annotations or _yaml_in(options.raw_dir)
    names = _names(path)
    index = ImageIndex(*annotation_files.folder_of_images(options, [path]))
    rejected = list(index.findings)
    ids = {name: number + 1 for number, name in sorted(names.items())}
    labels = choose_labels(ids, options.mask_rules, ids)
    texts = _texts(index)
    pairs: dict[str, DrawnPair] = {}
    for image in index.paths:
        key = index.key_of(image)
        text = next((texts[place] for place in _places(image) if place in texts), None)
        if text is None:
            rejected.append(Finding(shown(key), "", _NO_FILE))
            continue
        annotation = StoredYolo(stored_file(text), names)
        pairs[key] = DrawnPair(stored_file(image), annotation, labels, smaller_on_top=True)
        rejected += _without_pixels(key, annotation)
    used = {place for pair in pairs.values() for place in _places(pair.image.path)}
    orphans = [texts[place] for place in texts if place not in used and _is_labels(texts[place])]
    rejected += [Finding(shown(text), "", "file of labels without an image") for text in orphans]
    return annotated_listing.list_drawn(pairs, {}, "", labels, options, rejected)


YOLO = Source(list_examples=list_yolo, options=annotated_listing.OPTIONS)


def _yaml_in(raw_dir: str) -> str:
    try:
        names = sorted(n for n in files.names_in(raw_dir) if n.endswith((".yaml", ".yml")))
    except OSError as error:
        raise UserError(f"--raw_dir: {raw_dir}: {error.strerror or error}") from error
    if "data.yaml" in names:
        names = ["data.yaml"]
    if len(names) != 1:
        raise UserError(
            f"--raw_dir: {raw_dir} has {len(names)} YAML files; name the one with the classes' "
            "names with --annotations"
        )
    return f"{raw_dir}/{names[0]}"


def _names(path: str) -> dict[int, str]:
    """Returns number -> name of the classes; raises UserError."""
    try:
        if "://" in path:
            content = StoredFile(path, _MAX_YAML_BYTES, 0).read()
        else:
            with regular_file.open_regular(path, _MAX_YAML_BYTES) as file:
                content = file.read()
        names = yaml.safe_load(content)["names"]
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        found = {int(number): str(name) for number, name in pairs}
    except OSError as error:
        raise UserError(f"--annotations: {path}: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"--annotations: {path}: {' '.join(str(error).split())}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--annotations: {path} has no 'names', a list or number: name, of the classes"
        ) from error
    if len(set(found.values())) < len(found) or min(found, default=0) < 0:
        raise UserError(f"--annotations: {path}: a name is duplicated, or a number is negative")
    return found


def _texts(index: ImageIndex) -> dict[str, str]:
    """Returns path without suffix, in composed form -> path of each text file."""
    # With --images=toy/images the labels lie beside that folder: in toy/labels.
    root = index.root.rstrip("/")
    roots = [root, *(folder for folder in _moved(root) if files.is_folder(folder))]
    found = sorted({path for each in roots for _, path in files.list_pictures(each)})
    texts = [p for p in found if p.lower().endswith(".txt") and not files.is_twin(p.split("/")[-1])]
    return {composed(path.rpartition(".")[0]): path for path in texts}


def _places(image: str) -> list[str]:
    """Returns where an image's labels may be, without the suffix, the likeliest first."""
    folder, _, name = composed(image.rpartition(".")[0]).rpartition("/")
    return [f"{each}/{name}" for each in (*_moved(folder), folder)]


def _moved(folder: str) -> list[str]:
    """Returns the folders of labels that a folder of images may have, the likeliest first."""
    folders = folder.split("/")
    at = [i for i, part in enumerate(folders) if part == _IMAGES]
    return ["/".join([*folders[:i], _LABELS, *folders[i + 1 :]]) for i in reversed(at)]


def _is_labels(text: str) -> bool:
    return _LABELS in text.split("/")


def _shapes(lines: Sequence[str], names: Mapping[int, str]) -> list[Shape]:
    """Returns polygons whose points are shares; raises BadShape."""
    found = []
    for number, line in enumerate(lines, 1):
        fields, place = line.split(), f"line {number}"
        if not fields:
            continue
        if not fields[0].isdecimal() or int(fields[0]) not in names:
            raise BadShape(f"class that the YAML file does not name: '{fields[0][:20]}', {place}")
        if len(fields) == _BOX_NUMBERS + 1:
            raise BadShape(f"box, not the points of an outline: {place}")
        try:
            points = shapes.to_points([float(field) for field in fields[1:]])
        except ValueError as error:
            raise BadShape(f"points are no numbers: {place}") from error
        except BadShape as error:
            raise error.at(place) from error
        found.append(Shape(names[int(fields[0])], "polygon", (points,), place))
    return found


def _scaled(shape: Shape, size: Size) -> Shape:
    points = shape.parts[0] * np.array(size[::-1], np.float64)
    return dataclasses.replace(shape, parts=(shapes.to_points(points),))


def _without_pixels(key: str, annotation: StoredYolo) -> list[Finding]:
    try:
        lines = text_files.to_lines(annotation.file.read())
        return findings_of(key, _shapes(lines, annotation.names), _SHARES)
    except (OSError, UnicodeDecodeError, BadShape):  # reading it will say why
        return []
