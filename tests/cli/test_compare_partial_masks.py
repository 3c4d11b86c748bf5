"""The comparison of ways to learn from the masks of some classes."""

import itertools
import json

import numpy as np
import pytest
from PIL import Image
from testing.clusters import write_config
from testing.commands import assert_one_line_error, run_module
from testing.configs import make_tiny_config

from petseg.benchmark import partial_masks
from petseg.benchmark.object_crops import write_crops
from petseg.benchmark.partial_masks import Division, gap_closed, growing, random_halves
from petseg.cli.compare_partial_masks import summarise
from petseg.data.image_classes import read_class_names
from petseg.data.label_map import IGNORE
from petseg.data.manifest import read_manifest, shard_paths
from petseg.input_pipeline import pipeline, stored_examples
from petseg.input_pipeline.pipeline import InputOptions
from petseg.run_dir.trained_model import load_trained_model

BREEDS = 4


def test_halves_are_whole_and_all_numbers_are_judged_on_the_same_classes():
    for division in random_halves(4, 7, 0):
        assert sorted(division.with_masks + division.judged) == list(range(7))
        assert len(division.with_masks) == 4
    assert len({division.with_masks for division in random_halves(4, 7, 0)}) > 1
    divisions = growing([1, 3, 5], 7, 0)
    assert [len(division.with_masks) for division in divisions] == [1, 3, 5]
    assert len({division.judged for division in divisions}) == 1
    for fewer, more in itertools.pairwise(divisions):
        assert set(fewer.with_masks) < set(more.with_masks)
        assert not set(more.with_masks) & set(more.judged)


def test_a_name_is_no_pattern():
    division = Division("x", (0, 2), (1,))
    assert division.masks_of(["a*", "b", "c?[d"]) == "class=a[*],c[?][[]d"


def test_the_gap_is_closed_by_each_pair_of_runs():
    def figures(arm, seed, value):
        one = {"kind": "k", "division": "d", "arm": arm, "seed": seed, "mean_iou": value}
        return {**one, "image_mean_iou": value, "image_mean_iou_in_box": value / 2}

    rows = summarise([
        figures("agnostic", "0", 0.5), figures("oracle", "0", 0.7), figures("transfer", "0", 0.6),
        figures("agnostic", "1", 0.6), figures("oracle", "1", 0.7), figures("transfer", "1", 0.55),
        figures("crops", "0", 1.4),
    ])  # fmt: skip
    by_arm = {row["arm"]: row for row in rows}
    assert by_arm["transfer"]["gap_closed"] == pytest.approx((0.5 - 0.5) / 2)
    assert by_arm["transfer"]["gap_closed_sd"] == pytest.approx(0.5)
    assert by_arm["transfer"]["mean_iou"] == 0.575 and by_arm["transfer"]["runs"] == 2
    assert (by_arm["agnostic"]["gap_closed"], by_arm["oracle"]["gap_closed"]) == (0, 1)
    # In boxes: 0.7 between 0.25 and 0.35.
    assert by_arm["crops"]["gap_closed"] == pytest.approx(gap_closed(0.7, 0.25, 0.35))


def test_crops_are_the_boxes_of_the_objects(data_dir, tmp_path):
    names = read_class_names(str(data_dir))
    write_crops(str(data_dir), str(tmp_path / "raw"), names)
    found, trimaps = read_manifest(str(data_dir)), tmp_path / "raw" / "annotations" / "trimaps"
    for split, content in found.splits.items():
        listed = "test" if split == "test" else "trainval"
        lines = (tmp_path / "raw" / "annotations" / f"{listed}.txt").read_text().splitlines()
        for one in stored_examples.read_originals(shard_paths(str(data_dir), content)):
            rows, columns = np.nonzero(one.mask != 2)
            mask = one.mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            np.testing.assert_array_equal(np.asarray(Image.open(trimaps / f"{one.name}.png")), mask)
            assert Image.open(tmp_path / "raw" / "images" / f"{one.name}.jpg").size == mask.T.shape
            number = names.index(one.image_class) + 1
            assert f"{one.name} {number} 1 {number}" in lines


def ious_by_hand(masks, predicted):
    """IoU of both classes over all pixels together."""
    valid = masks != IGNORE
    return [
        ((masks == c) & (predicted == c)).sum() / (((masks == c) | (predicted == c)) & valid).sum()
        for c in (0, 1)
    ]


def mean_iou_by_hand(masks, predicted):
    return np.mean(ious_by_hand(masks, predicted))


def image_mean_iou_by_hand(masks, predicted):
    with np.errstate(invalid="ignore"):
        pairs = zip(masks, predicted, strict=True)
        return np.mean([np.nanmean(ious_by_hand(*pair)) for pair in pairs])


def in_box(mask):
    """A mask that counts within the box around its object."""
    rows, columns = np.nonzero(mask == 0)
    inside = np.full_like(mask, IGNORE)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    inside[box] = mask[box]
    return inside


@pytest.fixture(scope="module")
def compared(data_dir, tmp_path_factory):
    config = make_tiny_config(data_dir)
    config.data.label_map, config.model.decoder_channels = "border_is_pet", 4
    folder = tmp_path_factory.mktemp("compared")
    file = write_config(config, folder / "config.py")
    command = [
        *("-m", "petseg.cli.compare_partial_masks", f"--experiment_dir={folder / 'out'}"),
        *(f"--config={file}", "--masks_of=species=dog", "--random_halves=0", "--seeds=0"),
        *("--growing=1", "--growing_arms=oracle", "--arms=agnostic,transfer,crops"),
    ]
    return folder / "out", command, run_module(*command)


@pytest.mark.slow
def test_every_run_is_judged_by_all_pixels_of_its_images(compared, data_dir):
    folder, command, done = compared
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["kind"], row["arm"]) for row in rows] == [
        ("species=dog", "agnostic"), ("species=dog", "transfer"), ("species=dog", "crops"),
        ("1 with masks", "oracle"),
    ]  # fmt: skip
    trained = load_trained_model(str(folder / "runs" / "species=dog,transfer,seed=0"))
    assert trained.config.data.masks_of == "class=biscuit_hound,pepper_terrier"
    found = read_manifest(str(data_dir))
    options = InputOptions(trained.label_map.class_ids(), 32, 8, has_image_class=True)
    paths = shard_paths(str(data_dir), found.splits["validation"])
    (batch,) = list(pipeline.make_for_eval(paths, options))
    masks, breeds = batch["mask"].numpy(), batch["image_class"].numpy()
    cats = breeds < 2
    (row,) = [one for one in rows if one["arm"] == "transfer"]
    outputs = trained.model.outputs({"image": batch["image"]})
    predicted = outputs.pixels.numpy().argmax(-1)
    boxed = np.stack([in_box(mask) for mask in masks])
    true = trained.model.outputs({"image": batch["image"]}, batch["image_class"])
    of_true = true.pixels.numpy().argmax(-1)
    expected = {
        "mean_iou": mean_iou_by_hand(masks[cats], predicted[cats]),
        "image_mean_iou": image_mean_iou_by_hand(masks[cats], predicted[cats]),
        "image_mean_iou_in_box": image_mean_iou_by_hand(boxed[cats], predicted[cats]),
        "mean_iou_of_true_class": mean_iou_by_hand(masks[cats], of_true[cats]),
        "mean_iou_with_masks": mean_iou_by_hand(masks[~cats], predicted[~cats]),
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    right = outputs.image_class.numpy().argmax(-1) == breeds
    assert row["class_accuracy"] == pytest.approx(right[cats].mean(), abs=1e-4)
    # Finished runs are skipped, and say the same.
    again = run_module(*command)
    assert again.stdout == done.stdout
    judged = partial_masks.read_judged(folder / "runs" / "species=dog,transfer,seed=0.npz")
    assert judged.figures([0, 1])["mean_iou"] == pytest.approx(row["mean_iou"], abs=1e-4)


def test_mistakes_are_one_line(data_dir, tmp_path):
    command = [
        *("-m", "petseg.cli.compare_partial_masks", f"--experiment_dir={tmp_path / 'out'}"),
        *("--config=oxford_pets_partial_masks", f"--config.data.dir={data_dir}"),
    ]
    assert_one_line_error(run_module(*command, "--arms=magic"), 2, "no arm is called 'magic'")
    done = run_module(*command, "--masks_of=species=fish")
    assert_one_line_error(done, 2, "no species is called 'fish'")
    assert_one_line_error(run_module(*command, "--growing=9"), 2, "numbers from 1 to 3")
