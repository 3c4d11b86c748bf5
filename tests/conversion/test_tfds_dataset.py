import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from testing.conversion import taken, write

from petseg.conversion.sources import tfds_dataset
from petseg.conversion.sources.base import MaskRules, SourceOptions
from petseg.data import manifest, record
from petseg.errors import FaultFound, UserError


def listing_of(dataset, rules=None, **changes):
    options = {"validation_fraction": 0.25, "mask_rules": rules or MaskRules(None), **changes}
    return taken(tfds_dataset.list_tfds(SourceOptions(raw_dir=str(dataset), **options)))


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


def test_a_second_ignored_value_is_refused(data_dir, tmp_path):
    copy = shutil.copytree(data_dir, tmp_path / "copy")
    known = manifest.read_manifest(str(copy))
    names = {1: "pet", 2: "background", 3: "ignored"}
    manifest.write_manifest(str(copy), dataclasses.replace(known, raw_labels=names))
    assert listing_of(copy, MaskRules(None, ignored=3)).masks.names == names
    with pytest.raises(UserError, match="ignores value 3 already"):
        listing_of(copy, MaskRules(None, ignored=2))


def test_an_image_is_not_its_own_mask(prepared):
    with pytest.raises(UserError, match="each image would be its own mask; there are image, prev"):
        listing_of(prepared, image_feature="image", mask_feature="image")


def test_a_name_of_tfds_needs_no_network_once_it_is_prepared(raw_pets, tmp_path, monkeypatch):
    """TFDS's own builder of the pets, the README's example, offline from end to end."""
    monkeypatch.setattr(
        tfds.download.DownloadManager,
        "download_and_extract",
        lambda _, urls: {name: str(raw_pets) for name in urls},
    )
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    first = listing_of("oxford_iiit_pet:4.0.0")
    monkeypatch.setattr(
        tfds.download.DownloadManager,
        "download_and_extract",
        lambda *_: pytest.fail("it is prepared already"),
    )
    finished = write(lambda: listing_of("oxford_iiit_pet:4.0.0"), tmp_path / "out")
    found = stored(tmp_path / "out")
    assert found.keys() == {example.name for example in first.examples}
    lines = (raw_pets / "annotations" / "test.txt").read_text().splitlines()
    assert {name for name, one in found.items() if one[0] == "test"} == {
        line.split()[0] for line in lines
    }
    for name, (_, _, mask, *_) in found.items():
        truth = tf.io.decode_png((raw_pets / f"annotations/trimaps/{name}.png").read_bytes())
        np.testing.assert_array_equal(tf.io.decode_png(mask), truth)
    assert finished.raw_labels == {1: "pet", 2: "background", 3: "border"}


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
