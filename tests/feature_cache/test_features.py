"""Pools as they are stored, and the streams of them."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.augmentation import Augmentation
from petseg.config import FEATURE_DTYPES
from petseg.data import shard_files
from petseg.data.label_map import IGNORE
from petseg.feature_cache import (
    pipeline as feature_pipeline,
)
from petseg.feature_cache import (
    records as feature_records,
)
from petseg.feature_cache import (
    views as feature_views,
)
from petseg.feature_cache.records import Layout
from petseg.input_pipeline import shard_reading
from petseg.input_pipeline.shard_reading import Shards
from petseg.models import features

SAME = np.arange(256, dtype=np.uint8)
LAYOUT = Layout(32, {3: (4, 4, 8), 5: (1, 1, 16)}, "uint8")


def numpy_of(batch):
    return {name: np.asarray(values) for name, values in batch.items()}


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e4))
@settings(max_examples=30)
def test_uint8_is_off_by_half_a_step_of_its_own_channel(seed, size):
    rng = np.random.default_rng(seed)
    pool = (size * rng.gamma(0.3, 1, (3, 4, 4, 5))).astype(np.float32)
    pool[1, :, :, 2] = 0  # a channel that sees nothing
    decoded = features.known_pools(features.encode({4: pool}, "uint8"))[4].numpy()
    half_a_step = pool.max((1, 2), keepdims=True) / 255 / 2
    assert (np.abs(decoded - pool) <= half_a_step * 1.001).all()
    assert (decoded[1, :, :, 2] == 0).all()
    # The largest value of each channel comes back.
    np.testing.assert_allclose(decoded.max((1, 2)), pool.max((1, 2)), rtol=1e-6)


def test_float16_keeps_eleven_bits_and_does_not_become_infinite():
    pool = np.geomspace(1e-3, 1e6, 64, dtype=np.float32).reshape(1, 2, 2, 16)
    encoded = features.encode({2: pool}, "float16")
    assert set(encoded) == {"pool2"}
    decoded = features.known_pools(encoded)[2].numpy()
    np.testing.assert_allclose(decoded, np.minimum(pool, 65504), rtol=2**-11, atol=1e-7)


def test_images_are_known_as_block_0():
    image = tf.ones([1, 32, 32, 3], tf.uint8)
    known = features.known_pools({"image": image, "mask": image[..., 0]})
    assert list(known) == [0]
    assert known[0] is image


@pytest.mark.parametrize(("tapped", "trained", "expected"), [
    ((5, 4, 3), "head", (3, 4, 5)),
    ((5, 4, 3), "block5", (3, 4)),
    ((5, 4, 3), "block4", (3,)),
    ((5, 4, 3), "block3", (2,)),
    ((5, 4, 3, 2, 1), "block3", (1, 2)),
    ((5,), "block5", (4,)),
    ((5, 4), "all", (0,)),
])  # fmt: skip
def test_a_stage_takes_what_stays_frozen(tapped, trained, expected):
    assert features.known_blocks(tapped, trained) == expected


def draw_example(rng, layout):
    pools = {
        b: tf.constant(rng.gamma(0.5, 9, (1, *shape)), tf.float32)
        for b, shape in layout.pools.items()
    }
    encoded = numpy_of(features.encode(pools, layout.stored_as))
    return {name: values[0] for name, values in encoded.items()}


@pytest.mark.parametrize("stored_as", FEATURE_DTYPES)
def test_a_record_gives_back_what_went_in(stored_as):
    layout = Layout(LAYOUT.image_size, LAYOUT.pools, stored_as)
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 256, (3, 32, 32), np.uint8)
    sides = [(32, 32), (20, 32), (32, 7)]
    examples = [draw_example(rng, layout) for _ in masks]
    written = [
        feature_records.encode_record(b"x", mask, side, example)
        for mask, side, example in zip(masks, sides, examples, strict=True)
    ]
    assert written[0] == feature_records.encode_record(b"x", masks[0], sides[0], examples[0])
    for blocks in ((3, 5), (5,)):
        parsed = numpy_of(feature_records.parse_records(written, layout, blocks, SAME))
        assert {name for name in parsed if "pool" in name} == {f"pool{b}" for b in blocks}
        for place, (mask, (rows, columns)) in enumerate(zip(masks, sides, strict=True)):
            expected = np.full_like(mask, IGNORE)
            expected[:rows, :columns] = mask[:rows, :columns]
            np.testing.assert_array_equal(parsed["mask"][place], expected)
            for name in set(parsed) - {"mask"}:
                np.testing.assert_array_equal(parsed[name][place], examples[place][name])


def test_views_follow_from_the_augmentation():
    assert feature_views.views_of(Augmentation(flip=False), 0) == ("whole",)
    assert feature_views.views_of(Augmentation(flip=True, min_crop_area=0.5), 2) == (
        "whole", "mirrored", "crop1", "crop2",
    )  # fmt: skip


COUNTS = (5, 3, 6, 1, 4, 2, 3, 4, 2, 5, 1)
NUM = sum(COUNTS)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """Three views of 36 examples in 11 shards; the mask's value is the example's place, the
    scale of pool 5 the view's."""
    folder = tmp_path_factory.mktemp("features")
    found = []
    for view in range(3):
        paths, index = [], 0
        for place, count in enumerate(COUNTS):
            path = str(folder / shard_files.shard_name("x", f"v{view}", place, len(COUNTS)))
            with tf.io.TFRecordWriter(path) as writer:
                for _ in range(count):
                    pools = {
                        b: tf.fill([1, *shape], 1.0 + view) for b, shape in LAYOUT.pools.items()
                    }
                    encoded = {
                        k: v[0] for k, v in numpy_of(features.encode(pools, "uint8")).items()
                    }
                    mask = np.full((32, 32), index, np.uint8)
                    name = f"image_{index}".encode()
                    writer.write(feature_records.encode_record(name, mask, (32, 32), encoded))
                    index += 1
            paths.append(path)
        found.append(Shards(tuple(paths), COUNTS))
    return found


def seen(batches):
    """(place of the example, view) of everything in some batches."""
    found = []
    for batch in batches:
        values = features.known_pools(batch)[5].numpy()[:, 0, 0, 0]
        places = np.asarray(batch["mask"])[:, 0, 0]
        found += [(int(p), round(float(v)) - 1) for p, v in zip(places, values, strict=True)]
    return found


def stream(views, start_step=0, **changes):
    arguments = {"class_ids": SAME, "batch_size": 4, "shuffle_records": 7, "seed": 3, **changes}
    return feature_pipeline.make_for_train(views, LAYOUT, (5,), start_step=start_step, **arguments)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_epoch_shows_every_image_once_and_all_of_them_every_view(views, seed):
    steps = NUM // 4
    epochs = [
        seen(itertools.islice(stream(views, seed=seed, start_step=steps * epoch), steps))
        for epoch in range(6)
    ]
    for cycle in (epochs[:3], epochs[3:]):
        for epoch in cycle:
            assert sorted(place for place, _ in epoch) == list(range(NUM))
            assert len({view for _, view in epoch}) > 1
        assert sorted(itertools.chain(*cycle)) == sorted(itertools.product(range(NUM), range(3)))
    assert [p for p, _ in epochs[0]] != [p for p, _ in epochs[1]]
    assert {*epochs[0]} != {*epochs[3]}


@given(st.integers(0, 60))
@settings(max_examples=10, deadline=None)
def test_a_stream_entered_anywhere_goes_on_as_the_straight_one(views, start):
    straight = list(itertools.islice(stream(views), start, start + 4))
    entered = list(itertools.islice(stream(views, start_step=start), 4))
    assert seen(straight) == seen(entered)


@pytest.mark.parametrize("num_workers", [2, 4])
def test_workers_share_each_batch(views, num_workers):
    alone = [seen([batch]) for batch in itertools.islice(stream(views), 12)]
    shares = [
        [seen([b]) for b in itertools.islice(stream(views, worker=w, num_workers=num_workers), 12)]
        for w in range(num_workers)
    ]
    assert [list(itertools.chain(*parts)) for parts in zip(*shares, strict=True)] == alone


def test_workers_share_files_where_they_divide(views):
    even = [Shards(view.paths[:10], view.records[:10]) for view in views]
    own = [seen(itertools.islice(stream(even, worker=w, num_workers=2, share_files=True), 30))
           for w in range(2)]  # fmt: skip
    places = np.repeat(np.arange(11), COUNTS)
    for worker, found in enumerate(own):
        assert {int(places[place]) % 2 for place, _ in found} == {worker}


@pytest.mark.parametrize("batch_size", [1, 5, 36, 50])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_evaluation_shows_every_example_once_in_the_order_of_writing(
    views, batch_size, num_workers
):
    batch_size *= num_workers
    shares = [
        list(feature_pipeline.make_for_eval(
            views[1].paths, LAYOUT, (3, 5), class_ids=SAME, batch_size=batch_size, worker=worker,
            num_workers=num_workers,
        ))
        for worker in range(num_workers)
    ]  # fmt: skip
    places = []
    for parts in zip(*shares, strict=True):
        for part in map(numpy_of, parts):
            assert len(part["mask"]) == batch_size // num_workers
            is_real = part["weight"] == 1
            assert (part["mask"][~is_real] == IGNORE).all()
            assert not part["pool3"][~is_real].any()
            places += part["mask"][is_real][:, 0, 0].tolist()
    assert places == list(range(NUM))


def test_shards_without_other_views_stream_as_they_did(views):
    plain = shard_reading.read_epochs(views[0], shuffle_records=5, seed=1).take(80)
    with_itself = shard_reading.read_epochs(
        views[0], shuffle_records=5, seed=1, more_views=[views[0]]
    ).take(80)
    assert list(plain.as_numpy_iterator()) == list(with_itself.as_numpy_iterator())
