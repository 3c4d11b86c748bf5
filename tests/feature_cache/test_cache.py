"""A folder of features: what is in it, what is refused, and how it is filled."""

import concurrent.futures
import dataclasses
import hashlib
import json
import random
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from testing.conversion import convert
from testing.waiting import wait_until

from petseg.augmentation import Augmentation
from petseg.data import manifest, output_folder, shard_files, tfrecord
from petseg.data.label_map import IGNORE
from petseg.data.manifest import Manifest, Shard, Split
from petseg.devices import Devices
from petseg.errors import FaultFound, UserError
from petseg.feature_cache import cache as feature_cache
from petseg.feature_cache import fill, store
from petseg.feature_cache import pipeline as feature_pipeline
from petseg.feature_cache.cache import FeatureCacheOptions
from petseg.feature_cache.feature_batches import FeatureBatches
from petseg.input_pipeline import pipeline, reading, stored_examples
from petseg.input_pipeline.pipeline import InputOptions
from petseg.input_pipeline.verified_shards import VerifiedShards, faults_in_one_line
from petseg.models import features
from petseg.models.decoders.base import DecoderOptions, build_decoder
from petseg.models.decoders.fcn import FCN8S
from petseg.models.encoders.base import Encoder, EncoderOptions, Level
from petseg.models.segmentation_model import (
    ALL,
    DECODER,
    IMAGE,
    ModelOptions,
    SegmentationModel,
    build_model,
)

RAW = np.arange(256, dtype=np.uint8)
SIZE = 32


def toy_model(decoder="fcn8s", image_size=SIZE, seed=0):
    """VGG16 with two channels at its first stage and one convolution per stage."""
    return build_model(
        ModelOptions(
            decoder=decoder, encoder_width=2, encoder_convs=(1, 1, 1, 1, 1), decoder_channels=8,
            seed=seed,
        ),
        num_classes=3,
        image_size=image_size,
        weights="none",
    )  # fmt: skip


class Opener:
    """Opens caches of one data set, with options that a test may change."""

    def __init__(self, folder, data_dir):
        self.folder, self.data_dir, self.verified = folder, data_dir, None
        self.options = FeatureCacheOptions(
            folder=str(folder), dtype="uint8", crops=0, augmentation=Augmentation(),
            image_size=SIZE,
        )  # fmt: skip

    def change(self, **changes):
        self.options = dataclasses.replace(self.options, **changes)

    @property
    def data(self):
        return manifest.read_manifest(str(self.data_dir))

    def open(self, model=None, trainables=(DECODER,), encoder_sha256=None, initial=None):
        """Opens the cache of a model whose initial weights are those that it has now."""
        model = model or toy_model(image_size=self.options.image_size)
        return feature_cache.open_feature_cache(
            self.options,
            str(self.data_dir),
            self.data,
            model,
            trainables,
            encoder_sha256 or feature_cache.hash_encoder(model),
            lambda: initial or model,
            Devices(tf.distribute.OneDeviceStrategy("CPU:0")),
            self.verified,
        )

    def images(self, split):
        """The same examples as images, read another way."""
        shards = reading.shards_in(str(self.data_dir), self.data.splits[split])
        options = InputOptions(
            RAW, self.options.image_size, shards.num_records, keep_aspect=self.options.keep_aspect
        )
        (batch,) = pipeline.make_for_eval(shards.paths, options)
        return batch


@pytest.fixture
def opener(data_dir, tmp_path):
    return Opener(tmp_path / "features", data_dir)


def all_of(shards, layout):
    """Every record of some shards, in the order of writing."""
    options = InputOptions(RAW, layout.image_size, shards.num_records)
    (batch,) = feature_pipeline.make_for_eval(shards.paths, layout, list(layout.stages), options)
    return batch


def assert_near(decoded, outputs):
    assert decoded.keys() == outputs.keys()
    for stage, output in outputs.items():
        half_a_step = output.numpy().max((1, 2), keepdims=True) / 255 / 2
        error = np.abs(decoded[stage].numpy() - output.numpy())
        assert (error <= half_a_step * 1.01 + 1e-5).all(), stage


def compute(model, images, stages):
    """Each stage's output, by the layers of the whole model as exports compute it."""
    x, outputs = images, {}
    for name, stage in model.encoder.stages.items():
        x = outputs[name] = stage(x, training=False)
    return {stage: outputs[stage] for stage in stages}


@pytest.mark.parametrize(
    ("size", "keep_aspect"), [(SIZE, False), (SIZE, True), ((32, 64), True), ((64, 32), False)]
)
def test_a_cache_holds_the_features_of_images_and_of_their_mirror_images(opener, size, keep_aspect):
    opener.change(image_size=size, keep_aspect=keep_aspect)
    model = toy_model(image_size=size)
    cache = opener.open(model)
    stages = ("pool3", "pool4", "pool5")
    assert tuple(cache.layout.stages) == stages
    whole, mirrored = (all_of(shards, cache.layout) for shards in cache.train)
    validation = all_of(cache.validation, cache.layout)
    for cached, split in ((whole, "train"), (validation, "validation")):
        images = opener.images(split)
        np.testing.assert_array_equal(cached["mask"], images["mask"])
        assert_near(features.decode(cached), compute(model, images["image"], stages))
    if not keep_aspect:
        images = opener.images("train")
        np.testing.assert_array_equal(mirrored["mask"], images["mask"][:, :, ::-1])
        flipped = images["image"][:, :, ::-1]
        assert_near(features.decode(mirrored), compute(model, flipped, stages))
    for one, other in zip(whole["mask"].numpy(), mirrored["mask"].numpy(), strict=True):
        columns = int((one != IGNORE).any(0).sum())  # what fills an image up stays on its right
        np.testing.assert_array_equal(other[:, :columns], one[:, :columns][:, ::-1])
        assert (other[:, columns:] == IGNORE).all()
    assert (np.mean(mirrored["mask"] != IGNORE) < 1) == keep_aspect


@pytest.mark.slow
@pytest.mark.parametrize("size", [SIZE, (64, 32)])
def test_windows_are_fixed_parts_of_their_images(opener, tmp_path, size):
    opener.change(image_size=size, crops=2, augmentation=Augmentation(min_crop_area=0.3))
    cache = opener.open()
    assert len(cache.train) == 4
    opener.change(folder=str(tmp_path / "again"))
    again = opener.open(toy_model(image_size=size, seed=9))
    *_, one, two = (all_of(shards, cache.layout) for shards in cache.train)
    *_, same, _ = (all_of(shards, again.layout) for shards in again.train)
    np.testing.assert_array_equal(one["mask"], same["mask"])  # whatever the run's seed
    whole = opener.images("train")["mask"].numpy()
    differ = 0
    for index in range(len(whole)):
        assert (one["mask"][index].numpy() != whole[index]).any()
        assert set(np.unique(one["mask"][index])) <= set(np.unique(whole[index]))
        differ += (one["mask"][index].numpy() != two["mask"][index].numpy()).any()
    assert differ > 0.9 * len(whole)


def test_batches_hold_the_features_of_the_images_that_they_name(opener):
    model = toy_model()
    cache = opener.open(model)
    source = FeatureBatches(cache, model.cacheable_stages, InputOptions(RAW, SIZE, 4))
    whole = opener.images("train")
    paths = reading.shards_in(str(opener.data_dir), opener.data.splits["train"]).paths
    names = [original.name for original in stored_examples.read_originals(paths)]
    batch = next(iter(source.train(DECODER, 3)))
    for row, name in enumerate(source.names_in_batch(3)):
        mask = whole["mask"][names.index(name)].numpy()
        is_mirrored = not np.array_equal(batch["mask"][row].numpy(), mask)
        expected = mask[:, ::-1] if is_mirrored else mask
        np.testing.assert_array_equal(batch["mask"][row].numpy(), expected)
        image = whole["image"][names.index(name)][None]
        outputs = compute(model, image[:, :, ::-1] if is_mirrored else image, cache.layout.stages)
        decoded = {stage: o[row][None] for stage, o in features.decode(batch).items()}
        assert_near(decoded, outputs)


def test_each_stage_of_a_run_finds_what_it_needs(opener):
    model = toy_model("fcn16s")
    cache = opener.open(model, (DECODER, "block4"))
    assert tuple(cache.layout.stages) == ("pool3", "pool4", "pool5")
    source = FeatureBatches(cache, model.cacheable_stages, InputOptions(RAW, SIZE, 4))
    image = opener.images("validation")
    for trainable in (DECODER, "block4"):
        (batch, *_) = source.validation(trainable)
        logits = model.logits(features.decode(batch)).numpy()
        expected = model.logits({IMAGE: image["image"][:4]}).numpy()
        np.testing.assert_allclose(logits, expected, atol=0.05 * np.abs(expected).max())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# With the first seed a batch fails while the next one is on its way to the same shard.
@pytest.mark.parametrize("seed", [2775513783, None])
def test_a_computation_that_fails_anywhere_resumes_and_ends_the_same(opener, monkeypatch, seed):
    seed = seed or random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng, folder = random.Random(seed), opener.folder
    opener.open()
    undisturbed = contents(folder)
    shutil.rmtree(folder)
    encode, written = fill.feature_records.encode_record, []
    for _ in range(4):
        fail_at = rng.randrange(1, 40)
        calls = []

        def counted(*arguments, calls=calls, fail_at=fail_at):
            calls.append(arguments[0])
            if len(calls) == fail_at:
                raise MemoryError
            return encode(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(fill.feature_records, "encode_record", counted)
            try:
                opener.open()
            except MemoryError:
                assert not (folder / manifest.FILE_NAME).exists()
                assert folder.exists() == bool(list(folder.glob("*.tfrecord*")))
        written.append(len(calls))
    opener.open()
    assert contents(folder) == undisturbed
    assert sum(written) < 4 * (20 + 20 + 8)  # whole shards were not written again


def test_shards_that_were_begun_with_other_settings_are_written_again(opener, monkeypatch):
    folder, finish = opener.folder, fill.shard_files.finish
    finished = []

    def fail(*arguments):
        finish(*arguments)
        finished.append(arguments)
        if len(finished) == 9:
            raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(fill.shard_files, "finish", fail)
        opener.open()
    opener.change(keep_aspect=True)  # shards of the same names and sizes
    opener.open()
    mixed = contents(folder)
    shutil.rmtree(folder)
    opener.open()
    assert contents(folder) == mixed


def test_a_full_disk_is_one_line_and_leaves_nothing_that_seems_whole(opener, monkeypatch):
    def flush(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_files, "flush", flush)
    with pytest.raises(FaultFound, match=r"feature_cache_dir.*No space left on device"):
        opener.open()
    assert not opener.folder.exists()


def test_a_lack_of_space_is_reported_before_anything_is_computed(opener, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UserError, match=r"feature_cache_dir.*, 0 MiB are free"):
        opener.open()
    assert not opener.folder.exists()


def test_a_cache_is_used_again_and_grows_by_what_it_lacks(opener):
    folder = opener.folder
    opener.change(augmentation=Augmentation(flip=False))
    opener.open()
    before = contents(folder)
    assert set(manifest.read_manifest(str(folder)).splits) == {"train", "validation"}
    opener.change(augmentation=Augmentation(flip=True))
    fewer = toy_model("fcn16s")  # reads fewer stages than there are
    assert tuple(opener.open(fewer).layout.stages) == ("pool3", "pool4", "pool5")
    after = contents(folder)
    assert {"train", "train_mirrored", "validation"} == set(
        manifest.read_manifest(str(folder)).splits
    )
    assert all(after[name] == before[name] for name in before if name != manifest.FILE_NAME)
    opener.open()
    assert contents(folder) == after


@pytest.mark.parametrize(("size", "in_key"), [(SIZE, 32), ((32, 64), "32x64")])
def test_the_key_holds_all_that_features_depend_on(opener, size, in_key):
    model = toy_model(image_size=size)
    opener.change(image_size=size)
    opener.open(model)
    assert manifest.read_manifest(str(opener.folder)).source == {
        "data_set": opener.data.digest(),
        "encoder": "vgg16",
        "weights": feature_cache.hash_encoder(model),
        "stages": "pool3, pool4, pool5",
        "image_classes": "stored",
        "image_size": in_key,
        "fitting": "squashed",
        "preprocessing": model.encoder.preprocessing,
        "output_stride": 32,
        "precision": "float32",
        "stored_as": "uint8",
    }


@pytest.mark.parametrize(("changes", "expected"), [
    ({"image_size": 64}, "image_size=32, this run has image_size=64"),
    ({"image_size": (64, 32)}, "image_size=32, this run has image_size=64x32"),
    ({"keep_aspect": True}, "fitting=squashed, this run has fitting=letterboxed"),
    ({"dtype": "float16"}, "stored_as=uint8, this run has stored_as=float16"),
    ({"precision": "mixed_bfloat16"}, "precision=float32, this run has precision=mixed_bfloat16"),
])  # fmt: skip
def test_a_cache_of_other_options_is_refused_with_the_reason(opener, changes, expected):
    opener.open()
    opener.change(**changes)
    with pytest.raises(UserError, match=r"feature_cache_dir.*name another folder") as caught:
        opener.open()
    assert expected in str(caught.value)


@pytest.mark.parametrize(("model", "trainable", "expected"), [
    ({"seed": 7}, DECODER, "was filled with weights="),
    ({"decoder": "fcn2s"}, DECODER, "holds stages pool3, pool4, pool5, this run needs pool1, "),
    ({"decoder": "deeplab_v3_plus"}, DECODER, "output_stride=32, this run has output_stride=16"),
    ({}, "block3", "this run needs pool2"),
])  # fmt: skip
def test_a_cache_of_another_model_is_refused_with_the_reason(opener, model, trainable, expected):
    opener.open()
    with pytest.raises(UserError, match=r"feature_cache_dir.*name another folder") as caught:
        opener.open(toy_model(**model), (trainable,))
    assert expected in str(caught.value)


def test_a_cache_of_other_data_is_refused(opener, raw_pets, tmp_path):
    opener.open()
    convert(raw_pets, tmp_path / "other", validation_fraction=0.5)
    opener.data_dir = tmp_path / "other"
    with pytest.raises(UserError, match="was filled with data_set="):
        opener.open()


@pytest.mark.parametrize("key", ["backbone", "pools"])
def test_a_cache_of_the_first_edition_is_refused_in_one_line(opener, key):
    opener.open()
    path = opener.folder / manifest.FILE_NAME
    content = json.loads(path.read_text())
    content["source"] = {"data_set": opener.data.digest(), key: "3, 4, 5"}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="name another folder, or delete it") as caught:
        opener.open()
    assert "petseg 0.1" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("trainable", [ALL, "block1"])
def test_training_the_first_stage_is_refused(opener, trainable):
    with pytest.raises(UserError, match=rf"'{trainable}' moves the encoder's first stage"):
        opener.open(trainables=(DECODER, trainable))
    assert not opener.folder.exists()


def test_weights_that_are_gone_are_reported_before_features_are_mixed(opener):
    with pytest.raises(UserError, match="no longer gives the weights"):
        opener.open(toy_model(), initial=toy_model(seed=7))
    assert not opener.folder.exists()


def test_features_that_are_gone_are_computed_from_the_initial_weights(opener):
    initial, trained = toy_model(), toy_model()
    opener.open(initial)
    before = contents(opener.folder)
    shutil.rmtree(opener.folder)
    trained.encoder.variables[-1].assign_add(np.ones(trained.encoder.variables[-1].shape))
    opener.open(trained, encoder_sha256=feature_cache.hash_encoder(initial), initial=initial)
    assert contents(opener.folder) == before


def test_a_folder_that_holds_something_else_is_left_alone(opener):
    opener.folder.mkdir()
    (opener.folder / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match=r"feature_cache_dir: .* is not empty \(thesis.txt"):
        opener.open()
    assert [path.name for path in opener.folder.iterdir()] == ["thesis.txt"]


def test_a_data_set_is_not_taken_for_a_feature_cache(opener):
    opener.change(folder=str(opener.data_dir))
    before = contents(opener.data_dir)
    with pytest.raises(UserError, match="is not a feature cache; name another folder"):
        opener.open()
    assert contents(opener.data_dir) == before


def test_a_damaged_shard_is_named(opener):
    opener.open()
    damaged = sorted(opener.folder.glob("*train_mirrored*"))[0]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(bytes(content))
    opened = opener.open()
    with pytest.raises(FaultFound, match=rf"{damaged.name} differs .*delete"), faults_in_one_line():
        list(reading.read(opened.train[1].paths, verified=opened.train[1].verified))
    assert len(list(reading.read(opened.train[0].paths, verified=opened.train[0].verified))) == 20
    opener.change(verify_hashes=False)
    assert opener.open().train[1].verified is None


def test_no_feature_is_computed_from_a_shard_that_differs(opener, tmp_path):
    opener.data_dir = shutil.copytree(opener.data_dir, tmp_path / "data")
    train = opener.data.splits["train"]
    opener.verified = VerifiedShards(str(opener.data_dir), [train], "config.data.dir", "")
    damaged = opener.data_dir / train.shards[0].name
    with damaged.open("rb") as file:
        frames = [tfrecord.frame(frame.data) for frame in tfrecord.read_frames(file)]
    damaged.write_bytes(b"".join(reversed(frames)))
    with pytest.raises(FaultFound, match=f"{damaged.name} differs"), faults_in_one_line():
        opener.open()
    assert not (opener.folder / "manifest.json").exists()


def test_features_may_be_held_in_memory(opener):
    on_disk = opener.open()
    opener.change(cache="memory")
    in_memory = opener.open()
    assert all(path.startswith("ram://") for path in in_memory.validation.paths)
    for one, other in ((on_disk.train[1], in_memory.train[1]),):
        disk, memory = all_of(one, on_disk.layout), all_of(other, in_memory.layout)
        for key in disk:
            np.testing.assert_array_equal(disk[key], memory[key])


def build_signed_encoder(options: EncoderOptions) -> Encoder:
    """Five convolutions of stride 2 without activations: features of either sign."""
    inputs = keras.Input((options.image_size, options.image_size, 3), dtype="uint8")
    x, stages, levels = keras.ops.cast(inputs, "float32") / 255 - 0.5, {}, {}
    for number in range(1, 6):
        initializer = keras.initializers.HeNormal(seed=number)
        x = keras.layers.Conv2D(4, 2, strides=2, kernel_initializer=initializer)(x)
        stages[f"stage{number}"] = keras.Model(inputs, x)
        levels[f"P{number}"] = Level(f"stage{number}", 2**number, 4)
        inputs = x = keras.Input(x.shape[1:])
    return Encoder("signed", levels, stages, lambda images: images, "halves around 0")


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_features_of_either_sign_are_kept(opener, dtype):
    encoder = build_signed_encoder(EncoderOptions(SIZE))
    decoder = build_decoder("fcn8s", FCN8S, encoder.levels, SIZE, DecoderOptions(3))
    model = SegmentationModel(encoder, decoder, {n: encoder.levels[n] for n in FCN8S.levels})
    opener.change(dtype=dtype)
    cache = opener.open(model)
    decoded = features.decode(all_of(cache.validation, cache.layout))
    images = opener.images("validation")["image"]
    for stage, computed in compute(model, images, cache.layout.stages).items():
        output = computed.numpy()
        assert output.min() < 0 < output.max()
        span = output.max((1, 2), keepdims=True) - output.min((1, 2), keepdims=True)
        bound = span / 255 / 2 * 1.01 if dtype == "uint8" else 2**-10 * np.abs(output)
        assert (np.abs(decoded[stage] - output) <= bound + 1e-4).all()


def test_parts_and_shards_follow_from_the_data_set_alone(opener):
    cache, splits = opener.open(), opener.data.splits
    parts = store.plan_parts(("whole", "mirrored"), splits["train"], splits["validation"])
    assert [(part.name, part.records) for part in parts] == [
        ("train", 20), ("train_mirrored", 20), ("validation", 8),
    ]  # fmt: skip
    tasks = store.plan_tasks(parts, cache.layout)
    for part in parts:
        edges = [(task.first, task.end) for task in tasks if task.part == part]
        assert [index for first, end in edges for index in range(first, end)] == list(
            range(part.records)
        )
    names = {path.name for path in opener.folder.glob("*.tfrecord*")}
    assert names == {task.name for task in tasks}


def written_cache(folder, records: int) -> None:
    """A finished cache of records without content."""
    splits = {}
    for name in ("train", "validation"):
        content = b"".join(tfrecord.frame(b"%d" % index) for index in range(records))
        shard = Shard(
            name=manifest.shard_name("features", name, 0, 1),
            records=records,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            inputs="0" * 64,
            pixels_per_label={},
            height_sum=0,
            width_sum=0,
        )
        (folder / shard.name).write_bytes(content)
        splits[name] = Split((shard,))
    source = {store.STAGES: "pool1", "image_size": 32}
    manifest.write_manifest(str(folder), Manifest("features", source, {1: "pet"}, splits, ()))


def test_a_cache_with_another_number_of_records_is_refused(tmp_path):
    written_cache(tmp_path, 3)
    options = FeatureCacheOptions(str(tmp_path), "uint8", 0, Augmentation(), 32)
    for records, is_fine in ((3, True), (2, False), (4, False)):
        parts = [store.Part(name, name, "whole", records) for name in ("train", "validation")]
        if is_fine:
            (train,), validation = feature_cache._open_shards(options, parts)
            assert train.num_records == validation.num_records == 3
            continue
        with pytest.raises(UserError, match=rf"3 records of 'train', not {records} as the data"):
            feature_cache._open_shards(options, parts)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"records": 3', '"records": "3"'),
        ('"features-train', '"../features-train'),
        ('"image_size": 32', '"image_size": NaN'),
        ('"image_size": 32', '"image_size": [32]'),
        ('"mean_height": 0.0', '"mean_height": 7.5'),
    ],
)
def test_a_damaged_manifest_of_a_cache_is_one_line(tmp_path, old, new):
    written_cache(tmp_path, 3)
    path = tmp_path / "manifest.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=r"manifest\.json is damaged: ") as caught:
        store.read_finished(str(tmp_path))
    assert str(caught.value).endswith(f"; delete {tmp_path}, to have it made again")
    assert str(caught.value).isprintable()


def test_a_cache_that_another_command_fills_is_waited_for_and_used(opener, tmp_path, capfd):
    model, elsewhere = toy_model(), tmp_path / "elsewhere"
    folder = opener.folder
    opener.change(folder=str(elsewhere))
    opener.open(model)
    capfd.readouterr()
    opener.change(folder=str(folder))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with output_folder.claim(str(folder)):  # as the other command does
            waiting = pool.submit(opener.open, model)
            said = []

            def says_that_it_waits():
                said.append(capfd.readouterr().err)
                return "another command writes to" in "".join(said)

            wait_until(says_that_it_waits, "a line that it waits")
            assert not waiting.done()
            for path in elsewhere.iterdir():
                shutil.copy2(path, folder / path.name)
        cache = waiting.result(timeout=300)
    assert "computing" not in "".join(said) + capfd.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in elsewhere.iterdir()
    )
    written = manifest.read_manifest(str(folder)).splits["train"]
    assert cache.train[0].num_records == written.records


def test_a_cache_that_another_command_left_unfinished_is_finished(opener, capfd):
    model = toy_model()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with pytest.raises(FaultFound, match="disk"), output_folder.claim(str(opener.folder)):
            waiting, said = pool.submit(opener.open, model), []

            def says_that_it_waits():
                said.append(capfd.readouterr().err)
                return "another command writes to" in "".join(said)

            wait_until(says_that_it_waits, "a line that it waits")
            raise FaultFound("the disk of the other command is full")
        cache = waiting.result(timeout=300)
    assert cache.train[0].num_records == opener.data.splits["train"].records
