"""The source `tfds`: any TFDS data set with an image and a mask, petseg's own included."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import tensorflow as tf
from etils import epath

from petseg.conversion import files
from petseg.conversion.files import StoredFile
from petseg.conversion.sources.base import (
    SPLIT_OF,
    MaskRules,
    Source,
    SourceExample,
    SourceListing,
    SourceOptions,
    Unreadable,
    check_fractions,
    read_stored,
    require_raw_dir,
)
from petseg.conversion.splits import CARVED, carve
from petseg.conversion.unique_names import UniqueNames
from petseg.data import manifest, record, tfrecord
from petseg.data.label_map import IGNORED
from petseg.data.manifest import Finding
from petseg.errors import FaultFound, UserError
from petseg.registry import SOURCES

# Importing it takes seconds, and only this source's own functions need it.
if TYPE_CHECKING:
    import tensorflow_datasets as tfds

# Text features that name an example's file, and those that name an example; the best first.
_FILE_NAMES = (record.FILENAME, "file_name", "filename")
_NAMES = (record.SOURCE_ID, *_FILE_NAMES, "image_id", "id")
_NO_CLASSES = ("unlabelled",)
_CHANNELS_OF_IMAGE, _CHANNELS_OF_MASK = 3, 1


@dataclasses.dataclass(frozen=True, slots=True)
class RecordPair:
    """An image and a mask in one tf.train.Example of a TFRecord file."""

    stored: StoredFile
    image_key: str
    mask_key: str
    image_name: str

    @property
    def bytes(self) -> int:
        """The size of the record, in bytes."""
        return self.stored.bytes

    def read(self) -> tuple[bytes, bytes]:
        """Reads the image and the mask; raises Unreadable, or FaultFound if the machine fails."""
        content = read_stored(self.stored, "record")
        try:
            features = tf.train.Example.FromString(content).features.feature
            return _bytes(features, self.image_key), _bytes(features, self.mask_key)
        except IndexError as error:
            raise Unreadable(f"record cannot be read: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Keys:
    """The features of a TFDS data set that petseg reads."""

    image: str
    mask: str
    label: str | None
    name: str | None
    file_name: str | None
    class_names: tuple[str, ...]


def list_tfds(options: SourceOptions) -> SourceListing:
    """Lists a TFDS data set, record by record, without decoding a picture.

    If it has no validation split, that is taken out of train by a hash of each name.

    Args:
      options: `raw_dir` is a folder that TFDS wrote, or a name such as
        'oxford_iiit_pet:4.0.0', which TFDS downloads and prepares if necessary.
        `image_feature` and `mask_feature` are names such as 'image'; by default the only
        feature of three channels, and the only one of one channel. Without names in
        `mask_rules`, the data set decides what its masks may contain.

    Raises:
      UserError: There is no such data set, or it does not have one image and one mask.
      FaultFound: One of its files is damaged.
    """
    require_raw_dir(options, "tfds")
    dataset, validation_fraction = options.raw_dir, options.validation_fraction
    check_fractions(validation_fraction)
    builder = _builder(dataset)
    keys = _find_keys(builder.info.features, options.image_feature, options.mask_feature)
    examples, rejected, splits = UniqueNames(), [], {}
    for name, info in builder.info.splits.items():
        splits[name] = SPLIT_OF.get(name.lower())
        if splits[name] is None:
            reason = (
                f"split of {info.num_examples:,} examples; petseg knows train, validation, test"
            )
            rejected.append(Finding(name, "", reason))
            continue
        for example in _read_split([str(p) for p in info.filepaths], splits[name], keys):
            examples.add(example)
    if not examples:
        raise UserError(f"--raw_dir: {dataset} has no example of train, validation or test")
    split_by, hashed = "the data set's own splits", ()
    listed: Iterable[SourceExample] = examples
    if "validation" not in splits.values() and validation_fraction:
        split_by += CARVED
        hashed = ("train", "validation")
        listed = carved(examples, validation_fraction)
    rules = options.mask_rules
    if rules.names is None:
        rules = _mask_rules_of(dataset, builder.name, rules.ignored)
    return SourceListing(listed, tuple(rejected), rules, keys.class_names, split_by, hashed)


TFDS = Source(
    list_examples=list_tfds,
    options=("classes", "ignore_id", "binary", "threshold", "image_feature", "mask_feature"),
)


def _builder(dataset: str) -> "tfds.core.DatasetBuilder":
    import tensorflow_datasets as tfds

    if epath.Path(dataset).is_dir():
        try:
            builder = tfds.builder_from_directory(dataset)
        except (OSError, ValueError, tfds.core.dataset_info.DatasetInfoFileError) as error:
            raise UserError(f"--raw_dir: {dataset} is no TFDS data set: {_line(error)}") from error
    else:
        try:
            builder = tfds.builder(dataset, file_format="tfrecord")
            builder.download_and_prepare()
        except (tfds.core.registered.DatasetNotFoundError, ValueError, OSError) as error:
            raise UserError(f"--raw_dir: {dataset}: {_line(error)}") from error
    if builder.info.file_format != tfds.core.file_adapters.FileFormat.TFRECORD:
        raise UserError(
            f"--raw_dir: {dataset} is stored as {builder.info.file_format.value}; prepare it with "
            "tfds build --file_format=tfrecord"
        )
    return builder


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _find_keys(
    features: "tfds.features.FeaturesDict", image_feature: str, mask_feature: str
) -> _Keys:
    import tensorflow_datasets as tfds

    flat = dict(_flatten(features))
    pictures = {key: f for key, f in flat.items() if isinstance(f, tfds.features.Image)}
    labels = [key for key, f in flat.items() if isinstance(f, tfds.features.ClassLabel)]
    label = next((key for key in (record.CLASS_LABEL, "label") if key in labels), None)
    image = _the_one(pictures, image_feature, "image_feature", _CHANNELS_OF_IMAGE)
    mask = _the_one(pictures, mask_feature, "mask_feature", _CHANNELS_OF_MASK)
    if image == mask:
        raise UserError(
            f"--image_feature and --mask_feature are both '{image}', so that each image would be "
            f"its own mask; there are {', '.join(sorted(pictures))}"
        )
    return _Keys(
        image=image,
        mask=mask,
        label=label,
        name=next((key for key in _NAMES if key in flat), None),
        file_name=next((key for key in _FILE_NAMES if key in flat), None),
        class_names=tuple(flat[label].names) if label else _NO_CLASSES,
    )


def _flatten(
    features: Mapping, prefix: str = ""
) -> Iterator[tuple[str, "tfds.features.FeatureConnector"]]:
    """Yields each feature with its key in a record: nested names joined by '/'."""
    import tensorflow_datasets as tfds

    for name, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _flatten(feature, f"{prefix}{name}/")
        else:
            yield prefix + name, feature


def _the_one(pictures: Mapping, wanted: str, flag: str, channels: int) -> str:
    existing = ", ".join(sorted(pictures)) or "none"
    if wanted:
        if wanted not in pictures:
            raise UserError(f"--{flag}: no picture '{wanted}'; there are {existing}")
        return wanted
    fitting = [key for key, feature in pictures.items() if feature.shape[-1] == channels]
    if len(fitting) != 1:
        raise UserError(
            f"--{flag}: name one of the data set's pictures, {existing}: "
            f"{len(fitting)} of them have {channels} channel(s)"
        )
    return fitting[0]


def _read_split(paths: list[str], split: str, keys: _Keys) -> Iterator[SourceExample]:
    index = 0
    for path in paths:
        try:
            with epath.Path(path).open("rb") as file:
                for frame in tfrecord.read_frames(file):
                    yield _example(frame, path, split, index, keys)
                    index += 1
        except (tfrecord.DamagedFrame, OSError) as error:
            raise FaultFound(f"--raw_dir: {path}, record {index}: {error}") from error


def _example(
    frame: tfrecord.Frame, path: str, split: str, index: int, keys: _Keys
) -> SourceExample:
    if not frame.intact:
        raise tfrecord.DamagedFrame("its checksum differs; prepare the data set again")
    features = tf.train.Example.FromString(frame.data).features.feature
    name = _text(features, keys.name) or f"{split}-{index:07d}"
    file_name = _text(features, keys.file_name) or name
    label = features[keys.label].int64_list.value[0] if keys.label else 0
    stored = StoredFile(path, len(frame.data), frame.offset)
    return SourceExample(
        name[: name.rindex(".")] if files.is_picture_name(name) else name,
        split,
        RecordPair(stored, keys.image, keys.mask, file_name.rpartition("/")[2]),
        label,
        keys.class_names[label] if 0 <= label < len(keys.class_names) else "",
    )


def _text(features: Mapping, key: str | None) -> str:
    return _bytes(features, key).decode(errors="surrogateescape") if key else ""


def _bytes(features: Mapping, key: str) -> bytes:
    return features[key].bytes_list.value[0]


def carved(examples: Iterable[SourceExample], fraction: float) -> Iterator[SourceExample]:
    """Yields examples of which a share of train, by a hash of each name, is validation."""
    of_train = carve((e.name for e in examples if e.split == "train"), fraction)
    for example in examples:
        is_train = example.split == "train"
        yield dataclasses.replace(example, split=of_train(example.name)) if is_train else example


def _mask_rules_of(dataset: str, builder_name: str, ignored: int | None) -> MaskRules:
    """Returns the rules of petseg's manifest or of the source of that name."""
    names, colours = None, {}
    if (epath.Path(dataset) / manifest.FILE_NAME).exists():
        written = manifest.read_manifest(dataset)
        names = written.raw_labels
        colours = {c: value for value, c in written.colours.items()}
    elif builder_name in SOURCES:
        names = SOURCES.get(builder_name).raw_labels
    if names is not None and ignored is not None:
        if (others := [v for v, name in names.items() if name == IGNORED]) not in ([], [ignored]):
            raise UserError(
                f"--ignore_id={ignored}: {dataset} ignores value {others[0]} already; name all "
                "classes with --classes"
            )
        names = {**names, ignored: IGNORED}
    return MaskRules(names, colours, ignored)
