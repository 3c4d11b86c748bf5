"""The commands on proposals: what they write, and what they refuse."""

import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from testing.commands import assert_one_line_error, run_module
from testing.configs import make_tiny_config
from testing.run_folders import write_run

NO_OBJECTNESS = "proposals need a run with objectness"


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A run on patches, of random weights."""
    config = make_tiny_config(data_dir)
    config.data.label_map = "border_is_pet"
    config.patches.enabled = config.model.presence = True
    config.train.loss = "cross_entropy+presence"
    folder = tmp_path_factory.mktemp("runs") / "patches"
    write_run(folder, config)
    return folder


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, sides in {"a.jpg": (40, 60), "sub/b.png": (75, 50)}.items():
        Image.fromarray(rng.integers(0, 256, (*sides, 3), np.uint8)).save(folder / name)
    return folder


def predict(run, output, *more):
    return run_module("-m", "petseg.predict", f"--workdir={run}", f"--output_dir={output}", *more)


def test_proposals_of_pictures_are_one_file_that_pycocotools_reads(run, photos, tmp_path):
    out = tmp_path / "out"
    (photos / "broken.jpg").write_bytes(b"no picture")
    kinds = "--write=proposals,proposal_pictures,class_ids"
    done = predict(run, out, kinds, "--proposal_count=7", "--proposal_scales=3", photos)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "broken.jpg: cannot be read" in done.stderr and "of it in the model" in done.stderr
    assert {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} == {
        *("proposals.json", "proposals_images.json", "a_proposals.jpg", "a_mask.png"),
        *("sub/b_proposals.jpg", "sub/b_mask.png"),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        images = COCO(out / "proposals_images.json")
        loaded = images.loadRes(str(out / "proposals.json"))
    assert [i["file_name"] for i in loaded.dataset["images"]] == ["a.jpg", "sub/b.png"]
    assert 0 < len(loaded.anns) <= 2 * 7
    for one in loaded.anns.values():
        mask = coco_mask.decode(one["segmentation"])
        assert mask.shape == {1: (40, 60), 2: (75, 50)}[one["image_id"]]
        np.testing.assert_array_equal(coco_mask.toBbox(one["segmentation"]), one["bbox"])
    assert Image.open(out / "a_proposals.jpg").size == (60, 40)
    # A second command replaces nothing, and its own pictures are none to predict.
    again = predict(run, out, "--write=proposals", photos / "a.jpg")
    assert_one_line_error(again, 2, "proposals.json is there already")


def test_recall_is_printed_as_the_last_line_and_written(run):
    command = ("-m", "petseg.evaluate", f"--workdir={run}", "--proposals")
    done = run_module(*command, "--max_images=3", "--proposal_scales=2", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    written = run / "evaluation" / "proposals" / "validation.json"
    assert json.loads(written.read_text()) == figures
    assert figures["images"] == figures["objects"] == 3 and figures["scales"] == 2
    for kind in ("mask", "box"):
        recalls = list(figures["average_recall"][kind].values())
        assert recalls == sorted(recalls) and 0 <= recalls[-1] <= 1
        by_iou = figures["recall"][kind]["100"]
        assert np.mean(list(by_iou.values())) == pytest.approx(recalls[-1])
        assert list(by_iou.values()) == sorted(by_iou.values(), reverse=True)
    assert 0 < figures["forward_share"] < 1 and figures["windows"] >= figures["masks"] > 0
    plain = run_module("-m", "petseg.cli.results", run)  # it is not taken for the run's own
    assert_one_line_error(plain, 2, "there is no evaluation yet")


def test_a_run_without_objectness_is_refused(data_dir, photos, tmp_path):
    config = make_tiny_config(data_dir)
    for name, has_presence in {"plain": False, "presence": True}.items():
        config.model.presence = has_presence
        config.train.loss = "cross_entropy+presence" if has_presence else "cross_entropy"
        folder, out = tmp_path / name, tmp_path / f"{name}_out"
        write_run(folder, config)
        done = predict(folder, out, "--write=proposals", photos)
        assert_one_line_error(done, 2, NO_OBJECTNESS, "--config.patches.enabled=True")
        assert not out.exists()
        done = run_module("-m", "petseg.evaluate", f"--workdir={folder}", "--proposals")
        assert_one_line_error(done, 2, NO_OBJECTNESS)
        assert not (folder / "evaluation" / "proposals").exists()


def test_what_makes_no_sense_is_refused(run, photos, tmp_path):
    out = tmp_path / "out"
    done = predict(run, out, "--proposal_count=5", photos)
    assert_one_line_error(done, 2, "--proposal_count is for --write=proposals")
    done = run_module("-m", "petseg.evaluate", f"--workdir={run}", "--max_images=5")
    assert_one_line_error(done, 2, "--max_images is for --proposals")
    (tmp_path / "clip.mp4").write_bytes(b"")
    done = predict(run, out, "--write=proposals", tmp_path / "clip.mp4")
    assert_one_line_error(done, 2, "--write=proposals is for pictures", "clip.mp4 is a video")
    assert not out.exists()


def test_a_label_map_of_more_classes_is_refused_before_training(data_dir, tmp_path):
    done = run_module(
        *("-m", "petseg.train", "--config=oxford_pets_proposals", f"--workdir={tmp_path / 'run'}"),
        *(f"--config.data.dir={data_dir}", "--config.data.label_map=three_class"),
        "--config.model.encoder_weights=none",
    )
    assert_one_line_error(done, 2, "needs a label map of background and one class of objects")
