"""Runs that see the masks of some images alone, from training to export."""

import copy
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from testing.configs import make_tiny_config
from testing.conversion import convert
from testing.events import summaries

from petseg.errors import UserError
from petseg.evaluation.evaluate_split import EvaluateOptions, evaluate_split
from petseg.exporting.export_model import ExportOptions, export_model
from petseg.run_dir import evaluations
from petseg.run_dir.trained_model import load_trained_model
from petseg.training import trainer

LOSS = "cross_entropy+dice+image_class+0.5*box"


@pytest.fixture
def config(tiny_config):
    tiny_config.data.label_map = "border_is_pet"
    tiny_config.data.masks_of = "species=dog"
    tiny_config.augment.max_rotation_degrees = 10.0
    return tiny_config


@pytest.fixture(scope="module")
def inverted_cats(raw_pets, tmp_path_factory):
    """The toy pets, but in the masks of cats pet and background are exchanged."""
    raw = shutil.copytree(raw_pets, tmp_path_factory.mktemp("inverted") / "raw")
    for path in (raw / "annotations" / "trimaps").glob("[A-Z]*.png"):
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask == 3, 3, 3 - mask).astype(np.uint8)).save(path)
    folder = raw.parent / "out"
    convert(raw, folder)
    return str(folder)


def trained_weights(config, folder):
    trainer.train_and_evaluate(copy.deepcopy(config), str(folder))
    return [variable.numpy() for variable in load_trained_model(str(folder)).model.variables]


@pytest.mark.slow
def test_masks_that_are_withheld_change_no_weight(config, inverted_cats, tmp_path):
    weights = trained_weights(config, tmp_path / "right")
    config.data.dir = inverted_cats
    for one, other in zip(weights, trained_weights(config, tmp_path / "wrong"), strict=True):
        np.testing.assert_array_equal(one, other)
    config.data.masks_of = ""  # with them the masks do
    others = trained_weights(config, tmp_path / "all")
    assert any((one != other).any() for one, other in zip(weights, others, strict=True))


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    config = make_tiny_config(data_dir)
    config.data.label_map, config.data.masks_of = "border_is_pet", "breed=Slate,pepper*"
    config.model.class_masks, config.model.decoder_channels = "summed", 4
    config.train.loss = LOSS
    folder = str(tmp_path_factory.mktemp("run"))
    trainer.train_and_evaluate(config, folder)
    return folder


@pytest.mark.slow
def test_images_with_and_without_masks_are_judged_apart(run):
    by_step = evaluations.read_evaluations(run)
    figures = by_step[max(by_step)]
    assert 0 <= figures["image_class_accuracy"] <= 1
    assert {"image_class/mean_iou_without_masks", "loss/box"} <= {
        tag for tag, _, _ in summaries(f"{run}/validation")
    }
    groups = evaluate_split(run, EvaluateOptions())["groups"]
    assert {"breed", "species", "trained"} == set(groups)
    for name, of_run in (("with masks", "with_masks"), ("without masks", "without_masks")):
        group = groups["trained"][name]
        assert group["mean_iou"] == pytest.approx(figures[f"mean_iou_{of_run}"], abs=0.02)
        breeds = ["Slate", "pepper_terrier"]
        if of_run == "without_masks":
            breeds = ["Marmalade", "biscuit_hound"]
        assert group["images"] == sum(groups["breed"][breed]["images"] for breed in breeds)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saved_model", "litert", "onnx"])
def test_a_model_with_the_head_is_exported(run, tmp_path, name):
    # The export itself compares what it wrote with the model.
    export_model(run, ExportOptions(str(tmp_path / "out"), name))


@pytest.mark.slow
def test_cached_features_give_the_classes_too(config, tmp_path):
    config.augment.max_rotation_degrees = 0.0
    config.model.class_masks, config.train.loss = "transfer", LOSS
    from_images = tmp_path / "images"
    trainer.train_and_evaluate(copy.deepcopy(config), str(from_images))
    config.data.feature_cache_dir = str(tmp_path / "features")
    trainer.train_and_evaluate(copy.deepcopy(config), str(tmp_path / "features_run"))
    figures = []
    for folder in (from_images, tmp_path / "features_run"):
        by_step = evaluations.read_evaluations(str(folder))
        figures.append(by_step[max(by_step)])
    assert figures[0].keys() == figures[1].keys()
    assert figures[1]["image_mean_iou_without_masks"] is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.masks_of": "species=fish"}, "no species is called 'fish'"),
        ({"data.masks_of": "class=*"}, "matches all 4 classes"),
        ({"data.masks_of": "", "data.without_mask": "box"}, "be ignored unless config.data.mas"),
        ({"data.without_mask": "box", "data.label_map": "three_class"},
         "config.data.without_mask=box: boxes need a label map with one class beside 'background', "
         "this one has pet, background, border"),
        ({"model.class_masks": "transfer"}, "as in cross_entropy+dice+image_class+box"),
        ({"train.loss": "cross_entropy+box"}, "box trains a head that the model does not have; set "
         "config.model.class_masks=transfer"),
        ({"augment.cutmix_probability": 0.5}, "be 0 with config.data.masks_of"),
        ({"data.cache": "memory", "data.cache_decoded": True}, "be False with config.data.masks"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(config, tmp_path, changes, message):
    for name, value in changes.items():
        section, _, field = name.partition(".")
        setattr(getattr(config, section), field, value)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        trainer.train_and_evaluate(config, str(tmp_path / "run"))
    assert "\n" not in str(error.value)
