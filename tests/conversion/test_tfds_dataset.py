import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from testing.conversion import write

from petseg.conversion.sources import tfds_dataset
from petseg.conversion.sources.base import MaskRules, SourceOptions
from petseg.data import manifest, record
from petseg.errors import FaultFound, UserError


def listing_of(dataset, rules=None, **changes):
    options = {"validation_fraction": 0.25, "mask_rules": rules or MaskRules(None), **changes}
    return tfds_dataset.list_tfds(SourceOptions(raw_dir=str(dataset), **options))


def stored(data_dir) -> dict[str, tuple]:
    """Name -> split, image bytes, mask bytes, label, text."""
    found = {}
    for name, split in manifest.read_manifest(str(data_dir)).splits.items():
        for serialized in tf.data.TFRecordDataset(manifest.shard_paths(str(data_dir), split)):
            features = tf.train.Example.FromString(serialized.numpy()).features.feature
            key = features[record.SOURCE_ID].bytes_list.value[0].decode()
            found[key] = (
                name,
                features[record.IMAGE].bytes_list.value[0],
                features[record.MASK].bytes_list.value[0],
                features[record.CLASS_LABEL].int64_list.value[0],
                features[record.CLASS_TEXT].bytes_list.value[0],
            )
    return found


def test_petsegs_own_output_converts_to_itself(data_dir, tmp_path):
    finished = write(lambda: listing_of(data_dir), tmp_path / "out")
    original = manifest.read_manifest(str(data_dir))
    for path in data_dir.glob("*.tfrecord-*"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert finished.raw_labels == original.raw_labels
    assert finished.splits.keys() == original.splits.keys()


@pytest.fixture(scope="session")
def prepared(raw_pets, tmp_path_factory):
    """The toy pets as TFDS's own builder stores them: train and test, a label, other keys."""

    class ToyPets(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.3")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(encoding_format="jpeg"),
                        "segmentation_mask": tfds.features.Image(
                            shape=(None, None, 1), encoding_format="png"
                        ),
                        "preview": tfds.features.Image(shape=(None, None, 4)),
                        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                        "file_name": tfds.features.Text(),
                    }
                ),
            )

        def _split_generators(self, _):
            return {name: self._generate_examples(name) for name in ("trainval", "test")} | {
                "train": self._generate_examples("trainval")
            }

        def _generate_examples(self, which):
            for line in (raw_pets / "annotations" / f"{which}.txt").read_text().splitlines():
                name, _, species, _ = line.split()
                yield (
                    name,
                    {
                        "image": str(raw_pets / "images" / f"{name}.jpg"),
                        "segmentation_mask": str(
                            raw_pets / "annotations" / "trimaps" / f"{name}.png"
                        ),
                        "preview": np.zeros((2, 2, 4), np.uint8),
                        "label": int(species) - 1,
                        "file_name": f"{name}.jpg",
                    },
                )

    folder = tmp_path_factory.mktemp("tfds")
    builder = ToyPets(data_dir=str(folder), file_format="tfrecord")
    builder.download_and_prepare()
    return builder.data_dir


def test_a_tfds_data_set_keeps_its_bytes_splits_and_labels(prepared, raw_pets, tmp_path):
    rules = MaskRules({1: "pet", 2: "background", 3: "border"})
    finished = write(lambda: listing_of(prepared, rules), tmp_path / "out")
    found = stored(tmp_path / "out")
    lists = {
        name: {
            line.split()[0]: int(line.split()[2])
            for line in (raw_pets / "annotations" / f"{name}.txt").read_text().splitlines()
        }
        for name in ("trainval", "test")
    }
    assert found.keys() == lists["trainval"].keys() | lists["test"].keys()
    for name, (split, image, mask, label, text) in found.items():
        assert image == (raw_pets / "images" / f"{name}.jpg").read_bytes()
        assert mask == (raw_pets / "annotations" / "trimaps" / f"{name}.png").read_bytes()
        assert (split == "test") == (name in lists["test"])
        assert label == {**lists["trainval"], **lists["test"]}[name] - 1
        assert text == (b"cat", b"dog")[label]
    assert {split for split, *_ in found.values()} == {"train", "validation", "test"}
    assert [(f.name, f.reason[:8]) for f in finished.rejected] == [("trainval", "split of")]


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_no_share_leaves_train_or_validation_empty(prepared, fraction):
    listing = listing_of(prepared, validation_fraction=fraction)
    assert {e.split for e in listing.examples} == {"train", "validation", "test"}


def test_a_value_is_ignored_in_the_names_that_the_data_set_has(data_dir):
    rules = listing_of(data_dir, MaskRules(None, ignored=3)).masks
    assert rules.names == {1: "pet", 2: "background", 3: "ignored"}


def test_mask_values_without_a_name_are_named_by_their_number(prepared, tmp_path):
    finished = write(lambda: listing_of(prepared), tmp_path / "out")
    assert finished.raw_labels == {1: "value_1", 2: "value_2", 3: "value_3"}


def test_features_can_be_chosen_and_wrong_names_are_refused(prepared):
    listing = listing_of(prepared, image_feature="image", mask_feature="segmentation_mask")
    assert {e.pair.image_key for e in listing.examples} == {"image"}
    with pytest.raises(
        UserError, match="no picture 'x'; there are image, preview, segmentation_mask"
    ):
        listing_of(prepared, mask_feature="x")


def test_a_folder_that_is_no_tfds_data_set_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no TFDS data set"):
        listing_of(tmp_path)


def test_a_damaged_record_of_the_source_is_reported(prepared, tmp_path):
    builder = tfds.builder_from_directory(prepared)
    path = next(p for p in builder.data_path.iterdir() if "test.tfrecord" in p.name)
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    try:
        path.write_bytes(content)
        with pytest.raises(FaultFound, match="record 0: its checksum differs"):
            listing_of(prepared)
    finally:
        content[40] ^= 1
        path.write_bytes(content)


def test_duplicate_names_get_their_split_and_index():
    example = tfds_dataset.SourceExample("a", "train", pair=None)
    other = dataclasses.replace(example, name="b")
    names = [e.name for e in tfds_dataset._with_unique_names([example, other, example])]
    assert names == ["train-0000000-a", "b", "train-0000002-a"]
