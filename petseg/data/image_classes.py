"""The classes that whole images have, such as breeds, and the groups that these belong to."""

import fnmatch
from collections.abc import Sequence

from etils import epath

from petseg.errors import UserError
from petseg.registry import SOURCES

FILE_NAME = "image-class-label.labels.txt"  # TFDS's, for the feature image/class/label
CLASS = "class"  # the kind of group that is an image's class itself


def read_class_names(data_dir: str) -> tuple[str, ...]:
    """Names of the images' classes, in the order of their ids.

    Raises:
      UserError: The data set does not say them, or has one alone.
    """
    path = epath.Path(data_dir) / FILE_NAME
    names = path.read_text().splitlines() if path.exists() else []
    if len(names) < 2:
        raise UserError(
            f"config.data.dir={data_dir}: its images have no classes of their own ({FILE_NAME} "
            "names fewer than two); data.masks_of and model.class_masks need them"
        )
    return tuple(names)


def groups_of(filename: str, image_class: str, source_name: str) -> dict[str, str]:
    """The groups that an image belongs to, by kind: {'species': 'cat', 'breed': 'Bengal'}.

    Args:
      filename: Of the image.
      image_class: Name of its class; '' if it has none.
      source_name: The registered source of its data set. If it is unknown or names no groups,
        the image's class is the only group.
    """
    groups = SOURCES.get(source_name).groups_of if source_name in SOURCES else None
    if groups is not None:
        return groups(filename, image_class)
    return {"image class": image_class} if image_class else {}


def choose_classes(text: str, names: Sequence[str], source_name: str) -> tuple[bool, ...]:
    """Which classes a text means, as in 'species=dog' or 'class=beagle,boxer,S*'.

    Args:
      text: A kind of group, or CLASS, and patterns as of a shell, upper and lower case apart.
      names: Of the classes.
      source_name: See groups_of.

    Raises:
      UserError: There is no such kind, a pattern matches no class, or all classes match.
    """
    setting = f"config.data.masks_of={text}"
    kind, equals, patterns = text.partition("=")
    # A class is in the groups that an image of its name is in.
    groups = [{**groups_of(name, name, source_name), CLASS: name} for name in names]
    kinds = sorted({kind for of_class in groups for kind in of_class})
    if not equals or kind not in kinds:
        raise UserError(
            f"{setting} must be KIND=PATTERN,PATTERN with a kind of {', '.join(kinds)}; as in "
            f"{CLASS}={names[0]}"
        )
    members = [of_class.get(kind, "") for of_class in groups]
    chosen = [False] * len(names)
    for pattern in patterns.split(","):
        matching = [fnmatch.fnmatchcase(member, pattern.strip()) for member in members]
        if not any(matching):
            known = list(dict.fromkeys(members))
            more = ", ..." if len(known) > 6 else ""
            raise UserError(
                f"{setting}: no {kind} is called '{pattern.strip()}'; there are "
                f"{', '.join(known[:6])}{more}"
            )
        chosen = [a or b for a, b in zip(chosen, matching, strict=True)]
    if all(chosen):
        raise UserError(f"{setting} matches all {len(names)} classes; leave it out")
    return tuple(chosen)
