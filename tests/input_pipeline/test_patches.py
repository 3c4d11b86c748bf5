import itertools

import numpy as np
import pytest
import tensorflow as tf
from testing.configs import make_tiny_config

from petseg import config_json, config_rules
from petseg.augmentation import Augmentation
from petseg.config import Config
from petseg.data import manifest, record
from petseg.data.label_map import IGNORE, parse_label_map
from petseg.errors import UserError
from petseg.input_pipeline import decoded_store, names, patches, pipeline, reading, stored_examples
from petseg.input_pipeline.patches import OUTSIDE_GREY, PatchOptions
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.reading import Shards
from petseg.patch_sampling import PatchSampling
from petseg.seeds import Stream, fold_seed

SIZE, BATCH, SEED = 32, 6, 11
LABEL_MAP = parse_label_map("background=2; thing=1,3; ignored=9")
COUNTS = (9, 6, 8)
EMPTY = "image_4"  # holds no object


def draw_record(index: int, rng: np.random.Generator) -> record.Record:
    """Smooth colours, and an ellipse of two raw values within a frame that is ignored."""
    height, width = (int(n) for n in rng.integers(20, 400, 2))
    y, x = np.mgrid[:height, :width]
    image = np.stack([255 * x / width, 255 * y / height, np.full_like(x, 9 * index)], -1)
    mask = np.full((height, width), 2, np.uint8)
    centre, half = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.4, 2)
    far = ((y / height - centre[0]) / half[0]) ** 2 + ((x / width - centre[1]) / half[1]) ** 2
    if f"image_{index}" != EMPTY:
        mask[far < 1] = 3
        mask[far < 0.5] = 1
    mask[:2] = 9
    return record.Record(
        name=f"image_{index}",
        filename=f"image_{index}.jpg",
        image=tf.io.encode_jpeg(
            image.astype(np.uint8), quality=100, chroma_downsampling=False
        ).numpy(),
        mask=tf.io.encode_png(mask[..., None]).numpy(),
        height=height,
        width=width,
        class_label=0,
        class_text="",
    )


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(3)
    return [draw_record(index, rng) for index in range(sum(COUNTS))]


@pytest.fixture(scope="module")
def some(records, tmp_path_factory) -> Shards:
    folder, left, paths = tmp_path_factory.mktemp("shards"), iter(records), []
    for shard, count in enumerate(COUNTS):
        paths.append(str(folder / manifest.shard_name("x", "train", shard, len(COUNTS))))
        with tf.io.TFRecordWriter(paths[-1]) as writer:
            for one in itertools.islice(left, count):
                writer.write(record.encode_record(one))
    return Shards(tuple(paths), COUNTS)


def make_options(**changes) -> InputOptions:
    settings = {
        "class_ids": LABEL_MAP.class_ids(),
        "image_size": SIZE,
        "batch_size": BATCH,
        "shuffle_records": 10,
        "seed": SEED,
        "patches": PatchOptions(PatchSampling(enabled=True), patches.object_class(LABEL_MAP)),
    }
    return InputOptions(**{**settings, **changes})


def take(dataset, count):
    batches = itertools.islice(dataset, count)
    return [{key: value.numpy() for key, value in batch.items()} for batch in batches]


def assert_same(some, others):
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], key)


def place_by_hand(box, sides, drawn, s):
    """The window and whether it is canonical, in float64 and with ifs."""
    kind, scale, down, across, direction = (float(one) for one in drawn)
    has_object = box is not None
    top, left, height, width = box if has_object else (0, 0, *sides)
    centre = np.array([top + height / 2, left + width / 2])
    unit = max(height, width) / s.object_share
    if has_object and kind < s.canonical_share:
        side = max(round(unit * 2 ** ((2 * scale - 1) * s.max_octaves)), 16)
        centre = centre + side * s.max_shift * (2 * np.array([down, across]) - 1)
        is_canonical = True
    elif has_object and kind < s.canonical_share + (1 - s.canonical_share) / 2:
        side = max(round(unit * 2 ** ((2 * scale - 1) * s.max_octaves)), 16)
        far = s.other_min_shift + (7 / 16 - s.other_min_shift) * down
        beside = far * (2 * across - 1)
        moved = [(far, beside), (beside, far), (-far, beside), (beside, -far)][int(4 * direction)]
        centre, is_canonical = centre + side * np.array(moved), False
    else:
        octaves = (2 * scale - 1) * 2 * s.other_min_octaves
        point = np.array([down * sides[0], across * sides[1]])
        off = np.abs(point - centre).max() / (unit * 2**octaves)
        if abs(octaves) < s.other_min_octaves and off < s.other_min_shift:
            octaves += np.copysign(s.other_min_octaves, octaves)
        side, centre, is_canonical = max(round(unit * 2**octaves), 16), point, False
    return [*(round(float(c) - side / 2) for c in centre), side], is_canonical


def bilinear(pixels, rows, columns):
    """float64, with pixels' centres at halves."""

    def weights(count, length):
        at = np.clip((np.arange(count) + 0.5) * length / count - 0.5, 0, length - 1)
        return np.maximum(1 - np.abs(at[:, None] - np.arange(length)), 0)

    across = np.einsum("ij,hjc->hic", weights(columns, pixels.shape[1]), pixels.astype(float))
    return np.einsum("ij,jwc->iwc", weights(rows, pixels.shape[0]), across)


def patch_by_hand(one: record.Record, drawn, s, size=SIZE):
    """Image, mask and labels of a patch: pixel by pixel, from the record's pictures."""
    raw = tf.io.decode_png(one.mask).numpy()[..., 0]
    sides = raw.shape
    is_object = np.isin(raw, (1, 3))
    found = np.argwhere(is_object)
    box = None
    if len(found):
        box = (*found.min(0), *(np.ptp(found, axis=0) + 1))
    (top, left, side), is_canonical = place_by_hand(box, sides, drawn, s)
    mask, shown = np.zeros((size, size), np.uint8), np.zeros((2, size), bool)
    rows, columns = (
        [start + (2 * i + 1) * side // (2 * size) for i in range(size)] for start in (top, left)
    )
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if 0 <= row < sides[0] and 0 <= column < sides[1]:
                shown[0, i] = shown[1, j] = True
                mask[i, j] = {1: 1, 3: 1, 2: 0, 9: IGNORE}[raw[row, column]]
    start = [max(top, 0), max(left, 0)]
    end = [min(top + side, sides[0]), min(left + side, sides[1])]
    smallest = min(end[0] - start[0], end[1] - start[1])
    factor = max(f for f in (1, 2, 4, 8) if f == 1 or (side >= f * size and smallest >= 8 * f))
    reduced = tf.io.decode_jpeg(one.image, ratio=factor, fancy_upscaling=False).numpy()
    start, end = [-(-n // factor) for n in start], [n // factor for n in end]
    part = reduced[start[0] : end[0], start[1] : end[1]]
    image = np.full((size, size, 3), OUTSIDE_GREY, float)
    if shown.any():
        image[np.ix_(*shown)] = bilinear(part, *shown.sum(1))
    return image, mask if is_canonical else np.full_like(mask, IGNORE), int(is_canonical)


def test_training_batches_are_those_made_by_hand(some, records):
    """Of each batch: from the run's seed, its number, and the names of its records."""
    options, by_name = make_options(), {one.name: one for one in records}
    batches = take(pipeline.make_for_train(some, options), 8)
    seen = []
    for step, batch in enumerate(batches):
        drawn = tf.random.stateless_uniform([BATCH, 5], fold_seed(SEED, Stream.PATCH, step)).numpy()
        flips = tf.random.stateless_uniform([BATCH], fold_seed(SEED, Stream.FLIP, step)).numpy()
        for row, name in enumerate(names.names_in_batch([some], options, step, 1)):
            image, mask, label = patch_by_hand(by_name[name], drawn[row], options.patches.sampling)
            if flips[row] < 0.5:
                image, mask = image[:, ::-1], mask[:, ::-1]
            np.testing.assert_array_equal(batch["mask"][row], mask, name)
            np.testing.assert_array_equal(batch["image_labels"][row], [IGNORE, label], name)
            assert np.abs(batch["image"][row] - image).max() <= 0.51, name
            seen.append((name == EMPTY, label))
    assert (True, 1) not in seen and {(True, 0), (False, 0), (False, 1)} == set(seen)


def test_any_batch_is_made_alone_by_any_number_of_workers(some):
    options = make_options()
    batches = take(pipeline.make_for_train(some, options), 7)
    assert_same(take(pipeline.make_for_train(some, options, start_step=4), 3), batches[4:])
    shares = [
        take(pipeline.make_for_train(some, options, worker=worker, num_workers=3), 7)
        for worker in range(3)
    ]
    for batch, *parts in zip(batches, *shares, strict=True):
        for key, values in batch.items():
            joined = np.concatenate([part[key] for part in parts])
            np.testing.assert_array_equal(joined, values)
    other = take(pipeline.make_for_train(some, make_options(seed=SEED + 1)), 1)[0]
    assert (other["image"] != batches[0]["image"]).any()
    # An epoch has 23 records: the same ones come again, in other patches.
    pictures = {image.tobytes() for batch in batches for image in batch["image"]}
    assert len(pictures) > 6 * BATCH


def test_half_of_the_patches_are_canonical_and_the_others_are_far_from_it():
    rng, s = np.random.default_rng(0), PatchSampling(enabled=True)
    options, labels = [], []
    for drawn in patches.sample(3000, tf.constant([1, 2], tf.int64)).numpy():
        sides = rng.integers(30, 500, 2)
        length = rng.integers(10, sides)
        start = rng.integers(0, sides - length + 1)
        box = np.concatenate([start, length]).astype(np.int32)
        window, is_canonical = patches.place(
            *map(tf.constant, (box, sides.astype(np.int32), drawn, True)), s
        )
        top, left, side = (int(n) for n in window)
        octaves = np.log2(side / (length.max() / s.object_share))
        off = np.abs(np.array([top, left]) + side / 2 - start - length / 2).max() / side
        slack = 1.5 / side  # rounded to pixels
        if is_canonical:
            assert abs(octaves) <= s.max_octaves + 2 * slack and off <= s.max_shift + slack
        elif side > 16:
            assert abs(octaves) >= 1 - 2 * slack or off >= s.other_min_shift - slack
        # It always shows a part of the picture.
        assert top < sides[0] and left < sides[1] and top + side > 0 and left + side > 0
        labels.append(bool(is_canonical))
        options.append(octaves)
    assert 0.47 < np.mean(labels) < 0.53
    assert min(options) < -1.9 and max(options) > 1.9


def eval_batches(some, **changes):
    workers = {key: changes.pop(key) for key in ("worker", "num_workers") if key in changes}
    return take(pipeline.make_for_eval(some.paths, make_options(**changes), **workers), 99)


def joined(batches):
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def test_validation_has_one_patch_of_each_image_the_same_at_each_evaluation(some, records):
    whole = joined(eval_batches(some))
    is_real, count = whole["weight"] == 1, sum(COUNTS)
    assert (whole["image_labels"][~is_real] == IGNORE).all() and is_real.sum() == count
    for changes in ({"seed": 99}, {"batch_size": 4}, {"augmentation": Augmentation(flip=False)}):
        other = joined(eval_batches(some, **changes))
        for key in ("image", "mask", "image_labels"):
            np.testing.assert_array_equal(other[key][:count], whole[key][:count], str(changes))
    parts = [eval_batches(some, worker=worker, num_workers=2) for worker in range(2)]
    shares = joined([joined(pair) for pair in zip(*parts, strict=True)])
    np.testing.assert_array_equal(shares["image"], whole["image"])
    labels = set()
    examples = stored_examples.read_examples(some.paths, range(count), make_options())
    by_name = {one.name: one for one in records}
    for index, name in enumerate(examples["name"]):
        drawn = tf.random.stateless_uniform([1, 5], fold_seed(0, Stream.FIXED_PATCH, index))[0]
        image, mask, label = patch_by_hand(by_name[name], drawn.numpy(), PatchSampling())
        np.testing.assert_array_equal(whole["mask"][index], mask)
        np.testing.assert_array_equal(whole["image_labels"][index], [IGNORE, label])
        np.testing.assert_array_equal(examples["image"][index], whole["image"][index])
        np.testing.assert_array_equal(examples["mask"][index], whole["mask"][index])
        # Reduced pictures are means here, and libjpeg's in training.
        assert np.abs(whole["image"][index] - image).mean() <= 2, name
        labels.add(label)
    assert labels == {0, 1}


@pytest.mark.slow
def test_decoded_pictures_give_the_same_patches(data_dir):
    data = manifest.read_manifest(str(data_dir))
    split = data.splits["train"]
    shards = reading.shards_in(str(data_dir), split)
    label_map = parse_label_map("border_is_pet")
    options = make_options(
        class_ids=label_map.class_ids(),
        image_size=256,  # as large as no window is reduced
        patches=PatchOptions(PatchSampling(enabled=True), patches.object_class(label_map)),
    )
    store = decoded_store.open_store(shards, split, "digest", "memory", 0)
    decoded = pipeline.make_for_train(store.entries, options, pictures=store.pictures)
    assert_same(take(decoded, 2), take(pipeline.make_for_train(shards, options), 2))


def tiny(**changes):
    config = make_tiny_config("data")
    config.data.label_map = "border_is_pet"
    config.patches.enabled = config.model.presence = True
    config.train.loss = "cross_entropy+presence"
    for name, value in changes.items():
        section, _, field = name.partition("__")
        setattr(getattr(config, section), field, value)
    return config


REFUSED = {
    "model__presence": (False, "config.patches.enabled=True: objectness"),
    "data__image_size": ((32, 64), "config.data.image_size=(32, 64) must be one side"),
    "data__keep_aspect": (True, "config.data.keep_aspect=True must be False"),
    "data__feature_cache_dir": ("cache", "config.data.feature_cache_dir='"),
    "augment__min_crop_area": (0.5, "config.augment.min_crop_area=0.5 must be 1.0"),
    "augment__max_zoom": (0.1, "config.augment.max_zoom=0.1"),
    "augment__max_shift": (0.1, "config.augment.max_shift=0.1"),
    "augment__cutmix_probability": (0.5, "config.augment.cutmix_probability=0.5"),
    "patches__other_min_shift": (0.05, "must be above config.patches.max_shift=0.07143"),
    "patches__other_min_octaves": (0.2, "must be above config.patches.max_octaves=0.25"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_patches_is_refused(name):
    config_rules.validate(tiny())
    value, message = REFUSED[name]
    changes = {name: value}
    if name == "model__presence":
        changes["train__loss"] = "cross_entropy"
    with pytest.raises(UserError) as raised:
        config_rules.validate(tiny(**changes))
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["three_class", "a=1; b=2,3", "background=1; _background_=2"])
def test_classes_that_are_not_background_and_objects_are_refused(text):
    with pytest.raises(UserError, match="needs a label map of background and one class"):
        patches.object_class(parse_label_map(text))


def test_runs_of_before_there_were_patches_are_read():
    text = config_json.to_json(Config())
    start, end = text.index(' "patches"'), text.index(' "model"')
    assert config_json.from_json(text[:start] + text[end:]) == Config()
