"""Turns a source's listing into a finished data set: shards, TFDS metadata, manifest."""

import collections
import concurrent.futures
import dataclasses
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tqdm import tqdm

from petseg import manifest, record
from petseg.conversion import checks, shards
from petseg.conversion.sources import SourceExample, SourceListing, hash_order
from petseg.errors import FaultFound, UserError
from petseg.manifest import Finding, Manifest, Shard, Split

T = TypeVar("T")
R = TypeVar("R")

# Marks a folder whose conversion has not ended, so that it may be started again.
_UNFINISHED = "UNFINISHED_CONVERSION"


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """One example after its checks: a record to store, or the reason why not."""

    example: SourceExample
    serialized: bytes
    height: int
    width: int
    pixels_per_label: Mapping[int, int]
    repairs: tuple[str, ...]
    rejected: str | None


@dataclasses.dataclass
class _SplitTally:
    """What one split's records add up to while they are written."""

    records: int = 0
    height_sum: int = 0
    width_sum: int = 0
    pixels: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    repaired: list[Finding] = dataclasses.field(default_factory=list)
    rejected: list[Finding] = dataclasses.field(default_factory=list)

    def add(self, item: _Prepared) -> None:
        self.records += 1
        self.height_sum += item.height
        self.width_sum += item.width
        self.pixels.update(item.pixels_per_label)
        for reason in item.repairs:
            self.repaired.append(Finding(item.example.name, item.example.split, reason))


def write_dataset(
    listing: SourceListing,
    output_dir: str,
    *,
    name: str,
    source: Mapping[str, str | int | float],
    shard_mib: float,
    fail_on_bad: bool,
    show_progress: bool = True,
) -> Manifest:
    """Checks, shards and describes every example of a listing.

    The same listing and arguments give byte-identical files. The manifest is
    written last; until then the folder is not a data set, and a second call
    starts over in it.

    Args:
      listing: what to convert.
      output_dir: a new or empty folder, or one whose conversion was interrupted.
      name: the first part of the shards' names.
      source: goes into the manifest: how the listing came about.
      shard_mib: the size to come near to, in MiB.
      fail_on_bad: stop at the first input that cannot be converted.
      show_progress: draw a progress bar on standard error.

    Returns:
      The manifest as written.

    Raises:
      UserError: the folder holds something else, cannot be written, or no example
        is convertible.
      FaultFound: an input is bad and fail_on_bad is set.
    """
    if fail_on_bad and listing.rejected:
        first = listing.rejected[0]
        raise FaultFound(f"--on_bad=fail: {first.name}: {first.reason}")
    output = epath.Path(output_dir)
    _claim_folder(output)
    by_split: dict[str, list[SourceExample]] = {}
    for example in sorted(listing.examples, key=lambda e: hash_order(e.name)):
        by_split.setdefault(example.split, []).append(example)

    splits, repaired, rejected = {}, [], list(listing.rejected)
    with tqdm(
        total=len(listing.examples),
        unit="image",
        desc="convert",
        mininterval=0.1 if sys.stderr.isatty() else 10,
        disable=not show_progress,
    ) as progress:
        for split in [s for s in ("train", "validation", "test") if s in by_split]:
            written, tally = _write_split(
                by_split[split], output, name, listing.raw_labels, shard_mib, fail_on_bad, progress
            )
            repaired += tally.repaired
            rejected += tally.rejected
            if written:
                splits[split] = Split(
                    tuple(written),
                    {label: tally.pixels[label] for label in sorted(tally.pixels)},
                    tally.height_sum / tally.records,
                    tally.width_sum / tally.records,
                )
    if not splits:
        raise UserError(
            f"--raw_dir: not one of {len(listing.examples)} images could be converted; "
            f"the first: {rejected[0].name}: {rejected[0].reason}"
        )
    finished = Manifest(
        name=name,
        source=dict(source),
        raw_labels=dict(listing.raw_labels),
        splits=splits,
        repaired=tuple(repaired),
        rejected=tuple(rejected),
    )
    _write_tfds_metadata(output, finished, listing.class_names)
    manifest.write_manifest(output_dir, finished)
    (output / _UNFINISHED).unlink()
    return finished


def _claim_folder(output: epath.Path) -> None:
    """Makes the folder; empties it if it is the rest of an interrupted conversion."""
    if output.exists() and not output.is_dir():
        raise UserError(f"--output_dir: {output} is a file")
    try:
        output.mkdir(parents=True, exist_ok=True)
        content = list(output.iterdir())
        if (output / _UNFINISHED).exists():
            for path in content:
                if path.name != _UNFINISHED:
                    path.unlink()
        elif content:
            raise UserError(
                f"--output_dir: {output} is not empty ({content[0].name}, ...); "
                "name a new folder, or empty it first"
            )
        (output / _UNFINISHED).write_text("Run tools/convert.py again to finish.\n")
    except OSError as error:
        raise UserError(f"--output_dir: cannot write to {output}: {error.strerror}") from error


def _write_split(
    examples: Sequence[SourceExample],
    output: epath.Path,
    name: str,
    raw_labels: Mapping[int, str],
    shard_mib: float,
    fail_on_bad: bool,
    progress: tqdm,
) -> tuple[list[Shard], _SplitTally]:
    """Writes one split's shards, none of them empty; no shard if no example is good."""
    rejected: list[Finding] = []
    while examples:
        sizes = [_size_bytes(example) for example in examples]
        plan = shards.plan_shards(examples, sizes, int(shard_mib * (1 << 20)))
        written, tally = _write_planned(plan, output, name, raw_labels, fail_on_bad, progress)
        rejected += tally.rejected
        if all(shard.records for shard in written):
            return written, dataclasses.replace(tally, rejected=rejected)
        # A shard whose examples were all bad stayed empty: plan again without them.
        for shard in written:
            (output / shard.name).unlink()
        bad = {finding.name for finding in tally.rejected}
        examples = [example for example in examples if example.name not in bad]
        progress.total += len(examples)
    return [], _SplitTally(rejected=rejected)


def _write_planned(
    plan: Sequence[Sequence[SourceExample]],
    output: epath.Path,
    name: str,
    raw_labels: Mapping[int, str],
    fail_on_bad: bool,
    progress: tqdm,
) -> tuple[list[Shard], _SplitTally]:
    """Writes each part of a plan to its shard; a bad example is tallied, not written."""
    written: list[Shard] = []
    tally = _SplitTally()
    in_order = [example for part in plan for example in part]
    prepared = _in_order(lambda example: _prepare(example, raw_labels), in_order)
    for index, part in enumerate(plan):
        path = output / shards.shard_name(name, part[0].split, index, len(plan))
        with shards.open_shard(path, written) as shard:
            for item in itertools.islice(prepared, len(part)):
                progress.update()
                if item.rejected is None:
                    shard.write(item.serialized)
                    tally.add(item)
                elif fail_on_bad:
                    raise FaultFound(f"--on_bad=fail: {_describe(item)}")
                else:
                    finding = Finding(item.example.name, item.example.split, item.rejected)
                    tally.rejected.append(finding)
    return written, tally


def _describe(item: _Prepared) -> str:
    is_mask = item.rejected.startswith("mask")
    return f"{item.example.mask_path if is_mask else item.example.image_path}: {item.rejected}"


def _size_bytes(example: SourceExample) -> int:
    try:
        return sum(epath.Path(p).stat().length for p in (example.image_path, example.mask_path))
    except OSError:  # a broken link, say: reading it will give the reason
        return 0


def _prepare(example: SourceExample, raw_labels: Mapping[int, str]) -> _Prepared:
    try:
        image = checks.check_image(_read(example.image_path, "image"))
        mask = checks.check_mask(_read(example.mask_path, "mask"), raw_labels)
        if (image.height, image.width) != (mask.height, mask.width):
            raise checks.BadFile(
                f"mask is {mask.width}x{mask.height} px, its image {image.width}x{image.height}"
            )
    except checks.BadFile as reason:
        return _Prepared(example, b"", 0, 0, {}, (), str(reason))
    serialized = record.encode_record(
        record.Record(
            name=example.name,
            filename=epath.Path(example.image_path).name,
            image=image.encoded,
            mask=mask.encoded,
            height=image.height,
            width=image.width,
            class_label=example.class_label,
            class_text=example.class_text,
        )
    )
    repairs = tuple(repair for repair in (image.repair, mask.repair) if repair)
    return _Prepared(
        example, serialized, image.height, image.width, mask.pixels_per_label, repairs, None
    )


def _read(path: str, what: str) -> bytes:
    try:
        return epath.Path(path).read_bytes()
    except OSError as error:
        raise checks.BadFile(f"{what} cannot be read: {error.strerror}") from error


def _in_order(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Maps over all cores, in order, holding only a few results at a time."""
    workers = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        pending: collections.deque = collections.deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 8 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _write_tfds_metadata(
    output: epath.Path, finished: Manifest, class_names: Sequence[str]
) -> None:
    """Describes the shards in dataset_info.json and features.json, for TFDS's readers."""
    features = tfds.features.FeaturesDict(
        {
            "image": {
                "encoded": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                "format": tfds.features.Text(),
                "filename": tfds.features.Text(),
                "height": tfds.features.Scalar(np.int64),
                "width": tfds.features.Scalar(np.int64),
                "source_id": tfds.features.Text(),
                "segmentation": {
                    "class": {
                        "encoded": tfds.features.Image(
                            shape=(None, None, 1), encoding_format="png"
                        ),
                        "format": tfds.features.Text(),
                    }
                },
                "class": {
                    "label": tfds.features.ClassLabel(names=list(class_names)),
                    "text": tfds.features.Text(),
                },
            }
        }
    )
    tfds.folder_dataset.write_metadata(
        data_dir=output,
        features=features,
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[shard.records for shard in content.shards],
                num_bytes=sum(shard.bytes for shard in content.shards),
                filename_template=tfds.core.ShardedFileTemplate(
                    template=shards.TFDS_FILENAME_TEMPLATE,
                    data_dir=output,
                    dataset_name=finished.name,
                    split=split,
                    filetype_suffix="tfrecord",
                ),
            )
            for split, content in finished.splits.items()
        ],
        check_data=False,
    )
