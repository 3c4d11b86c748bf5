"""Any TFDS data set with an image and a segmentation mask; petseg's own output too."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping

import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath

from petseg.conversion import files
from petseg.conversion.files import StoredFile
from petseg.conversion.sources import oxford_iiit_pet
from petseg.conversion.sources.base import (
    SPLIT_OF,
    MaskRules,
    SourceExample,
    SourceListing,
    Unreadable,
    check_fractions,
    split_by_hash,
)
from petseg.data import manifest, record, tfrecord
from petseg.data.manifest import Finding
from petseg.errors import FaultFound, UserError

# Text features that name an example, and those that name its file; the best first.
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
        """The size of the record."""
        return self.stored.bytes

    def read(self) -> tuple[bytes, bytes]:
        """The image's and the mask's content; raises Unreadable."""
        try:
            features = tf.train.Example.FromString(self.stored.read()).features.feature
            return _bytes(features, self.image_key), _bytes(features, self.mask_key)
        except (OSError, IndexError) as error:
            raise Unreadable(f"record cannot be read: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Keys:
    """Which features of a TFDS data set petseg reads."""

    image: str
    mask: str
    label: str | None
    name: str | None
    file_name: str | None
    class_names: tuple[str, ...]


def list_tfds(
    dataset: str,
    mask_rules: MaskRules | None,
    *,
    image_feature: str,
    mask_feature: str,
    validation_fraction: float,
) -> SourceListing:
    """Lists a TFDS data set, record by record, without decoding a picture.

    Where it has no validation split, that is taken out of train by a hash of each name.

    Args:
      dataset: a folder that TFDS wrote, or a name such as 'oxford_iiit_pet:4.0.0', which
        TFDS downloads and prepares if it is not there.
      mask_rules: what the masks may hold; None for what the data set itself says.
      image_feature: the image's feature, as in 'image'; empty for the only one.
      mask_feature: likewise, of one channel.
      validation_fraction: share of train's names that becomes validation.

    Raises:
      UserError: there is no such data set, or not one image and one mask in it.
      FaultFound: one of its files is damaged.
    """
    check_fractions(validation_fraction)
    builder = _builder(dataset)
    keys = _find_keys(builder.info.features, image_feature, mask_feature)
    examples, rejected, splits = [], [], {}
    for name, info in builder.info.splits.items():
        splits[name] = SPLIT_OF.get(name.lower())
        if splits[name] is None:
            reason = (
                f"split of {info.num_examples:,} examples; petseg knows train, validation, test"
            )
            rejected.append(Finding(name, "", reason))
            continue
        examples += _list_split([str(p) for p in info.filepaths], splits[name], keys)
    examples = _with_unique_names(examples)
    split_by = "the data set's own splits"
    if "validation" not in splits.values() and validation_fraction:
        split_by += ", validation out of train by a hash of each name"
        examples = [
            dataclasses.replace(example, split=split_by_hash(example.name, validation_fraction, 0))
            if example.split == "train"
            else example
            for example in examples
        ]
    if not examples:
        raise UserError(f"--raw_dir: {dataset} holds no example of train, validation or test")
    return SourceListing(
        tuple(examples),
        tuple(rejected),
        mask_rules or _own_mask_rules(dataset, builder.name),
        keys.class_names,
        split_by,
    )


def _builder(dataset: str) -> tfds.core.DatasetBuilder:
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
    features: tfds.features.FeaturesDict, image_feature: str, mask_feature: str
) -> _Keys:
    flat = dict(_flatten(features))
    pictures = {key: f for key, f in flat.items() if isinstance(f, tfds.features.Image)}
    labels = [key for key, f in flat.items() if isinstance(f, tfds.features.ClassLabel)]
    label = next((key for key in (record.CLASS_LABEL, "label") if key in labels), None)
    return _Keys(
        image=_the_one(pictures, image_feature, "image_feature", _CHANNELS_OF_IMAGE),
        mask=_the_one(pictures, mask_feature, "mask_feature", _CHANNELS_OF_MASK),
        label=label,
        name=next((key for key in _NAMES if key in flat), None),
        file_name=next((key for key in _FILE_NAMES if key in flat), None),
        class_names=tuple(flat[label].names) if label else _NO_CLASSES,
    )


def _flatten(
    features: Mapping, prefix: str = ""
) -> Iterator[tuple[str, tfds.features.FeatureConnector]]:
    """Features by the keys that they have in a record: nested names joined by '/'."""
    for name, feature in features.items():
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _flatten(feature, f"{prefix}{name}/")
        else:
            yield prefix + name, feature


def _the_one(pictures: Mapping, wanted: str, flag: str, channels: int) -> str:
    there_are = ", ".join(sorted(pictures)) or "none"
    if wanted:
        if wanted not in pictures:
            raise UserError(f"--{flag}: no picture '{wanted}'; there are {there_are}")
        return wanted
    fitting = [key for key, feature in pictures.items() if feature.shape[-1] == channels]
    if len(fitting) != 1:
        raise UserError(
            f"--{flag}: name one of the data set's pictures, {there_are}: "
            f"{len(fitting)} of them have {channels} channel(s)"
        )
    return fitting[0]


def _list_split(paths: list[str], split: str, keys: _Keys) -> list[SourceExample]:
    examples = []
    for path in paths:
        try:
            with epath.Path(path).open("rb") as file:
                for frame in tfrecord.read_frames(file):
                    examples.append(_example(frame, path, split, len(examples), keys))
        except (tfrecord.DamagedFrame, OSError) as error:
            raise FaultFound(f"--raw_dir: {path}, record {len(examples)}: {error}") from error
    return examples


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


def _with_unique_names(examples: list[SourceExample]) -> list[SourceExample]:
    """Names that stand twice get their split and place, which are the data set's own."""
    count = collections.Counter(example.name for example in examples)
    return [
        dataclasses.replace(example, name=f"{example.split}-{index:07d}-{example.name}")
        if count[example.name] > 1
        else example
        for index, example in enumerate(examples)
    ]


def _own_mask_rules(dataset: str, builder_name: str) -> MaskRules:
    if (epath.Path(dataset) / manifest.FILE_NAME).exists():
        found = manifest.read_manifest(dataset)
        return MaskRules(found.raw_labels, {c: value for value, c in found.colours.items()})
    return MaskRules(oxford_iiit_pet.LABELS if builder_name == "oxford_iiit_pet" else None)
