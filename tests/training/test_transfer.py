"""What a run takes from another one, with other classes, another decoder, another encoder."""

import copy
import hashlib
import re
import shutil

import numpy as np
import pytest
from testing.run_folders import prepare, write_run

from petseg.errors import UserError
from petseg.training import run_summary


@pytest.fixture
def started(tiny_config, tmp_path):
    """Settings that start from a run in tmp_path/old, and that run's weights."""
    weights = write_run(tmp_path / "old", tiny_config)
    config = copy.deepcopy(tiny_config)
    config.model.start_from = str(tmp_path / "old")
    config.train.seed = 5
    return config, weights


def compare(config, weights):
    """Paths of the variables that were taken, and of those that start as in a run of its own."""
    run = prepare(config)
    alone = copy.deepcopy(config)
    alone.model.start_from = ""
    initial = {v.path: v.numpy() for v in prepare(alone).model.variables}
    taken, initialised = set(), set()
    for variable in run.model.variables:
        path, value = variable.path, variable.numpy()
        if path in weights and np.array_equal(value, weights[path]):
            taken.add(path)
        else:
            np.testing.assert_array_equal(value, initial[path], err_msg=path)
            initialised.add(path)
    named = set(re.findall(r"^initialised: (\S+)$", run.start_from, re.MULTILINE))
    assert named == initialised
    (note,) = [line for line in run.notes if line.startswith("model.start_from=")]
    assert "\n" not in note
    return taken, initialised, note


def test_of_the_same_model_all_is_taken(started):
    config, weights = started
    taken, initialised, note = compare(config, weights)
    assert (taken, initialised) == (set(weights), set())
    assert note.endswith(f"step 3: {len(weights)} of {len(weights)} variables taken")


@pytest.mark.parametrize(
    "label_map",
    [
        "pet=1; rest=2,3",
        "border=3; pet=1; background=2",  # as many classes, in another order
    ],
)
def test_of_other_classes_all_is_taken_but_what_depends_on_them(started, label_map):
    config, weights = started
    config.data.label_map = label_map
    taken, initialised, note = compare(config, weights)
    assert initialised == {"upsample_to_image/kernel"}
    assert taken == set(weights) - initialised
    assert note.endswith(
        "taken; its classes are pet, background, border, so initialised: upsample_to_image/kernel"
    )
    # The run's page in TensorBoard says it, too.
    run = prepare(config)
    texts = run_summary.texts(run.config, run.data.manifest, "", run.start_from)
    assert "initialised: upsample_to_image/kernel" in texts["5 start_from"]


def test_no_layer_is_taken_by_half(started):
    config, weights = started
    config.model.decoder_channels = 8  # scores and their biases are of another shape
    config.data.label_map = "pet=1; rest=2,3"
    taken, initialised, note = compare(config, weights)
    assert taken == {path for path in weights if path.startswith("block")}
    assert {path.split("/")[0] for path in initialised} > {"score_P5", "upsample_to_image"}
    assert "its decoder_channels are 32 and its classes are" in note
    assert " and 5 more" in note


def test_of_another_decoder_the_encoder_is_taken(started):
    config, weights = started
    config.model.decoder = "fcn16s"  # some of its layers have the same names and shapes
    taken, initialised, note = compare(config, weights)
    assert taken == {path for path in weights if path.startswith("block")}
    assert "score_P5/kernel" in initialised
    assert "its decoder is fcn8s, not fcn16s" in note


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("encoder_width", 4, r"has encoder_width=2, this run encoder_width=4.*set config\.model"),
        ("encoder_convs", (1, 2, 1, 1, 1), r"has encoder_convs=\(1, 1, 1, 1, 1\), this run"),
    ],
)
def test_an_encoder_of_other_weights_is_refused_with_what_fits(started, name, value, message):
    config, _ = started
    setattr(config.model, name, value)
    with pytest.raises(UserError, match=message) as caught:
        prepare(config)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("config.model.start_from: ")


def test_another_encoder_is_refused(started, monkeypatch):
    from petseg.models.encoders.vgg import VGG16
    from petseg.registry import ENCODERS

    config, _ = started
    monkeypatch.setitem(ENCODERS._items, "other", VGG16)
    config.model.encoder = "other"
    with pytest.raises(UserError, match="has encoder=vgg16, this run encoder=other"):
        prepare(config)


def test_a_resumed_run_does_not_read_the_other_again(started, tmp_path):
    config, _ = started
    config.data.label_map = "pet=1; rest=2,3"
    before = write_run(tmp_path / "new", config)
    shutil.rmtree(tmp_path / "old")
    run = prepare(config, tmp_path / "new")
    assert run.is_resumed
    for variable in run.model.variables:
        np.testing.assert_array_equal(variable.numpy(), before[variable.path])
    assert "initialised: upsample_to_image/kernel" in run.start_from
    assert not [line for line in run.notes if "start_from" in line]
    with pytest.raises(UserError, match=r"start_from: .*/old: there is no such folder"):
        prepare(config)


def test_a_feature_cache_is_keyed_by_the_weights_that_were_taken(started):
    config, weights = started
    config.data.label_map = "pet=1; rest=2,3"
    run = prepare(config)
    encoder = [weights[variable.path] for variable in run.model.encoder.variables]
    expected = hashlib.sha256(b"".join(values.tobytes() for values in encoder)).hexdigest()
    assert run.metadata.run["encoder_sha256"] == expected
