"""Groups names that belong in one split: of one patient or scene, or of images that look alike."""

import re
from collections.abc import Iterable, Mapping

from petseg.conversion.sources.base import split_by_hash
from petseg.errors import UserError

_GROUP_END = "/"  # no name ends so: a group is never taken for the name of an image


def group_by_regex(names: Iterable[str], regex: str) -> dict[str, str]:
    """Groups names by the part that a regular expression finds first.

    Args:
      names: The images' names.
      regex: Its first group, or else the whole match, is what the names of a group share.

    Returns:
      Name -> group, for the names in which it is found.

    Raises:
      UserError: It is no regular expression, or is found in no name.
    """
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UserError(f"--keep_together={regex} is no regular expression: {error}") from error
    groups, name = {}, ""
    for name in names:
        if match := pattern.search(name):
            groups[name] = (match[1] if pattern.groups else match[0]) or ""
    groups = {name: group for name, group in groups.items() if group}  # nothing is no group
    if not groups:
        raise UserError(f"--keep_together={regex} is found in no name; one name is {name!r}")
    return groups


def components(
    names: Iterable[str],
    groupings: Iterable[Mapping[str, str]] = (),
    links: Iterable[tuple[str, str]] = (),
) -> dict[str, str]:
    """Joins names that share a group or are linked, directly or by others.

    Args:
      names: The images' names.
      groupings: Each is name -> group, for some of the names.
      links: Pairs of names.

    Returns:
      Name -> id of its component: the first, in alphabetical order, of its groups, each
      followed by '/', or of its names where it has no group. It depends on no other component.
    """
    above: dict[str, str] = {}

    def root(label: str) -> str:
        while (parent := above.setdefault(label, label)) != label:
            above[label] = above[parent]
            label = parent
        return label

    def join(one: str, other: str) -> None:
        first, second = sorted((root(one), root(other)), key=_rank)
        above[second] = first

    names = list(names)
    for index, grouping in enumerate(groupings):
        for name, group in grouping.items():
            # Equal texts that two expressions find are two groups.
            join(name, f"{group}{_GROUP_END * (index + 1)}")
    for one, other in links:
        join(one, other)
    return {name: root(name) for name in names}


def split_by_component(
    component_of: Mapping[str, str], validation_fraction: float, test_fraction: float
) -> dict[str, str]:
    """Returns component -> split, which depends on the component's id alone."""
    ids = sorted(set(component_of.values()))
    return {one: split_by_hash(one, validation_fraction, test_fraction) for one in ids}


def _rank(label: str) -> tuple[bool, str]:
    return not label.endswith(_GROUP_END), label
