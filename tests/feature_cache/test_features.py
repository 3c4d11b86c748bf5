"""Features as they are stored, and the streams of them."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.augmentation import Augmentation
from petseg.config import FEATURE_DTYPES
from petseg.data import manifest
from petseg.data.label_map import IGNORE
from petseg.feature_cache import pipeline as feature_pipeline
from petseg.feature_cache import records as feature_records
from petseg.feature_cache import views as feature_views
from petseg.feature_cache.cache import FeatureCache
from petseg.feature_cache.feature_batches import FeatureBatches
from petseg.feature_cache.records import Layout
from petseg.image_size import sides_of
from petseg.input_pipeline import reading
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.reading import Shards
from petseg.models import features
from petseg.models.encoders.base import IMAGE
from petseg.models.features import features_key, offset_key, scale_key

RAW = np.arange(256, dtype=np.uint8)
LAYOUT = Layout(32, {"block3": (4, 4, 8), "block5": (1, 1, 16)}, "uint8")


def numpy_of(batch):
    return {name: np.asarray(values) for name, values in batch.items()}


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e4))
@settings(max_examples=30)
def test_uint8_is_off_by_half_a_step_of_each_channel(seed, size):
    rng = np.random.default_rng(seed)
    output = (size * rng.gamma(0.3, 1, (3, 4, 4, 5))).astype(np.float32)
    output[1, :, :, 2] = 0  # a channel that is 0 everywhere
    decoded = features.decode(features.encode({"block4": output}, "uint8"))["block4"].numpy()
    half_a_step = output.max((1, 2), keepdims=True) / 255 / 2
    assert (np.abs(decoded - output) <= half_a_step * 1.001).all()
    assert (decoded[1, :, :, 2] == 0).all()
    # The largest value of each channel comes back.
    np.testing.assert_allclose(decoded.max((1, 2)), output.max((1, 2)), rtol=1e-6)


# Subnormal numbers become 0 on the device.
_SHIFTS = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e4), _SHIFTS, st.floats(0.1, 4))
@settings(max_examples=50)
def test_signed_uint8_is_off_by_half_a_step_of_each_channels_range(seed, size, shift, shape):
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1, 1], (3, 4, 4, 5))
    output = (size * signs * rng.gamma(shape, 1, signs.shape) + shift).astype(np.float32)
    output[1, :, :, 2] = shift  # a channel that is the same everywhere
    output[2] = -np.abs(output[2])  # nothing but negative
    encoded = features.encode({"a": output, "b": np.abs(output)}, "uint8", {"a"})
    assert set(encoded) == {
        *(features_key("a"), scale_key("a"), offset_key("a")), features_key("b"), scale_key("b")
    }  # fmt: skip
    decoded = features.decode(encoded)["a"].numpy()
    least, most = output.min((1, 2), keepdims=True), output.max((1, 2), keepdims=True)
    half_a_step = (most - least) / 255 / 2
    rounding = 4 * np.finfo(np.float32).eps * np.maximum(np.abs(least), np.abs(most))
    assert (np.abs(decoded - output) <= half_a_step * 1.001 + rounding).all()
    # The ends of each channel's range come back.
    for ends in (np.min, np.max):
        error = np.abs(ends(decoded, (1, 2)) - ends(output, (1, 2)))
        assert (error <= rounding[:, 0, 0]).all()


def test_features_without_a_sign_are_stored_as_they_always_were():
    """Caches of before can be read, and grow by the same bytes."""
    output = np.array([0, 0.5, 1, 100, 254.4, 255], np.float32).reshape(1, 1, 6, 1) * 2
    encoded = numpy_of(features.encode({"a": output}, "uint8", {"b"}))
    assert encoded.keys() == {"features/a", "scale/a"}
    np.testing.assert_array_equal(encoded["features/a"].ravel(), [0, 0, 1, 100, 254, 255])
    np.testing.assert_array_equal(encoded["scale/a"], [[2]])


@pytest.mark.parametrize("sign", [1, -1])
def test_float16_keeps_eleven_bits_and_does_not_become_infinite(sign):
    output = sign * np.geomspace(1e-3, 1e6, 64, dtype=np.float32).reshape(1, 2, 2, 16)
    encoded = features.encode({"block2": output}, "float16")
    assert set(encoded) == {features_key("block2")}
    decoded = features.decode(encoded)["block2"].numpy()
    np.testing.assert_allclose(decoded, np.clip(output, -65504, 65504), rtol=2**-11, atol=1e-7)


def test_a_batch_of_images_decodes_to_its_images():
    image = tf.ones([1, 32, 32, 3], tf.uint8)
    known = features.decode({IMAGE: image, "mask": image[..., 0]})
    assert list(known) == [IMAGE]
    assert known[IMAGE] is image


def draw_example(rng, layout):
    outputs = {
        stage: tf.constant(rng.gamma(0.5, 9, (1, *shape)), tf.float32)
        for stage, shape in layout.stages.items()
    }
    encoded = numpy_of(features.encode(outputs, layout.dtype, layout.signed))
    return {name: values[0] for name, values in encoded.items()}


@pytest.mark.parametrize("signed", [frozenset(), frozenset({"block5"})])
@pytest.mark.parametrize("dtype", FEATURE_DTYPES)
@pytest.mark.parametrize("size", [32, (32, 64), (64, 32)])
def test_a_record_gives_back_what_was_written(dtype, signed, size):
    height, width = sides_of(size)
    shapes = {"block3": (height // 8, width // 8, 8), "block5": (height // 32, width // 32, 16)}
    layout = Layout(size, shapes, dtype, signed)
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 256, (3, height, width), np.uint8)
    sides = [(height, width), (20, width), (height, 7)]
    examples = [draw_example(rng, layout) for _ in masks]
    written = [
        feature_records.encode_record(b"x", number, mask, side, example)
        for number, (mask, side, example) in enumerate(zip(masks, sides, examples, strict=True))
    ]
    assert written[0] == feature_records.encode_record(b"x", 0, masks[0], sides[0], examples[0])
    with_class = feature_records.parse_records(written, layout, ("block5",), RAW, True)
    assert with_class["image_class"].numpy().tolist() == [0, 1, 2]
    for stages in (("block3", "block5"), ("block5",)):
        parsed = numpy_of(feature_records.parse_records(written, layout, stages, RAW))
        keys = {"mask", *map(features_key, stages)}
        if dtype == "uint8":
            keys |= {*map(scale_key, stages), *map(offset_key, signed)}
        assert set(parsed) == keys
        for index, (mask, (rows, columns)) in enumerate(zip(masks, sides, strict=True)):
            expected = np.full_like(mask, IGNORE)
            expected[:rows, :columns] = mask[:rows, :columns]
            np.testing.assert_array_equal(parsed["mask"][index], expected)
            for name in set(parsed) - {"mask"}:
                np.testing.assert_array_equal(parsed[name][index], examples[index][name])


def test_views_follow_from_the_augmentation():
    assert feature_views.views_of(Augmentation(flip=False), 0) == ("whole",)
    assert feature_views.views_of(Augmentation(flip=True, min_crop_area=0.5), 2) == (
        "whole", "mirrored", "crop1", "crop2",
    )  # fmt: skip


COUNTS = (5, 3, 6, 1, 4, 2, 3, 4, 2, 5, 1)
NUM = sum(COUNTS)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Three views of 36 examples in 11 shards.

    The mask's value is the example's index, the features' value is 1 plus the view's.
    """
    folder = tmp_path_factory.mktemp("features")
    all_views = []
    for view in range(3):
        outputs = {s: tf.fill([1, *shape], 1.0 + view) for s, shape in LAYOUT.stages.items()}
        encoded = {k: v[0] for k, v in numpy_of(features.encode(outputs, "uint8")).items()}
        paths, index = [], 0
        for shard, count in enumerate(COUNTS):
            path = str(folder / manifest.shard_name("x", f"v{view}", shard, len(COUNTS)))
            with tf.io.TFRecordWriter(path) as writer:
                for _ in range(count):
                    mask = np.full((32, 32), index, np.uint8)
                    name = f"image_{index}".encode()
                    writer.write(feature_records.encode_record(name, 0, mask, (32, 32), encoded))
                    index += 1
            paths.append(path)
        all_views.append(Shards(tuple(paths), COUNTS))
    return all_views


def contents_of(batches):
    """(index of the example, view) of everything in some batches."""
    pairs = []
    for batch in batches:
        values = features.decode(batch)["block5"].numpy()[:, 0, 0, 0]
        indices = np.asarray(batch["mask"])[:, 0, 0]
        pairs += [(int(i), round(float(v)) - 1) for i, v in zip(indices, values, strict=True)]
    return pairs


def options(**changes):
    settings = {"batch_size": 4, "shuffle_records": 7, "seed": 3, **changes}
    return InputOptions(RAW, 32, **settings)


def stream(views, start_step=0, worker=0, num_workers=1, **changes):
    return feature_pipeline.make_for_train(
        views, LAYOUT, ("block5",), options(**changes), start_step=start_step, worker=worker,
        num_workers=num_workers,
    )  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_every_epoch_has_every_image_once_and_all_of_them_every_view(views, seed):
    steps = NUM // 4
    epochs = [
        contents_of(itertools.islice(stream(views, seed=seed, start_step=steps * epoch), steps))
        for epoch in range(6)
    ]
    for cycle in (epochs[:3], epochs[3:]):
        for epoch in cycle:
            assert sorted(index for index, _ in epoch) == list(range(NUM))
            assert len({view for _, view in epoch}) > 1
        assert sorted(itertools.chain(*cycle)) == sorted(itertools.product(range(NUM), range(3)))
    assert [i for i, _ in epochs[0]] != [i for i, _ in epochs[1]]
    assert {*epochs[0]} != {*epochs[3]}


@pytest.mark.slow
@given(st.integers(0, 60))
@settings(max_examples=10, deadline=None)
def test_a_stream_resumed_anywhere_gives_the_batches_of_the_straight_one(views, start):
    straight = list(itertools.islice(stream(views), start, start + 4))
    resumed = list(itertools.islice(stream(views, start_step=start), 4))
    assert contents_of(straight) == contents_of(resumed)


@pytest.mark.parametrize("num_workers", [2, 4])
def test_workers_share_each_batch(views, num_workers):
    alone = [contents_of([batch]) for batch in itertools.islice(stream(views), 12)]
    shares = [
        [
            contents_of([batch])
            for batch in itertools.islice(stream(views, worker=worker, num_workers=num_workers), 12)
        ]
        for worker in range(num_workers)
    ]
    assert [list(itertools.chain(*parts)) for parts in zip(*shares, strict=True)] == alone


def test_workers_share_files_where_they_divide(views):
    even = [Shards(view.paths[:10], view.records[:10]) for view in views]
    shares = [
        contents_of(itertools.islice(stream(even, worker=w, num_workers=2, share_files=True), 30))
        for w in range(2)
    ]
    shards = np.repeat(np.arange(11), COUNTS)
    for worker, share in enumerate(shares):
        assert {int(shards[index]) % 2 for index, _ in share} == {worker}


@pytest.mark.parametrize("batch_size", [1, 5, 36, 50])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_evaluation_has_every_example_once_in_the_order_of_writing(views, batch_size, num_workers):
    batch_size *= num_workers
    shares = [
        list(
            feature_pipeline.make_for_eval(
                views[1].paths,
                LAYOUT,
                ("block3", "block5"),
                options(batch_size=batch_size),
                worker=worker,
                num_workers=num_workers,
            )
        )
        for worker in range(num_workers)
    ]
    indices = []
    for parts in zip(*shares, strict=True):
        for part in map(numpy_of, parts):
            assert len(part["mask"]) == batch_size // num_workers
            is_real = part["weight"] == 1
            assert (part["mask"][~is_real] == IGNORE).all()
            assert not part[features_key("block3")][~is_real].any()
            indices += part["mask"][is_real][:, 0, 0].tolist()
    assert indices == list(range(NUM))


def test_shards_without_other_views_stream_as_with_themselves(views):
    plain = reading.read_epochs(views[0], shuffle_records=5, seed=1).take(80)
    with_itself = reading.read_epochs(
        views[0], shuffle_records=5, seed=1, more_views=[views[0]]
    ).take(80)
    assert list(plain.as_numpy_iterator()) == list(with_itself.as_numpy_iterator())


def test_a_source_of_features_gives_what_each_stage_of_a_run_needs(views):
    cacheable = {"decoder": ("block3", "block5"), "block5": ("block3",)}
    source = FeatureBatches(
        FeatureCache(LAYOUT, tuple(views), views[0]), cacheable.__getitem__, options()
    )
    for trainable, stages in cacheable.items():
        expected = {"mask", *map(features_key, stages), *map(scale_key, stages)}
        assert set(source.train(trainable, 0).element_spec) == expected
        assert set(source.validation(trainable).element_spec) == {*expected, "weight"}
    batch = next(iter(source.train("decoder", 5)))
    names = [f"image_{index}" for index in batch["mask"][:, 0, 0].numpy()]
    assert source.names_in_batch(5) == names
    assert len(list(source.validation("block5"))) == NUM // 4
