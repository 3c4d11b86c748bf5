"""Splits that each hold their share of every stratum: of a class, or of what masks show."""

from collections.abc import Hashable, Mapping

from petseg.conversion.sources.base import hash_order


def split_by_strata(
    sizes: Mapping[str, int],
    strata: Mapping[str, Hashable],
    validation_fraction: float,
    test_fraction: float,
) -> dict[str, str]:
    """Chooses the split of each component so that the shares hold within each stratum.

    In each stratum, components go to validation in the order of their hashes as long as that
    brings it nearer to its share, then likewise to test. What a share lacks or has too much
    is made up for in the next stratum, so that many small strata lack nothing together. Both
    a stratum's images and all images of a split differ from the share by one component at most.

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
    shares = {"validation": validation_fraction, "test": test_fraction}
    owed = dict.fromkeys(shares, 0.0)
    splits: dict[str, str] = {}
    for stratum in sorted(members):
        total = sum(sizes[component] for component in members[stratum])
        for split, share in shares.items():
            owed[split] += share * total
            for component in members[stratum]:
                if component not in splits and sizes[component] / 2 <= owed[split]:
                    splits[component] = split
                    owed[split] -= sizes[component]
    return {component: splits.get(component, "train") for component in sizes}
