"""Chooses splits again where a hash chose them, so that groups stay together and strata whole."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

from petseg import processes
from petseg.conversion import groups, merged_masks, near_duplicates, stratify
from petseg.conversion.choices import SPLITS
from petseg.conversion.sources.base import (
    MaskRules,
    SourceExample,
    SourceListing,
    SourceOptions,
)
from petseg.conversion.splits import wanted_splits, without_empty_splits
from petseg.errors import UserError, shown
from petseg.registry import SOURCES, load_plugins

NEAR_DUPLICATES = "near_duplicates"  # in place of a regular expression
# What `regroup` adds to the description in the manifest.
DISAGREEING = "near_duplicates_that_disagree"
_DISAGREEING_NAMED = 100
_CHUNK = 64
_BY_NAME = "a hash of each name"  # in a listing's `split_by`

Facts = dict[str, str | int | float]


@dataclasses.dataclass(frozen=True)
class RegroupOptions:
    """What belongs together, and what each split has to have a share of.

    Attributes:
      keep_together: Regular expressions that find in an image's name what a group shares
        (groups.group_by_regex); or 'near_duplicates'.
      stratify: 'presence' of classes in the mask, 'class' of the image, or ''.
      validation_fraction: Share of the images that becomes validation.
      test_fraction: Share that becomes test, where the hash chose that too.
      workers: Number of processes that read pictures.
      show_progress: Draw progress bars on standard error.
    """

    keep_together: tuple[str, ...] = ()
    stratify: str = ""
    validation_fraction: float = 0.1
    test_fraction: float = 0.0
    workers: int = 1
    show_progress: bool = False


def list_source(
    source: str, plugins: Sequence[str], options: SourceOptions, regroup_options: RegroupOptions
) -> SourceListing:
    """Lists a source and keeps groups together; also in a process that has loaded no plugin.

    Args:
      source: A name in registry.SOURCES.
      plugins: Modules that register further sources.
      options: What the source is given.
      regroup_options: What to keep together.

    Raises:
      UserError: The source has nothing to convert; see also `regroup`.
    """
    load_plugins(plugins, "--plugins")
    return regroup(SOURCES.get(source).list_examples(options), regroup_options)


def regroup(listing: SourceListing, options: RegroupOptions) -> SourceListing:
    """Splits the images that a hash had split, by components and strata.

    The hash of a component's id chooses its split, so that a new image never moves another
    component; with strata, components go in the order of that hash (stratify), and a new
    image may move the last one of its stratum and of later ones.

    Args:
      listing: What a source lists.
      options: What to keep together.

    Returns:
      The listing with other splits, and with what the manifest says of the groups. It holds
      all examples in memory.

    Raises:
      UserError: No split is by a hash; an expression is wrong or is found in no name; or all
        images are of one class.
    """
    if not options.keep_together and not options.stratify:
        return listing
    flag = "keep_together" if options.keep_together else "stratify"
    if not listing.hashed:
        raise UserError(
            f"--{flag} chooses splits, but these are given by {listing.split_by}; leave it out"
        )
    listing = dataclasses.replace(listing, examples=tuple(listing.examples))
    component_of, facts = _components(listing, options)
    pool = [example for example in listing.examples if example.split in listing.hashed]
    of_pool = {example.name: component_of[example.name] for example in pool}
    chosen = _choose(pool, of_pool, listing, options)
    outside = {component_of[e.name] for e in listing.examples if e.split not in listing.hashed}
    if torn := len(outside & set(of_pool.values())):
        given = " and ".join(split for split in SPLITS if split not in listing.hashed)
        facts["groups_that_lie_in_given_splits_too"] = f"{torn} (in {given})"
    examples = tuple(
        dataclasses.replace(example, split=chosen[of_pool[example.name]])
        if example.name in of_pool
        else example
        for example in listing.examples
    )
    split_by = _describe(listing, of_pool, options)
    return dataclasses.replace(listing, examples=examples, split_by=split_by, facts=facts)


def _components(listing: SourceListing, options: RegroupOptions) -> tuple[dict[str, str], Facts]:
    """Returns name -> component, and what the manifest says of them."""
    examples = listing.examples
    names = [example.name for example in examples]
    regexes = [regex for regex in options.keep_together if regex != NEAR_DUPLICATES]
    groupings = [groups.group_by_regex(names, regex) for regex in regexes]
    facts: Facts = {}
    links: list[tuple[int, int]] = []
    if options.keep_together:
        facts["keep_together"] = " ".join(options.keep_together)
    if options.stratify:
        facts["stratify"] = options.stratify
    if groupings:
        matched = set().union(*groupings)
        facts["names_without_a_group"] = sum(name not in matched for name in names)
    if NEAR_DUPLICATES in options.keep_together:
        reading = {"workers": options.workers, "show_progress": options.show_progress}
        links = near_duplicates.find(examples, **reading)
        found = near_duplicates.disagreements(examples, links, listing.masks, **reading)
        facts["pairs_of_near_duplicates"] = len(links)
        if found:
            facts[DISAGREEING] = _name(found)
    linked = [(names[one], names[other]) for one, other in links]
    return groups.components(names, groupings, linked), facts


def _name(found: Sequence[near_duplicates.Disagreement]) -> str:
    named = [
        f"{shown(of.names[0])} and {shown(of.names[1])} ({of.agreement:.0%} of the pixels agree)"
        for of in found[:_DISAGREEING_NAMED]
    ]
    more = len(found) - _DISAGREEING_NAMED
    return "; ".join(named) + (f"; and {more:,} more pairs" if more > 0 else "")


def warnings(source: Mapping[str, str | int | float]) -> list[str]:
    """Returns a line for each thing about groups that a manifest's `source` holds against them."""
    lines = []
    if torn := source.get("groups_that_lie_in_given_splits_too"):
        lines.append(f"groups of --keep_together that lie in splits as given, too: {torn}")
    if pairs := source.get(DISAGREEING):
        lines.append(f"images that look alike, but whose masks do not: {pairs}")
    return lines


def _choose(
    pool: Sequence[SourceExample],
    component_of: Mapping[str, str],
    listing: SourceListing,
    options: RegroupOptions,
) -> dict[str, str]:
    """Returns component -> split."""
    test_fraction = options.test_fraction if "test" in listing.hashed else 0.0
    validation_fraction = 0.0 if options.test_fraction == 1 else options.validation_fraction
    if options.stratify:
        sizes = collections.Counter(component_of.values())
        strata = _strata(pool, component_of, listing, options)
        splits = stratify.split_by_strata(sizes, strata, validation_fraction, test_fraction)
    else:
        splits = groups.split_by_component(component_of, validation_fraction, test_fraction)
    wanted = wanted_splits(validation_fraction, test_fraction)
    return without_empty_splits(splits, [split for split in wanted if split in listing.hashed])


def _strata(
    pool: Sequence[SourceExample],
    component_of: Mapping[str, str],
    listing: SourceListing,
    options: RegroupOptions,
) -> dict[str, tuple[int, ...]]:
    """Returns component -> the raw values in its masks, or the class that most images are of."""
    of_component: dict[str, collections.Counter] = {}
    for example, values in zip(pool, _values(pool, listing, options), strict=True):
        of_component.setdefault(component_of[example.name], collections.Counter()).update(values)
    if options.stratify == "presence":
        return {component: tuple(sorted(count)) for component, count in of_component.items()}
    if len({example.class_label for example in pool}) < 2:
        raise UserError("--stratify=class: all images are of one class; see --stratify=presence")
    return {
        component: (min(count, key=lambda value: (-count[value], value)),)
        for component, count in of_component.items()
    }


def _values(
    pool: Sequence[SourceExample], listing: SourceListing, options: RegroupOptions
) -> list[tuple[int, ...]]:
    """Returns the class of each image, or the raw values of each mask."""
    if options.stratify == "class":
        return [(example.class_label,) for example in pool]
    chunks = [pool[start : start + _CHUNK] for start in range(0, len(pool), _CHUNK)]
    present = processes.map_in_processes(
        functools.partial(_present, listing.masks),
        chunks,
        [len(chunk) for chunk in chunks],
        workers=options.workers,
        what="strata",
        show_progress=options.show_progress,
    )
    return [values for of_chunk in present for values in of_chunk]


def _present(
    rules: MaskRules, examples: Sequence[SourceExample], advance: Callable[[], None]
) -> list[tuple[int, ...]]:
    """Returns the raw values in each mask, but the ignored one; none for a mask that is bad."""
    results = []
    for example in examples:
        checked = merged_masks.check_example(example, rules)
        values = checked.pixels_per_label if checked else ()
        results.append(tuple(value for value in values if value != rules.ignored))
        advance()
    return results


def _describe(
    listing: SourceListing, component_of: Mapping[str, str], options: RegroupOptions
) -> str:
    count = len(set(component_of.values()))
    what = "name"
    if options.keep_together:
        alone = sum(n == 1 for n in collections.Counter(component_of.values()).values())
        what = f"group of --keep_together ({count - alone:,} groups, {alone:,} images alone)"
    by = f"a hash of each {what}" + (
        f", stratified by {options.stratify}" if options.stratify else ""
    )
    if _BY_NAME in listing.split_by:
        return listing.split_by.replace(_BY_NAME, by)
    return f"{listing.split_by}, validation by {by}"
