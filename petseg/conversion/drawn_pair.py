"""An image and its annotation, whose mask is drawn when the pair is read."""

import dataclasses
from collections.abc import Iterable
from typing import Protocol

from petseg.conversion import shapes
from petseg.conversion.annotation_labels import Labels
from petseg.conversion.files import StoredFile
from petseg.conversion.masks import encode_mask
from petseg.conversion.shapes import BadShape, Shape
from petseg.conversion.sources.base import Unreadable, read_stored
from petseg.data import picture_file
from petseg.data.manifest import Finding
from petseg.data.picture_file import BadFile
from petseg.errors import shown

Size = tuple[int, int]  # height and width, in pixels
_SHOWN_LABEL = 40


class Annotation(Protocol):
    """All shapes of one image, or where they are stored."""

    @property
    def bytes(self) -> int:
        """The size of what is read, in bytes."""

    @property
    def path(self) -> str:
        """The file that says them."""

    def read(self, image: bytes) -> tuple[Size, list[Shape]]:
        """Reads the size that the shapes are drawn for, and the shapes.

        Args:
          image: The image's file.

        Raises:
          Unreadable: They cannot be read.
          BadShape: One cannot be drawn.
          BadFile: The image's size is needed, and cannot be read.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class StoredShapes:
    """Shapes that a source keeps in memory, because they are few and small.

    Attributes:
      path: The file that says them.
      size: What they are drawn for; None for the image as a viewer shows it.
      shapes: The shapes.
    """

    path: str
    size: Size | None
    shapes: tuple[Shape, ...]

    @property
    def bytes(self) -> int:
        """Nothing is read."""
        return 0

    def read(self, image: bytes) -> tuple[Size, list[Shape]]:
        """Returns size and shapes; raises BadFile if the image's size cannot be read."""
        return self.size or upright_size(image), list(self.shapes)


@dataclasses.dataclass(frozen=True, slots=True)
class DrawnPair:
    """An image and its annotation.

    Attributes:
      image: The image's file.
      annotation: The shapes.
      labels: The raw values of their labels.
      smaller_on_top: Whether smaller shapes lie on larger ones; otherwise later on earlier ones.
    """

    image: StoredFile
    annotation: Annotation
    labels: Labels
    smaller_on_top: bool = False

    @property
    def bytes(self) -> int:
        """The size of both, in bytes."""
        return self.image.bytes + self.annotation.bytes

    @property
    def image_name(self) -> str:
        """The image's file name."""
        return self.image.path.rpartition("/")[2]

    def read(self) -> tuple[bytes, bytes]:
        """Reads the image and draws the mask; raises Unreadable, or FaultFound."""
        content = read_stored(self.image, "image")
        try:
            size, found = self.annotation.read(content)
            picture_file.check_size(*size, "annotated image")
            for shape in found:
                if shape.label not in self.labels.values:
                    label = shown(shape.label)[:_SHOWN_LABEL]
                    raise Unreadable(f"label of no class in --classes: '{label}', {shape.place}")
            mask = shapes.draw(
                found, self.labels.values, self.labels.background, size, self.smaller_on_top
            )
        except (BadShape, BadFile) as reason:
            raise Unreadable(str(reason)) from reason
        return content, encode_mask(mask)


def upright_size(content: bytes) -> Size:
    """Returns height and width of an image as a viewer shows it; raises BadFile."""
    if (size := picture_file.size_of_plain_jpeg(content)) is not None:
        return size
    with picture_file.open_picture(content, "image") as picture:
        if picture_file.orientation_of(picture) in picture_file.SIDEWAYS:
            return picture.width, picture.height
        return picture.height, picture.width


def findings_of(name: str, found: Iterable[Shape], size: Size) -> list[Finding]:
    """Returns a finding for each shape that leaves no pixel, because of where its points are.

    Args:
      name: The name of the example.
      found: Its shapes.
      size: Height and width of its image, in pixels.
    """
    findings = []
    for shape in found:
        if reason := shapes.why_empty(shape, *size):
            label = shown(shape.label)[:_SHOWN_LABEL]
            reason = f"shape left out, {reason}: '{label}', {shape.place}"
            findings.append(Finding(shown(name), "", reason))
    return findings
