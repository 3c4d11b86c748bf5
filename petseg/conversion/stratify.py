"""Splits that each hold their share of every stratum: of a class, or of what masks show."""

from collections.abc import Hashable, Mapping

from petseg.conversion.sources.base import hash_order

_ROUNDING = 1e-6  # images


def split_by_strata(
    sizes: Mapping[str, int],
    strata: Mapping[str, Hashable],
    validation_fraction: float,
    test_fraction: float,
) -> dict[str, str]:
    """Chooses the split of each component so that the shares hold within each stratum.

    In each stratum, components go, in the order of their hashes, to the first of validation,
    test and train whose share still has room for them. At most two fit nowhere: they go to the
    two splits that lack most over this stratum and those before, so that many small strata lack
    nothing together. In each stratum a split differs from its share by less than one component,
    and on the whole by less than two.

    Args:
      sizes: Component -> number of its images.
      strata: Component -> what its stratum is called; those names can be sorted.
      validation_fraction: Share of the images that becomes validation.
      test_fraction: Share of the images that becomes test.

    Returns:
      Component -> split.
    """
    members: dict[Hashable, list[str]] = {}
    for component in sorted(sizes, key=hash_order):
        members.setdefault(strata[component], []).append(component)
    shares = {
        "validation": validation_fraction,
        "test": test_fraction,
        "train": 1 - validation_fraction - test_fraction,
    }
    shares = {split: share for split, share in shares.items() if share > 0}
    lacking = dict.fromkeys(shares, 0.0)
    splits: dict[str, str] = {}
    for stratum in sorted(members):
        total = sum(sizes[component] for component in members[stratum])
        room = {split: share * total for split, share in shares.items()}
        for component in members[stratum]:
            fitting = (s for s in room if sizes[component] <= room[s] + _ROUNDING)
            if split := next(fitting, None):
                splits[component] = split
                room[split] -= sizes[component]
        lacking = {split: lacking[split] + room[split] for split in shares}
        left = [component for component in members[stratum] if component not in splits]
        for component, split in zip(
            left, sorted(lacking, key=lambda split: -lacking[split]), strict=False
        ):
            splits[component] = split
            lacking[split] -= sizes[component]
    return {component: splits[component] for component in sizes}
