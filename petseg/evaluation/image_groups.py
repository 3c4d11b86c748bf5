"""Groups of images that are also evaluated separately, such as species and breed."""

from petseg.input_pipeline.stored_examples import Original
from petseg.registry import SOURCES

_IMAGE_CLASS = "image class"


def groups_of(original: Original, source_name: str) -> dict[str, str]:
    """The groups that an image belongs to, by kind: {'species': 'cat', 'breed': 'Bengal'}.

    Args:
      original: the example.
      source_name: the registered source of its data set. If it is unknown or names no groups,
        the image's class is the only group.
    """
    groups = SOURCES.get(source_name).groups_of if source_name in SOURCES else None
    if groups is not None:
        return groups(original.filename, original.image_class)
    return {_IMAGE_CLASS: original.image_class} if original.image_class else {}
