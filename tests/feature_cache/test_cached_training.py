"""Training on a folder of features: what is in it, what is refused, and that it changes nothing."""

import copy
import json
import os
import random
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
from testing.clusters import log_of, train, write_config
from testing.commands import assert_one_line_error, run_module, train_command

from petseg import config as config_lib
from petseg.config import Stage
from petseg.data import manifest, shard_files
from petseg.errors import FaultFound, StoppedBySignal, UserError
from petseg.evaluation.evaluate_split import EvaluateOptions, evaluate_split
from petseg.feature_cache import pipeline as feature_pipeline
from petseg.feature_cache import store as feature_store
from petseg.input_pipeline import pipeline
from petseg.models import features
from petseg.run_dir import checkpoints, run_folder
from petseg.training import loop, opening, progress

SAME = np.arange(256, dtype=np.uint8)


@pytest.fixture
def cached_config(tiny_config, tmp_path):
    tiny_config.data.feature_cache_dir = str(tmp_path / "features")
    return tiny_config


def opened_run(config):
    config = config_lib.spell_out(config)
    return opening.open_run(config, None, opening.find_place(config))


def all_of(shards, layout):
    """Every record of some shards, in the order of writing."""
    dataset = feature_pipeline.make_for_eval(
        shards.paths, layout, sorted(layout.pools), class_ids=SAME, batch_size=shards.num_records
    )
    (found,) = dataset
    return found


def images_of(opened, split):
    """The same examples as images, by another path."""
    shards = opened.data.shards(split)
    (found,) = pipeline.make_for_eval(
        shards.paths, class_ids=SAME, image_size=32, batch_size=shards.num_records,
        keep_aspect=opened.config.data.keep_aspect,
    )  # fmt: skip
    return found


def assert_near(decoded, pools):
    for block, pool in pools.items():
        half_a_step = pool.numpy().max((1, 2), keepdims=True) / 255 / 2
        error = np.abs(decoded[block].numpy() - pool.numpy())
        assert (error <= half_a_step * 1.01 + 1e-5).all(), block


def direct_pools(model, images):
    """By the whole backbone at once, as exports compute it."""
    return dict(zip(model.tapped, model.backbone(images), strict=True))


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_a_cache_holds_the_pools_of_images_and_of_their_mirror_images(cached_config, keep_aspect):
    cached_config.data.keep_aspect = keep_aspect
    opened = opened_run(cached_config)
    found, model = opened.data.features, opened.model
    assert sorted(found.layout.pools) == [3, 4, 5]
    whole, mirrored = (all_of(shards, found.layout) for shards in found.train)
    unseen = all_of(found.validation, found.layout)
    for cached, split in ((whole, opened.data.train), (unseen, opened.data.validation)):
        images = images_of(opened, split)
        np.testing.assert_array_equal(cached["mask"], images["mask"])
        assert_near(features.known_pools(cached), direct_pools(model, images["image"]))
    if not keep_aspect:
        images = images_of(opened, opened.data.train)
        np.testing.assert_array_equal(mirrored["mask"], images["mask"][:, :, ::-1])
        assert_near(
            features.known_pools(mirrored), direct_pools(model, images["image"][:, :, ::-1])
        )
    for one, other in zip(whole["mask"].numpy(), mirrored["mask"].numpy(), strict=True):
        columns = int((one != 255).any(0).sum())  # what fills an image up stays on its right
        np.testing.assert_array_equal(other[:, :columns], one[:, :columns][:, ::-1])
        assert (other[:, columns:] == 255).all()
    valid = np.mean(mirrored["mask"] != 255)
    assert (valid < 1) == keep_aspect


def test_windows_are_fixed_parts_of_their_images(cached_config, tmp_path):
    cached_config.augment.min_crop_area = 0.3
    cached_config.data.feature_crops = 2
    first = opened_run(cached_config)
    cached_config.data.feature_cache_dir = str(tmp_path / "again")
    cached_config.train.seed = 9
    again = opened_run(cached_config)
    found, others = first.data.features, again.data.features
    assert len(found.train) == 4
    *_, one, two = (all_of(shards, found.layout) for shards in found.train)
    *_, same, _ = (all_of(shards, others.layout) for shards in others.train)
    np.testing.assert_array_equal(one["mask"], same["mask"])  # whatever the run's seed
    whole = images_of(first, first.data.train)["mask"].numpy()
    differ = 0
    for place in range(len(whole)):
        assert (one["mask"][place].numpy() != whole[place]).any()
        assert set(np.unique(one["mask"][place])) <= set(np.unique(whole[place]))
        differ += (one["mask"][place].numpy() != two["mask"][place].numpy()).any()
    assert differ > 0.9 * len(whole)


def test_the_stream_shows_the_pools_of_the_images_that_it_names(cached_config):
    opened = opened_run(cached_config)
    settings, found = opened.config.data, opened.data.features
    whole = images_of(opened, opened.data.train)
    names = [o.name for o in pipeline.read_originals(opened.data.shards(opened.data.train).paths)]
    dataset = feature_pipeline.make_for_train(
        found.train, found.layout, (3, 4, 5), class_ids=SAME, batch_size=4,
        shuffle_records=settings.shuffle_records, seed=0, start_step=3,
    )  # fmt: skip
    batch = next(iter(dataset))
    named = pipeline.names_in_batch(
        found.train, shuffle_records=settings.shuffle_records, seed=0, step=3, batch_size=4
    )
    for row, name in enumerate(named):
        mask = whole["mask"][names.index(name)].numpy()
        own = batch["mask"][row].numpy()
        is_mirrored = not np.array_equal(own, mask)
        np.testing.assert_array_equal(own, mask[:, ::-1] if is_mirrored else mask)
        image = whole["image"][names.index(name)][None]
        expected = direct_pools(opened.model, image[:, :, ::-1] if is_mirrored else image)
        decoded = {b: p[row][None] for b, p in features.known_pools(batch).items()}
        assert_near(decoded, expected)


def weights(folder, step):
    reader = tf.train.load_checkpoint(f"{folder}/checkpoints/ckpt-{step}/variables")
    names = reader.get_variable_to_shape_map()
    return {n: reader.get_tensor(n) for n in names if n != "_CHECKPOINTABLE_OBJECT_GRAPH"}


def assert_same_weights(one, other, atol=1e-6):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=atol, err_msg=name)


@pytest.fixture
def staged(cached_config):
    cached_config.train.epochs = 1.0
    cached_config.train.then = [Stage("block4", 1.0, 2e-3)]
    cached_config.model.dropout_rate = 0.2
    cached_config.optimizer.average_decay = 0.9
    return cached_config


def test_a_run_stopped_in_any_stage_goes_on_to_the_same_end(staged, tmp_path, monkeypatch):
    loop.train_and_evaluate(copy.deepcopy(staged), str(tmp_path / "straight"))
    stopped = tmp_path / "stopped"
    stops = 0
    while stops < 20:
        taken = []

        def advance(self, count, taken=taken):
            taken.append(count)
            if sum(taken) >= 4:  # within stages and at their borders
                os.kill(os.getpid(), signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(progress.Progress, "advance", advance)
            try:
                loop.train_and_evaluate(copy.deepcopy(staged), str(stopped))
                break
            except StoppedBySignal:
                stops += 1
    assert stops >= 2
    assert_same_weights(weights(stopped, 10), weights(tmp_path / "straight", 10))
    ours, theirs = (run_folder.read_evaluations(str(f)) for f in (stopped, tmp_path / "straight"))
    assert ours == theirs


def test_a_stage_moves_what_it_names_and_the_whole_model_scores_the_same(staged, tmp_path):
    staged.data.feature_dtype = "float16"
    staged.train.keep_checkpoints = 9
    loop.train_and_evaluate(staged, str(tmp_path / "run"))
    before, after = weights(tmp_path / "run", 5), weights(tmp_path / "run", 10)
    blocks = [name for name in before if name.startswith("variables/block")]
    assert {name[15] for name in blocks if (before[name] != after[name]).any()} == {"4", "5"}
    scored = evaluate_split(str(tmp_path / "run"), EvaluateOptions(panel_images=2))
    told = run_folder.read_evaluations(str(tmp_path / "run"))[10]
    assert scored["mean_iou"] == pytest.approx(told["mean_iou"], abs=2e-3)


@pytest.mark.long
def test_microbatches_of_features_end_with_the_weights_of_whole_batches(cached_config, tmp_path):
    cached_config.model.dropout_rate = 0.3
    cached_config.train.trained, cached_config.train.epochs = "block4", 1.0
    cached_config.model.head, cached_config.model.head_width = "wide", 8
    for parts in (1, 4):
        cached_config.optimizer.microbatches = parts
        loop.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / str(parts)))
    assert_same_weights(weights(tmp_path / "4", 5), weights(tmp_path / "1", 5), 1e-5)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_computation_that_fails_anywhere_goes_on_and_ends_the_same(
    cached_config, tmp_path, monkeypatch
):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng, folder = random.Random(seed), tmp_path / "features"
    opened_run(cached_config)
    undisturbed = contents(folder)
    shutil.rmtree(folder)
    encode, written = feature_store.feature_records.encode_record, []
    for _ in range(4):
        fail_at = rng.randrange(1, 40)
        calls = []

        def counted(*arguments, calls=calls, fail_at=fail_at):
            calls.append(arguments[0])
            if len(calls) == fail_at:
                raise MemoryError
            return encode(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(feature_store.feature_records, "encode_record", counted)
            try:
                opened_run(cached_config)
            except MemoryError:
                assert not (folder / manifest.FILE_NAME).exists()
                assert folder.exists() == bool(list(folder.glob("*.tfrecord*")))
        written.append(len(calls))
    opened_run(cached_config)
    assert contents(folder) == undisturbed
    assert sum(written) < 4 * (20 + 20 + 8)  # what was whole stayed


def test_what_was_begun_with_other_settings_is_not_gone_on_with(
    cached_config, tmp_path, monkeypatch
):
    folder, finish = tmp_path / "features", feature_store.shard_files.finish
    finished = []

    def fail(*arguments):
        finish(*arguments)
        finished.append(arguments)
        if len(finished) == 9:
            raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(feature_store.shard_files, "finish", fail)
        opened_run(cached_config)
    cached_config.data.keep_aspect = True  # shards of the same names and sizes
    opened_run(cached_config)
    found = contents(folder)
    shutil.rmtree(folder)
    opened_run(cached_config)
    assert contents(folder) == found


def test_a_full_disk_is_one_line_and_leaves_nothing_that_looks_whole(
    cached_config, tmp_path, monkeypatch
):
    def flush(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_files, "flush", flush)
    with pytest.raises(FaultFound, match=r"feature_cache_dir.*No space left on device"):
        opened_run(cached_config)
    assert not (tmp_path / "features").exists()


def test_no_room_is_said_before_anything_is_computed(cached_config, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UserError, match=r"feature_cache_dir.*there is room for 0"):
        opened_run(cached_config)
    assert not (tmp_path / "features").exists()


def test_a_cache_is_used_again_and_grows_by_what_it_lacks(cached_config, tmp_path):
    folder = tmp_path / "features"
    cached_config.augment.flip = False
    opened_run(cached_config)
    before = contents(folder)
    assert set(manifest.read_manifest(str(folder)).splits) == {"train", "validation"}
    cached_config.augment.flip = True
    cached_config.model.head = "fcn16s"  # reads fewer pools than there are
    opened_run(cached_config)
    after = contents(folder)
    assert {"train", "train_mirrored", "validation"} == set(
        manifest.read_manifest(str(folder)).splits
    )
    assert all(after[name] == before[name] for name in before if name != manifest.FILE_NAME)
    opened_run(cached_config)
    assert contents(folder) == after


@pytest.mark.parametrize(("room", "field", "value", "expected"), [
    ("train", "seed", 7, "another backbone"),
    ("data", "image_size", 64, "another image size: 32, now it is 64"),
    ("data", "keep_aspect", True, "another fitting: squashed, now it is letterboxed"),
    ("data", "feature_dtype", "float16", "another stored as: uint8, now it is float16"),
    ("model", "head", "five_tap", "pools of blocks 3, 4, 5, this run needs 1, 2, 3, 4, 5"),
    ("train", "trained", "block3", "this run needs 2"),
])  # fmt: skip
def test_a_cache_of_something_else_is_refused_with_the_reason(
    cached_config, room, field, value, expected
):
    opened_run(cached_config)
    setattr(getattr(cached_config, room), field, value)
    with pytest.raises(UserError, match=r"feature_cache_dir") as caught:
        opened_run(cached_config)
    assert expected in str(caught.value)
    assert "name another folder" in str(caught.value)


def test_a_cache_of_other_data_is_refused(cached_config, raw_pets, tmp_path):
    from testing.conversion import convert

    opened_run(cached_config)
    convert(raw_pets, tmp_path / "other", validation_fraction=0.5)
    cached_config.data.dir = str(tmp_path / "other")
    with pytest.raises(UserError, match="features of another data set"):
        opened_run(cached_config)


def test_a_folder_with_something_else_in_it_is_left_alone(cached_config, tmp_path):
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match=r"feature_cache_dir: .* is not empty \(thesis.txt"):
        opened_run(cached_config)
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["thesis.txt"]


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_a_damaged_shard_is_named_before_training_or_while_it_is_read(cached_config, tmp_path):
    opened_run(cached_config)
    damaged = sorted((tmp_path / "features").glob("*train_mirrored*"))[0]
    flip_a_byte(damaged)
    with pytest.raises(UserError, match=rf"{damaged.name} differs .*delete"):
        loop.train_and_evaluate(cached_config, str(tmp_path / "run"))
    cached_config.data.verify_hashes = False
    with pytest.raises(FaultFound, match=rf"feature_cache_dir: .*{damaged.name} differs .*delete"):
        loop.train_and_evaluate(cached_config, str(tmp_path / "run"))


def test_a_run_keeps_its_kind_of_input_but_the_folder_may_move(cached_config, tmp_path):
    cached_config.train.epochs = 1.0
    loop.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / "run"))
    shutil.move(tmp_path / "features", tmp_path / "moved")
    cached_config.train.epochs = 2.0
    cached_config.data.feature_cache_dir = ""
    with pytest.raises(UserError, match=r"feature_cache_dir=.* now it is ''"):
        loop.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / "run"))
    cached_config.data.feature_cache_dir = str(tmp_path / "moved")
    loop.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / "run"))
    assert checkpoints.saved_steps(str(tmp_path / "run"))[-1] == 10


def test_features_that_are_gone_are_computed_from_the_weights_that_the_run_began_with(
    staged, tmp_path
):
    loop.train_and_evaluate(copy.deepcopy(staged), str(tmp_path / "run"))  # block4 has moved
    before = contents(tmp_path / "features")
    shutil.rmtree(tmp_path / "features")
    staged.train.then[0].epochs = 2.0
    loop.train_and_evaluate(copy.deepcopy(staged), str(tmp_path / "run"))
    assert contents(tmp_path / "features") == before


def test_features_may_be_held_in_memory(cached_config, tmp_path):
    cached_config.train.epochs = 1.0
    loop.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / "disk"))
    cached_config.data.cache = "memory"
    loop.train_and_evaluate(copy.deepcopy(cached_config), str(tmp_path / "memory"))
    assert_same_weights(weights(tmp_path / "memory", 5), weights(tmp_path / "disk", 5))


@pytest.mark.parametrize(("room", "field", "value", "expected"), [
    ("augment", "brightness", 0.2, "config.augment.brightness=0.2"),
    ("augment", "cutmix_probability", 0.5, "config.augment.cutmix_probability=0.5"),
    ("augment", "min_crop_area", 0.5, "config.data.feature_crops=0 must"),
    ("data", "feature_crops", 2, "config.data.feature_crops=2 must be 0 with whole images"),
    ("data", "feature_dtype", "int4", "config.data.feature_dtype='int4' must"),
    ("data", "service_address", "grpc://h:1", "config.data.service_address"),
    ("train", "trained", "all", "config.train.trained='all' must be block2 or later"),
])  # fmt: skip
def test_settings_that_need_images_are_refused(cached_config, room, field, value, expected):
    setattr(getattr(cached_config, room), field, value)
    with pytest.raises(UserError) as caught:
        config_lib.validate(cached_config)
    assert expected in str(caught.value)


def test_a_user_sees_what_is_computed_and_a_mistake_is_one_line(data_dir, tmp_path):
    folder = tmp_path / "features"
    command = train_command(tmp_path / "run", data_dir, f"--config.data.feature_cache_dir={folder}")
    done = run_module(*command)
    assert done.returncode == 0, done.stderr
    assert "train (20), train_mirrored (20), validation (8)" in done.stderr
    (folder / manifest.FILE_NAME).write_text(json.dumps({"version": 2}))
    assert_one_line_error(
        run_module(*train_command(tmp_path / "third", data_dir, *command[-1:])), 2, "is damaged"
    )


@pytest.mark.long
@pytest.mark.parametrize(("hosts", "stages"), [(2, 1), (2, 2), (1, 2)])
def test_replicas_and_hosts_fill_a_cache_and_end_with_the_weights_of_one_device(
    staged, tmp_path, hosts, stages
):
    staged.train.then = staged.train.then[: stages - 1]
    staged.model.head, staged.model.head_width = "wide", 8
    loop.train_and_evaluate(copy.deepcopy(staged), str(tmp_path / "alone"))
    alone = contents(tmp_path / "features")
    staged.data.feature_cache_dir = str(tmp_path / "shared")
    if hosts == 1:
        staged.devices.strategy, staged.devices.cpu_replicas = "mirrored", 2
    file = write_config(staged, tmp_path / "config.py")
    assert train(file, tmp_path / "run", hosts) == [0] * hosts, log_of(tmp_path / "run")
    assert "over 2 replica(s)" in log_of(tmp_path / "run")
    shared = contents(tmp_path / "shared")
    assert shared.keys() == alone.keys()
    steps = 5 * stages
    ours, theirs = (weights(tmp_path / name, steps) for name in ("run", "alone"))
    assert_same_weights(ours, theirs, 1e-4)
