"""A look before converting: what a source lists, and what a sample of it would become."""

import collections
import dataclasses
import functools
import heapq
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence

from petseg import processes
from petseg.conversion import convert, masks, regroup, review
from petseg.conversion.choices import SPLITS
from petseg.conversion.convert import ConvertOptions
from petseg.conversion.drawn_pair import DrawnPair
from petseg.conversion.prepare import Prepared, RecordOptions, prepare_example
from petseg.conversion.shards import Advance
from petseg.conversion.sources.base import (
    SeveralMasks,
    SourceExample,
    SourceListing,
    hash_order,
)
from petseg.cores import usable_cores
from petseg.data import manifest
from petseg.data.manifest import Finding, Manifest, Shard, Split
from petseg.errors import shown
from petseg.registry import SOURCES

SAMPLE = 50
_PAIRS_SHOWN = 3
_NOT_ASKED = "--{flag} reads every picture, which this look does not: splits will differ"


@dataclasses.dataclass(frozen=True)
class DryRun:
    """What a conversion would find.

    Attributes:
      images_per_split: Split -> number of pairs.
      split_by: How the splits were chosen.
      pairs: Some pairs: name, image, mask.
      not_listed: Files and names that make no pair.
      sampled: The data set that the sample alone would be, though nothing is written.
      repaired: What would be re-encoded of the sample.
      rejected: What would be rejected of the sample.
      warnings: What training would suffer from; what was not looked at.
    """

    images_per_split: Mapping[str, int]
    split_by: str
    pairs: tuple[tuple[str, str, str], ...]
    not_listed: Iterable[Finding]
    sampled: Manifest
    repaired: tuple[Finding, ...]
    rejected: tuple[Finding, ...]
    warnings: tuple[str, ...]

    @property
    def records(self) -> int:
        """How many examples of the sample would be stored."""
        return sum(split.records for split in self.sampled.splits.values())


def look(options: ConvertOptions, sample: int = SAMPLE, show_progress: bool = True) -> DryRun:
    """Lists a source, and prepares a sample of its examples; writes nothing.

    The sample is the first in the order of a hash of each name, another one than that of
    splits. Archives are unpacked to a folder for temporary files.

    Args:
      options: Those of the conversion; its `output_dir` is not touched.
      sample: The number of examples to prepare.
      show_progress: Draw progress bars on standard error.

    Raises:
      UserError: An option is wrong, or the raw data cannot be used, as for `convert`.
    """
    source = SOURCES.get(options.source)
    convert.check_options(options)
    convert.check_source_takes(options, source)
    with tempfile.TemporaryDirectory() as work_dir:
        listing = source.list_examples(convert.source_options(options, work_dir, show_progress))
        listing, left_out = _regroup(listing, options)
        count: collections.Counter = collections.Counter()
        chosen = heapq.nsmallest(
            sample,
            _counted(listing.examples, count),
            key=lambda example: hash_order(f"sample {example.name}"),
        )
        prepared = processes.map_in_processes(
            functools.partial(_prepare, convert.record_options(options, listing)),
            chosen,
            [1] * len(chosen),
            workers=options.workers or usable_cores(),
            what="sample",
            show_progress=show_progress,
        )
    sampled = _manifest(prepared, listing, options)
    return DryRun(
        images_per_split={split: count[split] for split in SPLITS},
        split_by=listing.split_by,
        pairs=tuple(map(_pair, chosen[:_PAIRS_SHOWN])),
        not_listed=listing.rejected,
        sampled=sampled,
        repaired=sampled.repaired,
        rejected=tuple(_finding(item, item.rejected) for item in prepared if item.rejected),
        warnings=(*review.losses(sampled, ""), *review.warnings(sampled), *left_out),
    )


def _counted(
    examples: Iterable[SourceExample], count: collections.Counter
) -> Iterator[SourceExample]:
    for example in examples:
        count[example.split] += 1
        yield example


def _regroup(
    listing: SourceListing, options: ConvertOptions
) -> tuple[SourceListing, tuple[str, ...]]:
    """Keeps groups of names together, but reads no picture for it."""
    asked = convert.regroup_options(options, show_progress=False)
    by_name = tuple(of for of in asked.keep_together if of != regroup.NEAR_DUPLICATES)
    stratify = "" if asked.stratify == "presence" else asked.stratify
    left_out = []
    if by_name != asked.keep_together:
        left_out.append(_NOT_ASKED.format(flag=f"keep_together={regroup.NEAR_DUPLICATES}"))
    if stratify != asked.stratify:
        left_out.append(_NOT_ASKED.format(flag=f"stratify={asked.stratify}"))
    cheap = dataclasses.replace(asked, keep_together=by_name, stratify=stratify)
    listing = regroup.regroup(listing, cheap)
    return listing, (*regroup.warnings(listing.facts), *left_out)


def _prepare(options: RecordOptions, example: SourceExample, advance: Advance) -> Prepared:
    prepared = prepare_example(example, options)
    advance()
    return prepared


def _manifest(
    prepared: Sequence[Prepared], listing: SourceListing, options: ConvertOptions
) -> Manifest:
    """Returns the manifest of a data set of these examples, without files' digests."""
    splits = {}
    for split in SPLITS:
        stored = [p for p in prepared if p.example.split == split and p.rejected is None]
        if stored:
            splits[split] = Split((_shard(split, stored),))
    pixels = {v: n for split in splits.values() for v, n in split.pixels_per_label.items()}
    return Manifest(
        name="sample",
        source={"source": options.source, "validate": options.validate},
        raw_labels=masks.merge_names(listing.masks, pixels),
        splits=splits,
        unplaced=(),
        store=options.store,
    )


def _shard(split: str, stored: Sequence[Prepared]) -> Shard:
    pixels: collections.Counter = collections.Counter()
    for item in stored:
        pixels.update(item.pixels_per_label)
    return Shard(
        name=manifest.shard_name("sample", split, 0, 1),
        records=len(stored),
        bytes=sum(len(item.serialized) for item in stored),
        sha256="",
        inputs="",
        pixels_per_label=dict(sorted(pixels.items())),
        height_sum=sum(item.height for item in stored),
        width_sum=sum(item.width for item in stored),
        repaired=tuple(_finding(item, repair) for item in stored for repair in item.repairs),
        encoded_bytes=sum(item.encoded_bytes for item in stored),
    )


def _finding(item: Prepared, reason: str) -> Finding:
    return Finding(shown(item.example.name), item.example.split, reason)


def _pair(example: SourceExample) -> tuple[str, str, str]:
    """Returns an example's name, image and mask, in words."""
    pair = example.pair
    image, mask = getattr(pair, "image", None), getattr(pair, "mask", None)
    where = image.path if image is not None else pair.image_name
    if isinstance(pair, DrawnPair):
        what = f"drawn from {pair.annotation.path}"
    elif mask is not None:
        what = mask.path
    else:  # both are in one record
        stored = getattr(pair, "stored", None)
        what = f"in {stored.path if stored else where}"
    if isinstance(pair, SeveralMasks):
        first = shown(pair.masks[0].path)
        what = f"{len(pair.masks)} masks, the first {first}"
    return shown(example.name), shown(where), shown(what)
