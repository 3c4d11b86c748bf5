import dataclasses
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from testing import toy_shapes
from testing.command_processes import ROOT
from testing.commands import assert_one_line_error, run_module
from testing.conversion import files_of
from testing.picture_files import draw_pairs

from petseg.conversion.convert import OF_SOME_SOURCES, ConvertOptions, convert
from petseg.conversion.files import stored_file
from petseg.conversion.sources.base import (
    FilePair,
    MaskRules,
    Source,
    SourceExample,
    SourceListing,
)
from petseg.data import manifest, record
from petseg.data.label_map import own_label_map
from petseg.errors import FaultFound, UserError
from petseg.registry import SOURCES

PLUGIN = """
from petseg.conversion.files import stored_file
from petseg.conversion.sources.base import (
    FilePair, MaskRules, Source, SourceExample, SourceListing
)
from petseg.registry import SOURCES


def list_examples(options):
    example = SourceExample(
        "one",
        "train",
        FilePair(
            stored_file(f"{options.raw_dir}/one.jpg"), stored_file(f"{options.raw_dir}/one.png")
        ),
    )
    rules = MaskRules({3: "left", 7: "right"})
    return SourceListing((example,), (), rules, ("none",), "one list")


SOURCES.register("plugin_of_a_test", Source(list_examples, default_name="ones"))
"""


def draw_one(folder):
    mask = np.full((40, 60), 3, np.uint8)
    mask[:, 30:] = 7
    Image.fromarray(mask).save(folder / "one.png")
    Image.fromarray(np.stack([mask * 20] * 3, -1)).save(folder / "one.jpg", quality=95)
    return mask


def masks_of(data_dir) -> dict[str, np.ndarray]:
    masks = {}
    for split in manifest.read_manifest(str(data_dir)).splits.values():
        for serialized in tf.data.TFRecordDataset(manifest.shard_paths(str(data_dir), split)):
            fields = record.parse_record(serialized)
            mask = record.decode_mask(fields[record.MASK]).numpy()[..., 0]
            masks[fields[record.SOURCE_ID].numpy().decode()] = mask
    return masks


@pytest.mark.slow
def test_the_command_converts_a_source_of_a_plugin(tmp_path):
    (tmp_path / "plugin_of_a_test.py").write_text(PLUGIN)
    mask = draw_one(tmp_path)
    # A new python, because a plugin is found by PYTHONPATH.
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "petseg.cli.convert", "--source=plugin_of_a_test"),
            *("--plugins=json", "--plugins=plugin_of_a_test"),
            *(f"--raw_dir={tmp_path}", f"--output_dir={tmp_path / 'out'}"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    assert "--config.data.label_map='left=3; right=7'" in done.stdout
    finished = manifest.read_manifest(str(tmp_path / "out"))
    assert finished.source["source"] == "plugin_of_a_test"
    assert finished.name == "ones"
    assert finished.splits["train"].pixels_per_label == {3: 1200, 7: 1200}
    assert (masks_of(tmp_path / "out")["one"] == mask).all()


def test_a_source_from_outside_converts_with_the_options_that_it_takes(tmp_path):
    mask, given = draw_one(tmp_path), []

    def list_examples(options):
        given.append(options)
        pair = FilePair(stored_file(str(tmp_path / "one.jpg")), stored_file(options.masks))
        return SourceListing(
            (SourceExample("one", "test", pair),), (), MaskRules(None), ("none",), "nothing"
        )

    SOURCES.register("test_masks_only", Source(list_examples, options=("masks",)))
    options = ConvertOptions(
        output_dir=str(tmp_path / "out"),
        source="test_masks_only",
        raw_dir="any/",
        masks=str(tmp_path / "one.png"),
        workers=1,
    )
    finished = convert(options, show_progress=False)
    assert finished == manifest.read_manifest(str(tmp_path / "out"))
    assert finished.name == "data"
    assert own_label_map(finished).spec() == "value_3=3; value_7=7"
    assert (masks_of(tmp_path / "out")["one"] == mask).all()
    assert (given[0].raw_dir, given[0].validation_fraction) == ("any", 0.1)
    with pytest.raises(UserError, match=r"--images is of --source=folders, .*; not of test_"):
        convert(dataclasses.replace(options, images="x"), show_progress=False)
    with pytest.raises(UserError, match=r"--masks is of .*, test_masks_only; not of"):
        convert(dataclasses.replace(options, source="tfds"), show_progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "none"}, "source 'none' is not one of oxford_iiit_pet, folders, tfds"),
        ({"shard_mib": 0}, "--shard_mib=0 must be above 0"),
        ({"shard_mib": float("nan")}, "--shard_mib=nan must be above 0"),
        ({"short_side_px": 31}, "--short_side=31 must be 0 or at least 32"),
        ({"jpeg_quality": 101}, "--jpeg_quality=101 must be from 1 to 100"),
        ({"workers": 0}, "--workers=0 must be at least 1"),
        ({"validate": "half"}, "--validate=half must be full or header"),
        ({"on_bad": "stop"}, "--on_bad=stop must be skip or fail"),
        ({"runner": "spark"}, "--runner=spark must be local or beam"),
        ({"name": "My pets"}, "--name=My pets must be lower-case letters"),
        (
            {"test_list": "x.txt"},
            "--test_list is of --source=folders, coco,",
        ),
        ({"validation_fraction": 1.0}, "--validation_fraction=1.0 must be at least 0"),
        (
            {"source": "folders", "ignore_id": 255, "validate": "header"},
            "--ignore_id without --classes needs the values of every mask",
        ),
        ({"raw_dir": ""}, "--source=oxford_iiit_pet needs --raw_dir"),
        ({"image_range": "5,1"}, "--image_range=5,1 needs the first number below the second"),
        (
            {"binary": True},
            "--binary is of --source=folders, tfds, voc, tfrecord; not of oxford_iiit_pet",
        ),
        ({"source": "folders", "threshold": 0}, "--threshold=0 must be from 1 to 65535"),
    ],
)
def test_wrong_options_are_refused_in_one_line_and_leave_nothing(
    raw_pets, tmp_path, changes, message
):
    options = ConvertOptions(output_dir=str(tmp_path / "out"), raw_dir=str(raw_pets))
    with pytest.raises(UserError) as caught:
        convert(dataclasses.replace(options, **changes), show_progress=False)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_bad_input_raises_if_that_is_asked_for(pets, tmp_path):
    (pets / "images" / "Slate_1.jpg").write_bytes(b"")
    options = ConvertOptions(str(tmp_path / "out"), raw_dir=str(pets), on_bad="fail", workers=1)
    with pytest.raises(FaultFound, match=r"Slate_1: image is empty \(0 bytes\)"):
        convert(options, show_progress=False)


def test_no_progress_bar_is_drawn_if_that_is_asked_for(raw_pets, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for show_progress in (True, False):
        out = tmp_path / str(show_progress)
        options = ConvertOptions(str(out), raw_dir=str(raw_pets), workers=1)
        convert(options, show_progress)
        assert ("convert  " in capfd.readouterr().err) == show_progress
    assert files_of(tmp_path / "True") == files_of(tmp_path / "False")


def test_an_ignored_value_is_no_class_of_the_reported_label_map(tmp_path):
    toy_shapes.draw_folders(tmp_path / "shapes", count=4, seed=0)
    done = run_module(
        *("-m", "petseg.cli.convert", "--source=folders", f"--raw_dir={tmp_path / 'shapes'}"),
        *(f"--classes={tmp_path / 'shapes' / 'classes.csv'}", "--ignore_id=255"),
        f"--output_dir={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    assert "'ground=0; disc=1; box=2; triangle=3; stripe=4; ignored=255'" in done.stdout


def test_a_value_is_ignored_without_a_class_file(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[:, 20:30], mask[:, 30:] = 1, 255
    raw = draw_pairs(tmp_path / "raw", {"a": mask, "b": mask})
    options = ConvertOptions(str(tmp_path / "out"), "folders", str(raw), ignore_id=255, workers=1)
    finished = convert(options, show_progress=False)
    assert finished.raw_labels == {0: "value_0", 1: "value_1", 255: "ignored"}
    assert own_label_map(finished).spec() == "value_0=0; value_1=1; ignored=255"
    assert convert(options, show_progress=False) == finished
    for other in (None, 1):
        with pytest.raises(UserError, match="made from other inputs, with other flags"):
            convert(dataclasses.replace(options, ignore_id=other), show_progress=False)


def test_masks_of_one_value_bring_no_label_map_and_the_report_says_so(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / "raw" / kind).mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "raw" / "images" / "a.jpg")
    Image.new("L", (40, 40), 1).save(tmp_path / "raw" / "masks" / "a.png")
    done = run_module(
        *("-m", "petseg.cli.convert", "--source=folders", f"--raw_dir={tmp_path / 'raw'}"),
        f"--output_dir={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    assert "label map  none: data set 'data' names 1 classes" in done.stdout


def test_a_finished_data_set_is_reported_as_such(raw_pets, tmp_path):
    shutil.copytree(raw_pets, tmp_path / "raw")
    arguments = ("-m", "petseg.cli.convert", f"--raw_dir={tmp_path / 'raw'}")
    outputs = [run_module(*arguments, f"--output_dir={tmp_path / 'out'}") for _ in range(2)]
    assert "was finished before" not in outputs[0].stdout
    assert "was finished before; it agrees with its inputs" in outputs[1].stdout
    (tmp_path / "raw" / "images" / "Slate_1.jpg").unlink()
    changed = run_module(*arguments, f"--output_dir={tmp_path / 'out'}")
    assert_one_line_error(changed, 2, "made from other inputs")


def test_masks_of_one_class_and_values_that_are_one_are_in_the_manifest(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[:, 10:30], mask[:, 30:] = 4, 255
    raw = draw_pairs(tmp_path / "raw", {"a": mask, "b": mask})
    options = ConvertOptions("", "folders", str(raw), workers=1)

    def run(name, **changes):
        changed = dataclasses.replace(options, output_dir=str(tmp_path / name), **changes)
        finished = convert(changed, show_progress=False)
        assert convert(changed, show_progress=False) == finished
        assert not finished.repaired
        return finished

    binary = run("binary", binary=True)
    assert binary.raw_labels == {0: "background", 1: "foreground"}
    assert binary.splits["train"].pixels_per_label == {0: 400, 1: 1200}
    assert binary.source["mask_threshold"] == 1
    soft = run("soft", threshold=128)
    assert soft.splits["train"].pixels_per_label == {0: 1200, 1: 400}
    ignoring = run("ignoring", binary=True, ignore_id=255, validate="header")
    assert ignoring.raw_labels == {0: "background", 1: "foreground", 255: "ignored"}
    assert own_label_map(ignoring).spec() == "background=0; foreground=1; ignored=255"
    (tmp_path / "c.csv").write_text("0,wall\ncrack=3,4,255\n")
    several = run("several", classes=str(tmp_path / "c.csv"))
    assert several.raw_labels == {0: "wall", 3: "crack"}
    assert several.splits["train"].pixels_per_label == {0: 400, 3: 1200}
    assert several.source["mask_values_stored_as"] == "4 as 3, 255 as 3"
    with pytest.raises(UserError, match="made from other inputs, with other flags"):
        run("binary", threshold=128)


def test_a_range_of_values_is_in_the_manifest_and_in_what_is_compared(tmp_path):
    mask = np.eye(40, dtype=np.uint8)
    raw = draw_pairs(tmp_path / "raw", {"a": mask, "b": mask})
    deep = np.linspace(0, 4095, 1600).reshape(40, 40)
    for name, picture in (("a", deep.astype(np.uint16)), ("b", deep.astype(np.float32))):
        (raw / "images" / f"{name}.jpg").unlink()
        Image.fromarray(picture).save(raw / "images" / f"{name}.tif")
    options = ConvertOptions(str(tmp_path / "none"), "folders", str(raw), workers=1)
    (rejected,) = convert(options, show_progress=False).rejected
    assert rejected.name == "b" and "convert with --image_range=LOW,HIGH" in rejected.reason
    options = dataclasses.replace(options, output_dir=str(tmp_path / "out"))
    ranged = dataclasses.replace(options, image_range="0,4095.0")
    finished = convert(ranged, show_progress=False)
    assert finished.source["image_range"] == "0,4095"
    assert sorted(finding.reason for finding in finished.repaired) == [
        f"image: TIFF, mode {mode}, range 0,4095, re-encoded as RGB JPEG of quality 95"
        for mode in ("F", "I;16")
    ]
    assert convert(ranged, show_progress=False) == finished
    for other in ("", "1%,99%"):
        with pytest.raises(UserError, match="made from other inputs, with other flags"):
            convert(dataclasses.replace(options, image_range=other), show_progress=False)


def test_an_option_of_some_sources_is_of_at_least_one():
    listed = {option for _, source in SOURCES.items() for option in source.options}
    assert listed == OF_SOME_SOURCES
