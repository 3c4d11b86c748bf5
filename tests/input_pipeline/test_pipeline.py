import itertools

import numpy as np
import pytest
import tensorflow as tf

from petseg.augmentation import Augmentation
from petseg.data import record, shard_files
from petseg.data.label_map import IGNORE, parse_label_map
from petseg.input_pipeline import augment, pipeline, resizing
from petseg.input_pipeline.shard_reading import Shards

SIZE = 32
CLASS_IDS = parse_label_map("a=0,1,2,3; b=4,5,6,7; ignored=8").class_ids()


def coordinate_record(index: int, height: int, width: int) -> record.Record:
    """An image that says in its blue channel which it is and in red and green where."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)[None, :]
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    image[..., 2] = 7 * index
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


COUNTS = (11, 7, 5, 9, 2)
NUM = sum(COUNTS)


@pytest.fixture(scope="module")
def some(tmp_path_factory) -> Shards:
    """34 records of several sizes in five shards."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    found, index = [], 0
    for place, count in enumerate(COUNTS):
        path = str(folder / shard_files.shard_name("x", "train", place, len(COUNTS)))
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(count):
                height, width = (int(n) for n in rng.integers(40, 90, 2))
                writer.write(record.encode_record(coordinate_record(index, height, width)))
                index += 1
        found.append(path)
    return Shards(tuple(found), COUNTS)


def train_batches(some, start_step=0, **changes):
    augmentation = {"flip": True, "min_crop_area": 0.3, "max_crop_aspect": 1.5}
    augmentation |= changes.pop("augmentation", {})
    arguments = {
        "class_ids": CLASS_IDS,
        "image_size": SIZE,
        "batch_size": 4,
        "shuffle_records": 10,
        "augmentation": Augmentation(**augmentation),
        "seed": 5,
    }
    return pipeline.make_for_train(some, start_step=start_step, **{**arguments, **changes})


def take(dataset, count):
    return [
        {key: value.numpy() for key, value in batch.items()}
        for batch in itertools.islice(dataset, count)
    ]


def index_of(image: np.ndarray) -> int:
    return round(float(np.median(image[..., 2])) / 7)


def assert_same(some, others):
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


ALL_CHANGES = {
    "max_rotation_degrees": 20.0,
    "brightness": 0.2,
    "max_blur_sigma_px": 1.0,
    "cutout_area": 0.1,
    "cutmix_probability": 0.5,
}


@pytest.mark.parametrize("start", [1, 7, 8, 9, 16, 17, 18, 25])
def test_a_resumed_run_sees_the_batches_of_the_straight_one(some, start):
    straight = take(train_batches(some, augmentation=ALL_CHANGES), 28)
    resumed = train_batches(some, start_step=start, augmentation=ALL_CHANGES)
    assert_same(straight[start:], take(resumed, 28 - start))


def test_a_run_resumed_anywhere_goes_on_as_the_straight_one(some):
    """At random steps, batch sizes, buffers and shards at once, across epochs."""
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    for _ in range(12):
        settings = {
            "batch_size": int(rng.integers(1, 40)),
            "shuffle_records": int(rng.integers(1, 40)),
            "seed": int(rng.integers(2**31)),
            "image_size": 32,
        }
        steps = 3 * NUM // settings["batch_size"] + 2
        start = int(rng.integers(1, steps))
        straight = take(train_batches(some, **settings), steps)
        resumed = take(train_batches(some, start_step=start, **settings), steps - start)
        assert_same(straight[start:], resumed)


def test_two_runs_agree_and_another_seed_differs(some):
    first = take(train_batches(some), 8)
    assert_same(first, take(train_batches(some), 8))
    other = take(train_batches(some, seed=6), 8)
    assert any((a["image"] != b["image"]).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("shards_at_once", [1, 2, 8])
def test_every_epoch_shows_every_example_once_in_an_order_of_its_own(
    some, shards_at_once, monkeypatch
):
    monkeypatch.setattr(pipeline.shard_reading, "SHARDS_AT_ONCE", shards_at_once)
    whole = train_batches(some, batch_size=NUM)
    orders = [[index_of(image) for image in batch["image"]] for batch in take(whole, 3)]
    assert all(sorted(order) == list(range(NUM)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    # Across epochs too, when batches do not divide them: 2 epochs are 17 batches of 4.
    seen = [index_of(i) for batch in take(train_batches(some), 17) for i in batch["image"]]
    for epoch in range(2):
        assert sorted(seen[NUM * epoch : NUM * (epoch + 1)]) == list(range(NUM))


def test_epochs_can_be_counted(some):
    seen = [
        index_of(i)
        for batch in take(train_batches(some, batch_size=2, epochs=3), 99)
        for i in batch["image"]
    ]
    assert np.bincount(seen).tolist() == [3] * NUM


def test_augmentation_differs_from_epoch_to_epoch(some):
    # One shard and no shuffle: an example has the same place in every epoch.
    first_shard = Shards(some.paths[:1], some.records[:1])
    ordered = train_batches(first_shard, batch_size=11, shuffle_records=1)
    first, second = take(ordered, 2)
    assert list(map(index_of, first["image"])) == list(map(index_of, second["image"]))
    changed = (first["image"] != second["image"]).any(axis=(1, 2, 3))
    assert changed.sum() >= 9


@pytest.mark.parametrize("changes", [
    {"min_crop_area": 1.0},
    {"min_crop_area": 0.3},
    {"min_crop_area": 0.3, "cutmix_probability": 1.0},
    {"max_rotation_degrees": 45.0, "max_shear_degrees": 10.0, "max_zoom": 0.5, "max_shift": 0.2},
])  # fmt: skip
@pytest.mark.parametrize("keep_aspect", [False, True])
def test_image_and_mask_move_together(some, changes, keep_aspect):
    compared = 0
    for plain in take(train_batches(some, augmentation=changes, keep_aspect=keep_aspect), 12):
        batch = {key: np.asarray(value) for key, value in augment.apply(plain).items()}
        red = batch["image"][..., 0].astype(float)
        mask = batch["mask"]
        assert set(np.unique(mask)) <= {0, 1, IGNORE}
        # Class 1 is the image's right half, where red is above one half; a pixel's
        # width on either side may be blended by the resize, and black at a border.
        valid = (mask != IGNORE) & ~near(mask == IGNORE)
        compared += valid.sum()
        assert (mask[(red > 150) & valid] == 1).all()
        assert (mask[(red < 105) & valid] == 0).all()
    assert compared > 12 * 4 * SIZE * SIZE / 3


def near(pixels: np.ndarray) -> np.ndarray:
    """The pixels, and those beside them."""
    padded = np.pad(pixels, [(0, 0), (1, 1), (1, 1)])
    return np.any(
        [padded[:, y : y + SIZE, x : x + SIZE] for y in range(3) for x in range(3)], axis=0
    )


@pytest.mark.parametrize("num_workers", [2, 4])
def test_workers_share_each_batch_record_by_record(some, num_workers, capfd):
    """Five shards divide by neither: together the workers see what one alone would."""
    straight = take(train_batches(some, batch_size=8), 12)
    parts = [
        take(train_batches(some, batch_size=8, worker=worker, num_workers=num_workers), 12)
        for worker in range(num_workers)
    ]
    for step, batch in enumerate(straight):
        joined = {
            key: np.concatenate([part[step][key] for part in parts]) for key in ("image", "mask")
        }
        assert_same([batch], [joined])
    said = capfd.readouterr().err
    assert said.count(f"{num_workers} workers share the training images by record") == 1


def test_workers_share_an_epoch_file_by_file(some, capfd):
    own = [
        [
            index_of(image)
            for batch in take(
                train_batches(some, batch_size=5, worker=worker, num_workers=5, epochs=1), 99
            )
            for image in batch["image"]
        ]
        for worker in range(5)
    ]
    assert [len(indices) for indices in own] == list(COUNTS)
    assert sorted(itertools.chain(*own)) == list(range(NUM))
    assert capfd.readouterr().err.count("by file: 1 shard(s) each") == 1


def test_the_images_of_any_batch_can_be_named(some):
    for step, batch in enumerate(take(train_batches(some), 20)):
        names = pipeline.names_in_batch([some], shuffle_records=10, seed=5, step=step, batch_size=4)
        assert names == [f"image_{index_of(image)}" for image in batch["image"]]


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_workers_share_an_evaluation_and_all_get_as_many_batches(some, num_workers):
    seen = []
    for worker in range(num_workers):
        dataset = pipeline.make_for_eval(
            some.paths, class_ids=CLASS_IDS, image_size=SIZE, batch_size=8,
            worker=worker, num_workers=num_workers,
        )  # fmt: skip
        own = take(dataset, 99)
        assert len(own) == 5  # 34 records
        for batch in own:
            assert len(batch["image"]) == 8 // num_workers
            filled = batch["weight"] == 0
            assert (batch["mask"][filled] == IGNORE).all() and not batch["image"][filled].any()
            seen += [index_of(image) for image in batch["image"][~filled]]
    assert sorted(seen) == list(range(NUM))


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_service_gives_every_example_exactly_once_per_epoch(some, epochs):
    """From a dispatcher and two workers in this process."""
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=0))
    address = dispatcher.target.split("://")[1]
    workers = [
        service.WorkerServer(service.WorkerConfig(dispatcher_address=address)) for _ in range(2)
    ]
    dataset = train_batches(some, batch_size=2, epochs=epochs, service_address=dispatcher.target)
    seen = [index_of(image) for batch in take(dataset, 999) for image in batch["image"]]
    assert np.bincount(seen).tolist() == [epochs] * NUM
    assert all(len(batch["image"]) == 2 for batch in take(dataset, 3))
    for server in (*workers, dispatcher):
        server._stop()


def test_large_images_are_decoded_smaller_and_still_show_the_same(tmp_path):
    """A window of 8 times the size and more goes through each of libjpeg's reductions."""
    for sides in ((64, 66), (131, 140), (259, 300), (517, 530)):
        path = str(tmp_path / f"{sides[0]}.tfrecord")
        item = coordinate_record(0, *sides)
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(record.encode_record(item))
        (batch,) = take(
            train_batches(
                Shards((path,), (1,)), batch_size=1, epochs=1, augmentation={"flip": False}
            ),
            2,
        )
        (whole,) = take(
            train_batches(
                Shards((path,), (1,)),
                batch_size=1,
                epochs=1,
                augmentation={"flip": False, "min_crop_area": 1.0},
            ),
            2,
        )
        reference = resizing.resize_image(record.decode_image(item.image), SIZE).numpy()
        difference = np.abs(whole["image"][0].astype(int) - reference)
        assert difference[..., :2].max() <= 8, sides  # a pixel is 8 levels wide
        red, mask = batch["image"][..., 0].astype(int), batch["mask"]
        assert (mask[red > 140] == 1).all() and (mask[red < 115] == 0).all()


def test_types_and_shapes_are_those_of_the_docstring(some):
    spec = train_batches(some).element_spec
    assert spec["image"] == tf.TensorSpec([4, SIZE, SIZE, 3], tf.uint8)
    assert spec["mask"] == tf.TensorSpec([4, SIZE, SIZE], tf.uint8)


@pytest.mark.parametrize("batch_size", [1, 4, 8, 23, 30])
def test_evaluation_shows_every_example_exactly_once(some, batch_size):
    dataset = pipeline.make_for_eval(
        some.paths, class_ids=CLASS_IDS, image_size=SIZE, batch_size=batch_size
    )
    found = take(dataset, 100)
    assert len(found) == -(-NUM // batch_size)
    assert all(batch["image"].shape == (batch_size, SIZE, SIZE, 3) for batch in found)
    weights = np.concatenate([batch["weight"] for batch in found])
    images = np.concatenate([batch["image"] for batch in found])
    masks = np.concatenate([batch["mask"] for batch in found])
    assert weights.tolist() == [1] * NUM + [0] * (len(weights) - NUM)
    assert sorted(index_of(image) for image in images[:NUM]) == list(range(NUM))
    assert (masks[:NUM] != IGNORE).all()
    assert (masks[NUM:] == IGNORE).all()
    assert_same(found, take(dataset, 100))


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_single_examples_are_those_of_the_evaluation_and_originals_those_of_the_shards(
    some, keep_aspect
):
    settings = {"class_ids": CLASS_IDS, "image_size": SIZE, "keep_aspect": keep_aspect}
    (whole,) = take(pipeline.make_for_eval(some.paths, batch_size=NUM, **settings), 1)
    places = [33, 0, 12, 5]
    found = pipeline.read_examples(some.paths, places, **settings)
    originals = {one.place: one for one in pipeline.read_originals(some.paths, places)}
    assert sorted(originals) == sorted(places)
    for row, place in enumerate(places):
        np.testing.assert_array_equal(found["image"][row], whole["image"][place])
        np.testing.assert_array_equal(found["mask"][row], whole["mask"][place])
        one = originals[place]
        assert one.name == found["name"][row] == one.filename.removesuffix(".jpg")
        resized = resizing.resize_image(one.image, SIZE, keep_aspect)
        np.testing.assert_array_equal(resized, whole["image"][place])
    assert [one.place for one in pipeline.read_originals(some.paths)] == list(range(NUM))


def test_masks_are_sampled_at_pixel_centres():
    # Eight columns of labels shown at four times their size, and back.
    small = np.arange(8, dtype=np.uint8).reshape(1, 8).repeat(8, 0)
    large = resizing.resize_mask(tf.constant(small), 32).numpy()
    assert (large == np.arange(8).repeat(4)).all()
    assert (resizing.resize_mask(tf.constant(large), 8).numpy() == small).all()


def test_ignored_raw_values_become_the_ignore_id(tmp_path):
    item = coordinate_record(0, 40, 40)
    mask = tf.io.encode_png(np.full((40, 40, 1), 8, np.uint8)).numpy()
    path = str(tmp_path / "x.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(record.encode_record(record.Record(**{**vars(item), "mask": mask})))
    (batch,) = take(
        pipeline.make_for_eval([path], class_ids=CLASS_IDS, image_size=SIZE, batch_size=1), 2
    )
    assert (batch["mask"] == IGNORE).all()


def test_evaluation_keeps_the_aspect_if_asked(tmp_path):
    path = str(tmp_path / "x.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for sides in ((40, 80), (80, 40)):
            writer.write(record.encode_record(coordinate_record(0, *sides)))
    (batch,) = take(
        pipeline.make_for_eval(
            [path], class_ids=CLASS_IDS, image_size=SIZE, batch_size=2, keep_aspect=True
        ),
        2,
    )
    wide, tall = batch["mask"]
    half = SIZE // 2
    assert (wide[:half] != IGNORE).all() and (wide[half:] == IGNORE).all()
    assert (tall[:, :half] != IGNORE).all() and (tall[:, half:] == IGNORE).all()
    assert (batch["image"][0][half:] == 0).all() and (batch["image"][1][:, half:] == 0).all()
    # The right half of what is left is class 1.
    assert (wide[:half, half:] == 1).all() and (tall[:, half // 2 : half] == 1).all()
