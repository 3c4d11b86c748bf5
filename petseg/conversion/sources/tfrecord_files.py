"""The source `tfrecord`: records of DeepLab or TF Model Garden, without TFDS's files."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping

import tensorflow as tf
from etils import epath
from google.protobuf.message import DecodeError

from petseg.conversion import annotated_listing, files
from petseg.conversion.files import StoredFile
from petseg.conversion.sources.base import (
    Source,
    SourceExample,
    SourceListing,
    SourceOptions,
    check_fractions,
    require_raw_dir,
)
from petseg.conversion.sources.tfds_dataset import RecordPair, carved
from petseg.conversion.splits import CARVED, OUTSIDE, ChosenSplits, choose_splits
from petseg.conversion.unique_names import UniqueNames
from petseg.data import record, tfrecord
from petseg.data.manifest import Finding
from petseg.errors import FaultFound, UserError, shown

# 'x.tfrecord', 'x.tfrecord-00000-of-00010', 'x-00000-of-00010', 'x.tfrec', 'x.record'
_NAME = re.compile(r".+(\.tfrecords?|\.tfrec|\.records?|-\d{5}-of-\d{5})", re.IGNORECASE)
_GZIP = b"\x1f\x8b"
_NAMED = 12
_BY_FILES = "the names of the files"


def list_tfrecord(options: SourceOptions) -> SourceListing:
    """Lists the records of TFRecord files, without decoding a picture.

    Args:
      options: `raw_dir` is a file, a folder with all files below it, or a pattern. A file such
        as val-00000-of-00010.tfrecord says the split of its records; if none does, a hash of
        each name decides. `image_feature` and `mask_feature` are the records' keys; by default
        those of DeepLab and TF Model Garden, which petseg writes too.

    Raises:
      UserError: There is no such file, or no record has both keys.
      FaultFound: A file is damaged.
    """
    require_raw_dir(options, "tfrecord")
    image_key = options.image_feature or record.IMAGE
    mask_key = options.mask_feature or record.MASK
    check_fractions(options.validation_fraction, options.test_fraction)
    examples = UniqueNames()
    known: set[str] = set()
    rejected: list[Finding] = []
    there: collections.Counter = collections.Counter()
    for path in _paths(options.raw_dir):
        split = annotated_listing.split_of_file(path, options.raw_dir)
        for index, (stored, features) in enumerate(_records(path)):
            there.update(list(features))
            if lacking := [k for k in (image_key, mask_key) if not _bytes(features, k)]:
                name = f"{path.rpartition('/')[2]}, record {index}"
                reason = f"record without {' and '.join(lacking)}"
                rejected.append(Finding(shown(name), split or "train", reason))
                continue
            name, file_name = _names(features)
            name = name or f"{path.rpartition('/')[2]}-{index:07d}"
            pair = RecordPair(stored, image_key, mask_key, file_name or name)
            known.add(split)
            text = annotated_listing.CLASS_NAME
            examples.add(SourceExample(name, split, pair, class_text=text))
    if not examples:
        keys = ", ".join(sorted(map(shown, there))[:_NAMED]) or "no records"
        raise UserError(
            f"--raw_dir: no record of {options.raw_dir} has {image_key} and {mask_key}; there are "
            f"{keys}; see --image_feature and --mask_feature"
        )
    if any(known):
        listed, split_by, hashed = _by_files(examples, known, options)
    else:
        names = _Names(examples)
        chosen = choose_splits(names, None, options, rejected)
        listed, split_by, hashed = _chosen(examples, chosen), chosen.split_by, chosen.hashed
        rejected += [
            Finding(shown(name), "", OUTSIDE) for name in names if not chosen.split_of(name)
        ]
    classes = (annotated_listing.CLASS_NAME,)
    return SourceListing(listed, tuple(rejected), options.mask_rules, classes, split_by, hashed)


TFRECORD = Source(
    list_examples=list_tfrecord,
    options=(
        *("classes", "ignore_id", "binary", "threshold"),
        *("image_feature", "mask_feature", "test_fraction"),
    ),
)


@dataclasses.dataclass(frozen=True)
class _Names:
    """The names of examples; iterating gives them, as often as wanted."""

    examples: UniqueNames

    def __iter__(self) -> Iterator[str]:
        return (example.name for example in self.examples)


@dataclasses.dataclass(frozen=True)
class _OrTrain:
    """Examples, of train if no file says their split; iterating gives them, as often as wanted."""

    examples: UniqueNames

    def __iter__(self) -> Iterator[SourceExample]:
        return (e if e.split else dataclasses.replace(e, split="train") for e in self.examples)


def _by_files(
    examples: UniqueNames, known: set[str], options: SourceOptions
) -> tuple[Iterable[SourceExample], str, tuple[str, ...]]:
    """Returns the examples with the splits of their files, all others of train; how; hashed."""
    listed = _OrTrain(examples)
    fraction = 0.0 if options.test_fraction == 1 else options.validation_fraction
    if "validation" in known or not fraction:
        return listed, _BY_FILES, ()
    return carved(listed, fraction), f"{_BY_FILES}{CARVED}", ("train", "validation")


def _chosen(examples: UniqueNames, chosen: ChosenSplits) -> Iterator[SourceExample]:
    for example in examples:
        if split := chosen.split_of(example.name):
            yield dataclasses.replace(example, split=split)


def _paths(place: str) -> list[str]:
    root = files.fixed_part(place)
    if root == place and not files.is_folder(place):
        return [place]
    if not files.is_folder(root):
        raise UserError(f"--raw_dir: {root} is not a folder")
    found = sorted(path for _, path in files.list_pictures(place))
    found = [p for p in found if _NAME.fullmatch(p.rpartition("/")[2])]
    found = [p for p in found if not files.is_twin(p.rpartition("/")[2])]
    if not found:
        raise UserError(f"--raw_dir: {place} holds no TFRecord file, such as train-*.tfrecord")
    return found


def _records(path: str) -> Iterator[tuple[StoredFile, Mapping]]:
    """Yields each record of a file: where it is, and its features."""
    count = 0
    try:
        with epath.Path(path).open("rb") as file:
            for frame in tfrecord.read_frames(file):
                if not frame.intact:
                    raise tfrecord.DamagedFrame("its checksum differs")
                features = tf.train.Example.FromString(frame.data).features.feature
                yield StoredFile(path, len(frame.data), frame.offset), features
                count += 1
    except OSError as error:
        raise UserError(f"--raw_dir: {path}: {error.strerror or error}") from error
    except (tfrecord.DamagedFrame, DecodeError) as error:
        reason = "it is compressed; write it without compression" if _is_gzip(path) else error
        raise FaultFound(f"--raw_dir: {path}, record {count}: {reason}") from error


def _is_gzip(path: str) -> bool:
    return StoredFile(path, len(_GZIP), 0).read() == _GZIP


def _names(features: Mapping) -> tuple[str, str]:
    """Returns the name of a record's example and of its image's file; empty if unknown."""
    name, file_name = (
        _bytes(features, key).decode(errors="surrogateescape")
        for key in (record.SOURCE_ID, record.FILENAME)
    )
    name = name or file_name
    stem = name[: name.rindex(".")] if files.is_picture_name(name) else name
    return stem, file_name.rpartition("/")[2]


def _bytes(features: Mapping, key: str) -> bytes:
    values = features[key].bytes_list.value if key in features else ()
    return values[0] if values else b""
