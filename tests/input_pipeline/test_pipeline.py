import itertools
import math
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from petseg.augmentation import Augmentation
from petseg.data import manifest, record
from petseg.data.label_map import IGNORE, parse_label_map
from petseg.devices import Devices
from petseg.image_size import sides_of
from petseg.input_pipeline import augment, pipeline, reading, resizing, stored_examples
from petseg.input_pipeline.image_batches import ImageBatches
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.reading import Shards
from petseg.training import distribution

SIZE = 32
SIZES = (SIZE, (64, 96))
CLASS_IDS = parse_label_map("a=0,1,2,3; b=4,5,6,7; ignored=8").class_ids()


def coordinate_record(index: int, height: int, width: int) -> record.Record:
    """An image whose blue channel is its index, and whose red and green are coordinates."""
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
    paths, index = [], 0
    for shard, count in enumerate(COUNTS):
        path = str(folder / manifest.shard_name("x", "train", shard, len(COUNTS)))
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(count):
                height, width = (int(n) for n in rng.integers(40, 90, 2))
                writer.write(record.encode_record(coordinate_record(index, height, width)))
                index += 1
        paths.append(path)
    return Shards(tuple(paths), COUNTS)


def make_options(**changes) -> InputOptions:
    augmentation = {"flip": True, "min_crop_area": 0.3, "max_crop_aspect": 1.5}
    augmentation |= changes.pop("augmentation", {})
    settings = {
        "class_ids": CLASS_IDS,
        "image_size": SIZE,
        "batch_size": 4,
        "shuffle_records": 10,
        "augmentation": Augmentation(**augmentation),
        "seed": 5,
    }
    return InputOptions(**{**settings, **changes})


def train_batches(some, start_step=0, epochs=None, worker=0, num_workers=1, **changes):
    return pipeline.make_for_train(
        some,
        make_options(**changes),
        start_step=start_step,
        epochs=epochs,
        worker=worker,
        num_workers=num_workers,
    )


def eval_batches(some, worker=0, num_workers=1, is_kept=False, **changes):
    return pipeline.make_for_eval(
        some.paths,
        make_options(**changes),
        worker=worker,
        num_workers=num_workers,
        is_kept=is_kept,
    )


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


@pytest.mark.parametrize("strategy", [
    tf.distribute.OneDeviceStrategy("/cpu:0"),
    tf.distribute.MirroredStrategy(["/cpu:0"]),
])  # fmt: skip
def test_evaluation_batches_that_are_kept_are_read_once(some, tmp_path, strategy):
    copies = [shutil.copy(path, tmp_path) for path in some.paths]
    kept = eval_batches(Shards(tuple(map(str, copies)), COUNTS), is_kept=True)
    distributed = distribution.distribute(Devices(strategy), kept)
    expected = take(eval_batches(some), None)
    assert_same(take(distributed, 2), expected[:2])  # not to the end: nothing is kept yet
    assert_same(take(distributed, None), expected)
    for path in copies:
        os.remove(path)
    for _ in range(2):
        again = take(distributed, None)
        assert_same(again, expected)
    pictures = sum(batch["image"].nbytes + batch["mask"].nbytes for batch in again)
    assert pictures == pipeline.kept_bytes(4 * len(again), SIZE)


@pytest.mark.parametrize("start", [1, 7, 8, 9, 16, 17, 18, 25])
def test_a_resumed_run_gets_the_batches_of_the_straight_one(some, start):
    straight = take(train_batches(some, augmentation=ALL_CHANGES), 28)
    resumed = train_batches(some, start_step=start, augmentation=ALL_CHANGES)
    assert_same(straight[start:], take(resumed, 28 - start))


@pytest.mark.slow
def test_a_run_resumed_anywhere_gets_the_batches_of_the_straight_one(some):
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
def test_every_epoch_has_every_example_once_in_another_order(some, shards_at_once, monkeypatch):
    monkeypatch.setattr(reading, "SHARDS_AT_ONCE", shards_at_once)
    whole = train_batches(some, batch_size=NUM)
    orders = [[index_of(image) for image in batch["image"]] for batch in take(whole, 3)]
    assert all(sorted(order) == list(range(NUM)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    # Across epochs too, when batches do not divide them: 2 epochs are 17 batches of 4.
    indices = [index_of(i) for batch in take(train_batches(some), 17) for i in batch["image"]]
    for epoch in range(2):
        assert sorted(indices[NUM * epoch : NUM * (epoch + 1)]) == list(range(NUM))


def test_epochs_can_be_counted(some):
    indices = [
        index_of(i)
        for batch in take(train_batches(some, batch_size=2, epochs=3), 99)
        for i in batch["image"]
    ]
    assert np.bincount(indices).tolist() == [3] * NUM


def test_augmentation_differs_from_epoch_to_epoch(some):
    # One shard and no shuffle: an example has the same position in every epoch.
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
@pytest.mark.parametrize("size", SIZES)
def test_image_and_mask_move_together(some, changes, keep_aspect, size):
    compared, settings = 0, {"keep_aspect": keep_aspect, "image_size": size}
    for plain in take(train_batches(some, augmentation=changes, **settings), 12):
        batch = {key: np.asarray(value) for key, value in augment.apply(plain).items()}
        red = batch["image"][..., 0].astype(float)
        mask = batch["mask"]
        assert set(np.unique(mask)) <= {0, 1, IGNORE}
        assert red.shape == mask.shape == (4, *sides_of(size))
        # Class 1 is the image's right half, where red is above one half; a pixel's
        # width on either side may be blended by the resize, and black at a border.
        valid = (mask != IGNORE) & ~near(mask == IGNORE)
        compared += valid.sum()
        assert (mask[(red > 150) & valid] == 1).all()
        assert (mask[(red < 105) & valid] == 0).all()
    assert compared > 12 * 4 * math.prod(sides_of(size)) / 3


def near(pixels: np.ndarray) -> np.ndarray:
    """The pixels, and those beside them."""
    padded, (_, rows, columns) = np.pad(pixels, [(0, 0), (1, 1), (1, 1)]), pixels.shape
    return np.any(
        [padded[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3)], axis=0
    )


@pytest.mark.parametrize("num_workers", [2, 4])
def test_workers_share_each_batch_record_by_record(some, num_workers, capfd):
    """Five shards divide by neither: together the workers get what one alone would."""
    straight = take(train_batches(some, batch_size=8), 12)
    parts = [
        take(
            train_batches(
                some, batch_size=8, worker=worker, num_workers=num_workers, share_files=True
            ),
            12,
        )
        for worker in range(num_workers)
    ]
    for step, batch in enumerate(straight):
        joined = {
            key: np.concatenate([part[step][key] for part in parts]) for key in ("image", "mask")
        }
        assert_same([batch], [joined])
    printed = capfd.readouterr().err
    assert printed.count(f"{num_workers} workers share the training images by record") == 1


def test_workers_share_an_epoch_file_by_file(some, capfd):
    shares = [
        [
            index_of(image)
            for batch in take(
                train_batches(
                    some, batch_size=5, worker=worker, num_workers=5, epochs=1, share_files=True
                ),
                99,
            )
            for image in batch["image"]
        ]
        for worker in range(5)
    ]
    assert [len(indices) for indices in shares] == list(COUNTS)
    assert sorted(itertools.chain(*shares)) == list(range(NUM))
    assert capfd.readouterr().err.count("by file: 1 shard(s) each") == 1


@pytest.mark.slow
def test_the_images_of_any_batch_can_be_named(some):
    source = ImageBatches(some, some, make_options())
    for step, batch in enumerate(take(source.train("decoder", 0), 20)):
        names = [f"image_{index_of(image)}" for image in batch["image"]]
        assert source.names_in_batch(step) == names


def test_names_are_those_of_the_global_batch_on_every_host(some):
    alone = ImageBatches(some, some, make_options(share_files=True))
    assert len(alone.names_in_batch(3)) == 4  # one host reads all files, in the usual order
    second = ImageBatches(some, some, make_options(), worker=1, num_workers=2)
    assert second.names_in_batch(3) == alone.names_in_batch(3)


@pytest.mark.parametrize(
    ("changes", "num_workers"),
    [
        ({"deterministic": False}, 1),
        ({"service_address": "grpc://localhost:5050"}, 1),
        ({"share_files": True}, 2),
    ],
)
def test_images_cannot_be_named_where_the_order_varies(some, changes, num_workers):
    source = ImageBatches(some, some, make_options(**changes), num_workers=num_workers)
    assert source.names_in_batch(0) is None


def test_a_source_of_images_gives_the_same_batches_whatever_is_trained(some):
    first = Shards(some.paths[:2], some.records[:2])
    source = ImageBatches(some, first, make_options(), worker=1, num_workers=2)
    expected = take(train_batches(some, 5, worker=1, num_workers=2), 3)
    for trainable in ("decoder", "block3", "all"):
        assert_same(expected, take(source.train(trainable, 5), 3))
        validation = take(source.validation(trainable), 99)
        assert_same(take(eval_batches(first, worker=1, num_workers=2), 99), validation)


@pytest.mark.parametrize(("threads", "mib"), [(0, 0), (3, 0), (0, 64), (2, 32)])
def test_a_pipeline_takes_no_more_of_the_machine_than_its_options_allow(some, threads, mib):
    options = train_batches(some, threads=threads, ram_budget_mib=mib).options()
    assert (options.threading.private_threadpool_size or 0) == threads
    assert (options.autotune.ram_budget or 0) == mib << 20
    assert_same(take(train_batches(some), 3), take(train_batches(some, threads=threads), 3))


def test_a_batch_that_workers_cannot_share_evenly_is_refused(some):
    with pytest.raises(ValueError, match="batches of 4 do not divide by 3 workers"):
        train_batches(some, num_workers=3)


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_workers_share_an_evaluation_and_all_get_as_many_batches(some, num_workers):
    indices = []
    for worker in range(num_workers):
        dataset = eval_batches(some, batch_size=8, worker=worker, num_workers=num_workers)
        batches = take(dataset, 99)
        assert len(batches) == 5  # 34 records
        for batch in batches:
            assert len(batch["image"]) == 8 // num_workers
            filled = batch["weight"] == 0
            assert (batch["mask"][filled] == IGNORE).all() and not batch["image"][filled].any()
            indices += [index_of(image) for image in batch["image"][~filled]]
    assert sorted(indices) == list(range(NUM))


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
    indices = [index_of(image) for batch in take(dataset, 999) for image in batch["image"]]
    assert np.bincount(indices).tolist() == [epochs] * NUM
    assert all(len(batch["image"]) == 2 for batch in take(dataset, 3))
    for server in (*workers, dispatcher):
        server._stop()


@pytest.mark.slow
def test_large_images_are_decoded_smaller_with_the_same_content(tmp_path):
    """A window of 8 times the size and more goes through each of libjpeg's reductions."""
    squares = [(sides, SIZE) for sides in ((64, 66), (131, 140), (259, 300), (517, 530))]
    for sides, size in (*squares, ((130, 200), (32, 64)), ((300, 140), (64, 32))):
        path = str(tmp_path / f"{sides[0]}.tfrecord")
        item = coordinate_record(0, *sides)
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(record.encode_record(item))
        (batch,) = take(
            train_batches(
                Shards((path,), (1,)),
                batch_size=1,
                epochs=1,
                image_size=size,
                augmentation={"flip": False},
            ),
            2,
        )
        (whole,) = take(
            train_batches(
                Shards((path,), (1,)),
                batch_size=1,
                epochs=1,
                image_size=size,
                augmentation={"flip": False, "min_crop_area": 1.0},
            ),
            2,
        )
        reference = resizing.resize_image(record.decode_image(item.image), size).numpy()
        difference = np.abs(whole["image"][0].astype(int) - reference)
        assert difference[..., :2].max() <= 8, sides  # a pixel is 8 levels wide
        red, mask = batch["image"][..., 0].astype(int), batch["mask"]
        assert (mask[red > 140] == 1).all() and (mask[red < 115] == 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_types_and_shapes_are_those_of_the_docstring(some, size):
    for batches in (train_batches, eval_batches):
        spec = batches(some, image_size=size).element_spec
        assert spec["image"] == tf.TensorSpec([4, *sides_of(size), 3], tf.uint8)
        assert spec["mask"] == tf.TensorSpec([4, *sides_of(size)], tf.uint8)


@pytest.mark.parametrize("batch_size", [1, 4, 8, 23, 30])
def test_evaluation_has_every_example_exactly_once(some, batch_size):
    dataset = eval_batches(some, batch_size=batch_size)
    batches = take(dataset, 100)
    assert len(batches) == -(-NUM // batch_size)
    assert all(batch["image"].shape == (batch_size, SIZE, SIZE, 3) for batch in batches)
    weights = np.concatenate([batch["weight"] for batch in batches])
    images = np.concatenate([batch["image"] for batch in batches])
    masks = np.concatenate([batch["mask"] for batch in batches])
    assert weights.tolist() == [1] * NUM + [0] * (len(weights) - NUM)
    assert sorted(index_of(image) for image in images[:NUM]) == list(range(NUM))
    assert (masks[:NUM] != IGNORE).all()
    assert (masks[NUM:] == IGNORE).all()
    assert_same(batches, take(dataset, 100))


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_single_examples_are_those_of_the_evaluation_and_originals_those_of_the_shards(
    some, keep_aspect, size
):
    settings = {"image_size": size, "keep_aspect": keep_aspect}
    (whole,) = take(eval_batches(some, batch_size=NUM, **settings), 1)
    indices = [33, 0, 12, 5]
    options = InputOptions(class_ids=CLASS_IDS, batch_size=1, **settings)
    examples = stored_examples.read_examples(some.paths, indices, options)
    originals = {o.index: o for o in stored_examples.read_originals(some.paths, indices)}
    assert sorted(originals) == sorted(indices)
    for row, index in enumerate(indices):
        np.testing.assert_array_equal(examples["image"][row], whole["image"][index])
        np.testing.assert_array_equal(examples["mask"][row], whole["mask"][index])
        original = originals[index]
        assert original.name == examples["name"][row] == original.filename.removesuffix(".jpg")
        resized = resizing.resize_image(original.image, size, keep_aspect)
        np.testing.assert_array_equal(resized, whole["image"][index])
    assert [o.index for o in stored_examples.read_originals(some.paths)] == list(range(NUM))


def test_ignored_raw_values_become_the_ignore_id(tmp_path):
    item = coordinate_record(0, 40, 40)
    mask = tf.io.encode_png(np.full((40, 40, 1), 8, np.uint8)).numpy()
    path = str(tmp_path / "x.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(record.encode_record(record.Record(**{**vars(item), "mask": mask})))
    (batch,) = take(eval_batches(Shards((path,), (1,)), batch_size=1), 2)
    assert (batch["mask"] == IGNORE).all()


@pytest.mark.parametrize("size", SIZES)
def test_evaluation_keeps_the_aspect_if_asked(tmp_path, size):
    path, (rows, columns) = str(tmp_path / "x.tfrecord"), sides_of(size)
    with tf.io.TFRecordWriter(path) as writer:
        for sides in ((rows, 2 * columns), (2 * rows, columns)):
            writer.write(record.encode_record(coordinate_record(0, *sides)))
    shards = Shards((path,), (2,))
    (batch,) = take(eval_batches(shards, batch_size=2, keep_aspect=True, image_size=size), 2)
    wide, tall = batch["mask"]
    down, across = rows // 2, columns // 2
    assert (wide[:down] != IGNORE).all() and (wide[down:] == IGNORE).all()
    assert (tall[:, :across] != IGNORE).all() and (tall[:, across:] == IGNORE).all()
    assert (batch["image"][0][down:] == 0).all() and (batch["image"][1][:, across:] == 0).all()
    # The right half of what is left is class 1.
    assert (wide[:down, across:] == 1).all() and (tall[:, across // 2 : across] == 1).all()
