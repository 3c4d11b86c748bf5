import itertools

import numpy as np
import pytest
import tensorflow as tf

from petseg import record
from petseg.conversion import shards
from petseg.input_pipeline import batches
from petseg.label_map import IGNORE, parse_label_map

SIZE = 32
CLASS_IDS = parse_label_map("a=0,1,2,3; b=4,5,6,7; ignored=8").class_ids()


def coordinate_record(index: int, height: int, width: int) -> record.Record:
    """An image that says in its blue channel which it is and in red and green where."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)[None, :]
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    image[..., 2] = 10 * index
    # The mask's value follows the image's red: 0-7 in eight equal columns.
    mask = np.repeat((np.arange(width) * 8 // width)[None, :], height, 0).astype(np.uint8)
    return record.Record(
        name=f"image_{index}",
        filename=f"image_{index}.jpg",
        image=tf.io.encode_jpeg(image, quality=100, chroma_downsampling=False).numpy(),
        mask=tf.io.encode_png(mask[..., None]).numpy(),
        height=height,
        width=width,
        class_label=0,
        class_text="",
    )


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[str]:
    """23 records of several sizes in three shards of 11, 7 and 5."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    found, index = [], 0
    for place, count in enumerate((11, 7, 5)):
        path = str(folder / shards.shard_name("x", "train", place, 3))
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(count):
                height, width = (int(n) for n in rng.integers(40, 90, 2))
                writer.write(record.encode_record(coordinate_record(index, height, width)))
                index += 1
        found.append(path)
    return found


def train_batches(paths, start_step=0, **changes):
    arguments = {
        "num_records": 23,
        "class_ids": CLASS_IDS,
        "image_size": SIZE,
        "batch_size": 4,
        "shuffle_records": 10,
        "flip": True,
        "min_crop_area": 0.3,
        "max_crop_aspect": 1.5,
        "seed": 5,
    }
    return batches.make_for_train(paths, start_step=start_step, **{**arguments, **changes})


def take(dataset, count):
    return [
        {key: value.numpy() for key, value in batch.items()}
        for batch in itertools.islice(dataset, count)
    ]


def index_of(image: np.ndarray) -> int:
    return round(float(np.median(image[..., 2])) / 10)


def assert_same(some, others):
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("start", [1, 5, 6, 11, 12, 17])
def test_a_resumed_run_sees_the_batches_of_the_straight_one(paths, start):
    straight = take(train_batches(paths), 20)
    assert_same(straight[start:], take(train_batches(paths, start_step=start), 20 - start))


def test_two_runs_agree_and_another_seed_differs(paths):
    first = take(train_batches(paths), 8)
    assert_same(first, take(train_batches(paths), 8))
    other = take(train_batches(paths, seed=6), 8)
    assert any((a["image"] != b["image"]).any() for a, b in zip(first, other, strict=True))


def test_every_epoch_shows_every_example_once_in_an_order_of_its_own(paths):
    whole = train_batches(paths, batch_size=23)
    orders = [[index_of(image) for image in batch["image"]] for batch in take(whole, 3)]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    # Across epochs too, when batches do not divide them: 4 epochs are 23 batches of 4.
    seen = [index_of(i) for batch in take(train_batches(paths), 23) for i in batch["image"]]
    for epoch in range(4):
        assert sorted(seen[23 * epoch : 23 * (epoch + 1)]) == list(range(23))


def test_augmentation_differs_from_epoch_to_epoch(paths):
    # One shard and no shuffle: an example has the same place in every epoch.
    ordered = train_batches(paths[:1], num_records=11, batch_size=11, shuffle_records=1)
    first, second = take(ordered, 2)
    assert list(map(index_of, first["image"])) == list(map(index_of, second["image"]))
    changed = (first["image"] != second["image"]).any(axis=(1, 2, 3))
    assert changed.sum() >= 9


@pytest.mark.parametrize("min_crop_area", [1.0, 0.3])
def test_image_and_mask_move_together(paths, min_crop_area):
    for batch in take(train_batches(paths, min_crop_area=min_crop_area), 12):
        red = batch["image"][..., 0].astype(float)
        mask = batch["mask"]
        assert set(np.unique(mask)) <= {0, 1}
        # Class 1 is the image's right half, where red is above one half; a pixel's
        # width on either side may be blended by the resize.
        assert (mask[red > 140] == 1).all()
        assert (mask[red < 115] == 0).all()


def test_types_and_shapes_are_those_of_the_docstring(paths):
    spec = train_batches(paths).element_spec
    assert spec["image"] == tf.TensorSpec([4, SIZE, SIZE, 3], tf.uint8)
    assert spec["mask"] == tf.TensorSpec([4, SIZE, SIZE], tf.uint8)


@pytest.mark.parametrize("batch_size", [1, 4, 8, 23, 30])
def test_evaluation_shows_every_example_exactly_once(paths, batch_size):
    dataset = batches.make_for_eval(
        paths, class_ids=CLASS_IDS, image_size=SIZE, batch_size=batch_size
    )
    found = take(dataset, 100)
    assert len(found) == -(-23 // batch_size)
    assert all(batch["image"].shape == (batch_size, SIZE, SIZE, 3) for batch in found)
    weights = np.concatenate([batch["weight"] for batch in found])
    images = np.concatenate([batch["image"] for batch in found])
    masks = np.concatenate([batch["mask"] for batch in found])
    assert weights.tolist() == [1] * 23 + [0] * (len(weights) - 23)
    assert sorted(index_of(image) for image in images[:23]) == list(range(23))
    assert (masks[:23] != IGNORE).all()
    assert (masks[23:] == IGNORE).all()
    assert_same(found, take(dataset, 100))


def test_masks_are_sampled_at_pixel_centres():
    # Eight columns of labels shown at four times their size, and back.
    small = np.arange(8, dtype=np.uint8).reshape(1, 8, 1).repeat(8, 0)
    large = batches.resize_mask(tf.constant(small), 32).numpy()
    assert (large[..., 0] == np.arange(8).repeat(4)).all()
    assert (batches.resize_mask(tf.constant(large), 8).numpy() == small).all()


def test_ignored_raw_values_become_the_ignore_id(tmp_path):
    item = coordinate_record(0, 40, 40)
    mask = tf.io.encode_png(np.full((40, 40, 1), 8, np.uint8)).numpy()
    path = str(tmp_path / "x.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(record.encode_record(record.Record(**{**vars(item), "mask": mask})))
    (batch,) = take(
        batches.make_for_eval([path], class_ids=CLASS_IDS, image_size=SIZE, batch_size=1), 2
    )
    assert (batch["mask"] == IGNORE).all()
