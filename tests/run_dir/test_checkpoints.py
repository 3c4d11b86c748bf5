import hashlib
import json
import math
import resource
import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

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


def rewrite(run, step, change):
    """Changes the metadata of a checkpoint and gives them the right SHA-256."""
    path = run / "checkpoints" / f"ckpt-{step}" / "checkpoint.json"
    content = json.loads(path.read_text())
    del content["sha256_of_metadata"]
    change(content)
    text = json.dumps(content, sort_keys=True)
    content["sha256_of_metadata"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(step="3"), "step: should be a valid integer, not '3'"),
        (lambda c: c.update(step=-3), "step: should be greater than or equal to 0"),
        (lambda c: c.update(step=2**63), "step: should be less than or equal to"),
        (lambda c: c.update(run=None), "run: should be an object, not None"),
        (lambda c: c.update(metrics={"mean_iou": "best"}), "metrics.mean_iou"),
        (lambda c: c.update(curve_sums=[1]), "curve_sums: should be an object, not [1]"),
        (lambda c: c.update(sha256={"../../x": "00"}), "sha256"),
        (lambda c: c["sha256"].pop("variables.index"), "variables.index is not in"),
        (lambda c: c.update(sha256={}), "is not in checkpoint.json"),
        (lambda c: c.update(more=1), "more: Unexpected keyword argument"),
        (lambda c: c.pop("run"), "run: Field required"),
    ],
)
def test_metadata_that_no_checkpoint_has_are_skipped_whatever_their_hash(tmp_path, change, said):
    save(tmp_path, 2)
    save(tmp_path, 3)
    rewrite(tmp_path, 3, change)
    step, (line,) = checkpoints.newest_readable(str(tmp_path))
    assert step == 2
    assert said in line
    assert line.isprintable()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"step":' * 100_000, "", "[1]", "null", "\x00"])
def test_metadata_that_are_none_are_skipped(tmp_path, text):
    save(tmp_path, 2)
    save(tmp_path, 3)
    (tmp_path / "checkpoints/ckpt-3/checkpoint.json").write_text(text)
    step, (line,) = checkpoints.newest_readable(str(tmp_path))
    assert step == 2
    assert line.isprintable()
    assert checkpoints.best_step(str(tmp_path), "mean_iou") is None


@pytest.mark.parametrize("name", ["ckpt-999999999999", "ckpt-07", "ckpt-٣", f"ckpt-{'9' * 200}"])
def test_a_renamed_folder_is_not_taken_as_the_newest(tmp_path, name):
    save(tmp_path, 3, {"mean_iou": 0.5})
    save(tmp_path, 4, {"mean_iou": 0.9})
    (tmp_path / "checkpoints/ckpt-4").rename(tmp_path / "checkpoints" / name)
    assert checkpoints.newest_readable(str(tmp_path))[0] == 3
    assert checkpoints.newest_step(str(tmp_path)) == 3
    assert checkpoints.best_step(str(tmp_path), "mean_iou") == 3
    save(tmp_path, 5)
    checkpoints.remove_old(str(tmp_path), 5, 1, "mean_iou")
    assert folders(tmp_path) == sorted(["ckpt-3", "ckpt-5", name])


def test_sums_that_are_no_number_any_more_are_kept_exactly(tmp_path):
    sums = {"loss": math.nan, "rate": -math.inf, "steps": 3, "other": 0.1 + 0.2, "tiny": 5e-324}
    checkpoints.save(variables(), str(tmp_path), CheckpointMetadata(3, RUN, sums, {}))
    found = checkpoints.read_metadata(str(tmp_path), 3).curve_sums
    assert repr(found) == repr(sums)


def test_a_checkpoint_that_is_a_device_is_skipped(tmp_path):
    save(tmp_path, 2)
    save(tmp_path, 3)
    data = tmp_path / "checkpoints/ckpt-3/variables.data-00000-of-00001"
    data.unlink()
    data.symlink_to("/dev/zero")
    step, (line,) = checkpoints.newest_readable(str(tmp_path))
    assert step == 2
    assert "it is a device, not a regular file" in line


def paths_in(value: object, path: tuple = ()) -> list[tuple]:
    items = enumerate(value) if isinstance(value, list) else getattr(value, "items", tuple)()
    return [path] * bool(path) + [p for key, one in items for p in paths_in(one, (*path, key))]


@settings(max_examples=100, deadline=None, print_blob=True)
@given(drawn=st.data())
def test_drawn_damage_of_metadata_is_skipped_in_one_line(tmp_path_factory, drawn):
    if "run" not in DRAWN:
        DRAWN["run"] = tmp_path_factory.mktemp("run")
        save(DRAWN["run"], 2)
        save(DRAWN["run"], 3, {"mean_iou": 0.5})
        DRAWN["text"] = (DRAWN["run"] / "checkpoints/ckpt-3/checkpoint.json").read_text()
    run, content = DRAWN["run"], json.loads(DRAWN["text"])
    *parents, last = drawn.draw(st.sampled_from(paths_in(content)))
    inner = content
    for part in parents:
        inner = inner[part]
    nasty = [
        ...,
        None,
        True,
        -1,
        0.25,
        2**63,
        10**12,
        math.nan,
        "",
        "x",
        "\ud800",
        "\x1b[2J",
        [],
        {},
    ]
    value = drawn.draw(st.sampled_from(nasty))
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    (run / "checkpoints/ckpt-3/checkpoint.json").write_text(json.dumps(content))
    step, (line,) = checkpoints.newest_readable(str(run))
    assert step == 2
    assert line.isprintable()


DRAWN: dict = {}
