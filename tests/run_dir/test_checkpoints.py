import resource
import shutil

import numpy as np
import pytest
import tensorflow as tf

from petseg.errors import UserError
from petseg.run_dir import checkpoints
from petseg.run_dir.checkpoints import CheckpointMetadata

RUN = {"label_map": "a=1"}


def variables(value=0.0):
    return {name: tf.Variable(tf.fill([300, 10], value)) for name in ("x/kernel", "y")}


def save(run, step, metrics=None):
    checkpoints.save(
        variables(float(step)), str(run), CheckpointMetadata(step, RUN, {"steps": 1}, {})
    )
    if metrics:
        checkpoints.add_metrics(str(run), step, metrics)


def folders(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_what_is_saved_is_restored_with_its_metadata(tmp_path):
    save(tmp_path, 7, {"mean_iou": 0.5})
    target = variables()
    metadata = checkpoints.restore(target, str(tmp_path), 7)
    assert sorted(metadata.sha256) == ["variables.data-00000-of-00001", "variables.index"]
    assert metadata == CheckpointMetadata(7, RUN, {"steps": 1}, {"mean_iou": 0.5}, metadata.sha256)
    assert all((v.numpy() == 7).all() for v in target.values())
    assert checkpoints.newest_readable(str(tmp_path)) == (7, [])


def damage(folder, kind, rng):
    data = folder / "variables.data-00000-of-00001"
    index = folder / "variables.index"
    content = bytearray(data.read_bytes())
    if kind == "cut":
        data.write_bytes(content[: rng.integers(len(content))])
    elif kind == "flip":
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        data.write_bytes(content)
    elif kind == "flip index":
        content = bytearray(index.read_bytes())
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        index.write_bytes(content)
    elif kind == "flip metadata":
        metadata = folder / "checkpoint.json"
        content = bytearray(metadata.read_bytes())
        indices = [i for i, byte in enumerate(content) if chr(byte).isalnum()]
        content[rng.choice(indices)] ^= 1
        metadata.write_bytes(content)
    elif kind == "no index":
        index.unlink()
    elif kind == "no data":
        data.unlink()
    elif kind == "no metadata":
        (folder / "checkpoint.json").unlink()
    elif kind == "half of the metadata":
        metadata = folder / "checkpoint.json"
        metadata.write_text(metadata.read_text()[: rng.integers(1, 50)])
    else:
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", [
    "cut", "flip", "flip index", "flip metadata",
    "no index", "no data", "no metadata", "half of the metadata", "gone",
])  # fmt: skip
def test_a_damaged_newest_one_is_skipped_and_named(tmp_path, kind):
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    for trial in range(5):
        run = tmp_path / str(trial)
        save(run, 3)
        save(run, 5)
        damage(run / "checkpoints" / "ckpt-5", kind, rng)
        step, skipped = checkpoints.newest_readable(str(run))
        assert step == 3
        assert ["ckpt-5 cannot be restored" in line for line in skipped] == [True] * (
            kind != "gone"
        )
        assert not any("\n" in line for line in skipped)


def test_without_any_it_says_so_and_with_damaged_ones_too(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoints.newest_readable(str(tmp_path))
    save(tmp_path, 3)
    (tmp_path / "checkpoints/ckpt-3/variables.index").write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint can be restored"):
        checkpoints.newest_readable(str(tmp_path))


def test_another_models_variables_are_one_line(tmp_path):
    save(tmp_path, 3)
    for wanted in ({"z": tf.Variable(0.0)}, {"y": tf.Variable(tf.zeros([2, 2]))}):
        with pytest.raises(UserError, match="cannot be restored") as caught:
            checkpoints.restore(wanted, str(tmp_path), 3)
        assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_what_was_there(tmp_path):
    save(tmp_path, 3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises((OSError, tf.errors.OpError)):
            save(tmp_path, 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert folders(tmp_path) == ["ckpt-3"]
    assert checkpoints.newest_readable(str(tmp_path)) == (3, [])
    save(tmp_path, 5)
    assert checkpoints.newest_readable(str(tmp_path)) == (5, [])


def test_the_latest_and_the_best_stay(tmp_path):
    for step, iou in ((1, 0.3), (2, 0.9), (3, 0.5), (4, 0.9), (5, 0.7)):
        save(tmp_path, step, {"mean_iou": iou, "iou/pet": -iou})
        checkpoints.remove_old(str(tmp_path), step, 2, "mean_iou")
    assert folders(tmp_path) == ["ckpt-2", "ckpt-4", "ckpt-5"]
    assert checkpoints.best_step(str(tmp_path), "mean_iou") == 2  # the earlier of equals
    assert checkpoints.best_step(str(tmp_path), "iou/pet") == 5
    assert checkpoints.best_step(str(tmp_path), "pixel_accuracy") is None


def test_a_later_one_that_could_not_be_read_does_not_count(tmp_path):
    save(tmp_path, 9)
    for step in (3, 4, 5):
        save(tmp_path, step)
        checkpoints.remove_old(str(tmp_path), step, 1, "mean_iou")
    assert folders(tmp_path) == ["ckpt-5", "ckpt-9"]


def test_a_damaged_one_is_replaced_by_the_same_step(tmp_path):
    save(tmp_path, 3)
    (tmp_path / "checkpoints/ckpt-3/variables.index").unlink()
    save(tmp_path, 3)
    assert checkpoints.newest_readable(str(tmp_path)) == (3, [])
    assert folders(tmp_path) == ["ckpt-3"]


def test_what_a_killed_run_had_begun_goes(tmp_path):
    save(tmp_path, 3)
    shutil.copytree(tmp_path / "checkpoints/ckpt-3", tmp_path / "checkpoints/unfinished-4")
    assert checkpoints.saved_steps(str(tmp_path)) == [3]
    checkpoints.remove_unfinished(str(tmp_path))
    assert folders(tmp_path) == ["ckpt-3"]


def test_metadata_of_another_step_is_refused(tmp_path):
    save(tmp_path, 3)
    metadata = tmp_path / "checkpoints/ckpt-3/checkpoint.json"
    save(tmp_path, 4)
    shutil.copy(tmp_path / "checkpoints/ckpt-4/checkpoint.json", metadata)
    with pytest.raises(ValueError, match="belongs to step 4"):
        checkpoints.read_metadata(str(tmp_path), 3)
