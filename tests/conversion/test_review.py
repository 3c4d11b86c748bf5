import dataclasses

import numpy as np
import pytest
from testing.commands import assert_one_line_error, run_module
from testing.picture_files import draw_pairs

import petseg
from petseg.conversion import review
from petseg.data import manifest
from petseg.data.manifest import Finding, Manifest, Shard, Split
from petseg.errors import FaultFound


def soft_masks(count: int, soft: int) -> dict[str, np.ndarray]:
    """Masks of background 0, of which some hold a defect with smoothed edges."""
    masks = {f"m{index:02d}": np.zeros((40, 40), np.uint8) for index in range(count)}
    for index in range(soft):
        masks[f"m{index:02d}"][10:20, 8:32] = np.arange(1 + index % 3, 25 + index % 3)
    return masks


def with_classes(folder, text):
    (folder / "classes.csv").write_text(text)
    return f"--classes={folder / 'classes.csv'}"


def finished_of(
    pixels: dict[str, dict[int, int]], findings=(), names=None, validate="full", records=10
) -> Manifest:
    splits = {
        split: Split((Shard(f"data-{split}", records, 1, "", "", counts, 1, 1),))
        for split, counts in pixels.items()
    }
    names = names or {0: "ground", 1: "defect", 255: "ignored"}
    return Manifest("data", {"validate": validate}, names, splits, tuple(findings))


def test_a_class_that_smoothed_edges_lost_ends_the_command_with_1(tmp_path):
    raw = draw_pairs(tmp_path / "raw", soft_masks(20, 6))
    command = ["-m", "petseg.cli.convert", "--source=folders", f"--raw_dir={raw}"]
    command += [f"--output_dir={tmp_path / 'out'}", with_classes(raw, "0,ground\n1,defect\n")]
    done = run_module(*command)
    kind = "mask holds many values that no class has, as smoothed edges give"
    assert_one_line_error(
        done,
        1,
        "no pixel is of class 'defect' (mask value 1)",
        f"6 of 20 inputs are rejected: {kind}",
        "resize and save masks without smoothing",
        "--accept_losses",
    )
    # One line for one kind, though the values of the masks differ.
    (line,) = [line for line in done.stdout.splitlines() if kind in line]
    assert line.startswith("      6 ") and "(2 (10 px), 3 (10 px)" in line
    assert len(manifest.read_manifest(str(tmp_path / "out")).rejected) == 6
    accepted = run_module(*command, "--accept_losses")
    assert accepted.returncode == 0, accepted.stderr
    assert "no pixel is of class 'defect' (mask value 1) (accepted)" in accepted.stdout


def test_the_library_raises_for_a_lost_class_unless_it_is_accepted(tmp_path):
    raw = draw_pairs(tmp_path / "raw", soft_masks(6, 0))
    with_classes(raw, "0,ground\n1,defect\n")
    arguments = {"source": "folders", "classes": str(raw / "classes.csv"), "workers": 1}
    with pytest.raises(FaultFound, match="class 'defect'"):
        petseg.convert(str(raw), str(tmp_path / "out"), show_progress=False, **arguments)
    finished = petseg.convert(
        str(raw), str(tmp_path / "out"), show_progress=False, accept_losses=True, **arguments
    )
    assert sum(split.records for split in finished.splits.values()) == 6


def test_classes_without_a_pixel_are_losses_but_not_ignored_values():
    finished = finished_of({"train": {0: 5}, "test": {0: 7}})
    assert review.losses(finished, "") == ["no pixel is of class 'defect' (mask value 1)"]
    assert review.losses(finished_of({"train": {0: 5}, "test": {1: 1}}), "") == []
    many = {value: f"c{value}" for value in range(12)}
    (line,) = review.losses(finished_of({"train": {0: 5}}, names=many), "")
    assert line.startswith("no pixel is of class 'c1' (mask value 1), 'c2' (mask value 2), ")
    assert line.endswith("'c8' (mask value 8) and 3 more")


def test_nothing_is_said_of_classes_if_no_mask_was_counted():
    assert review.losses(finished_of({"train": {}}, validate="header"), "") == []
    assert review.losses(finished_of({"train": {0: 5}}, validate="header"), "") == []


def test_a_class_that_train_lacks_is_warned_of():
    finished = finished_of({"train": {0: 5, 255: 1}, "validation": {0: 1, 1: 3}})
    assert review.losses(finished, "") == []
    assert review.warnings(finished) == ["no pixel of train is of class 'defect' (mask value 1)"]
    assert review.warnings(finished_of({"validation": {0: 1, 1: 3}})) == []


def unnamed(pixels: dict[int, int], **names: str) -> Manifest:
    named = {value: names.get(f"v{value}", f"value_{value}") for value in pixels}
    return finished_of({"train": pixels}, names=named)


@pytest.mark.parametrize(
    "pixels",
    [
        {0: 90_000, 255: 9_000, **dict.fromkeys(range(60, 70), 9)},  # blurred edges
        dict.fromkeys(range(120), 100),  # a photograph, or very many classes
    ],
)
def test_values_of_blurred_edges_are_told_with_their_cure(pixels):
    (line,) = review.warnings(unnamed(pixels))
    assert line.startswith(f"masks hold {len(pixels)} values, each of which is a class now")
    assert "Save masks without smoothing, or name the classes in --classes" in line


@pytest.mark.parametrize(
    ("pixels", "names", "told"),
    [
        ({0: 5, 1: 5, 255: 1}, {}, "'value_255' is a class now"),
        ({0: 5, 1: 5, 255: 1}, {"v255": "ignored"}, None),
        ({0: 5, 255: 1}, {"v255": "thing"}, None),
        ({0: 5, 1: 5, 7: 1}, {"v0": "road", "v1": "car", "v7": "Void"}, "'Void' is a class now"),
        (dict.fromkeys(range(0, 40, 2), 5), {}, None),
    ],
)
def test_void_that_became_a_class_names_the_flag(pixels, names, told):
    lines = review.warnings(unnamed(pixels, **names))
    assert len(lines) == bool(told)
    if told:
        assert lines[0].startswith(told) and f"--ignore_id={max(pixels)}" in lines[0]


def test_a_value_of_a_few_pixels_may_be_a_slip():
    assert review.warnings(unnamed({0: 90_000, 1: 9_990, 9: 10})) == []
    (line,) = review.warnings(unnamed({0: 90_000, 1: 9_991, 9: 9}))
    assert line.startswith("rare mask values are classes now: 9 (9 px) of 100,000 pixels; ")
    assert "--ignore_id=9" in line and "--classes" in line
    (line,) = review.warnings(unnamed({0: 90_000, 1: 9_990, 2: 3, 9: 7}))
    assert "2 (3 px), 9 (7 px) of 100,000 pixels" in line and "--ignore_id" not in line
    assert review.warnings(unnamed({0: 90_000, 1: 9_991, 9: 9}, v9="hair")) == []


def test_masks_of_0_and_255_alone_are_told_of_the_flag_for_one_class():
    (line,) = review.warnings(unnamed({0: 5, 255: 1}))
    assert line.startswith("masks hold 0 and 255 alone") and "--binary" in line


def test_values_that_may_number_objects_are_told():
    (line,) = review.warnings(unnamed(dict.fromkeys(range(10), 5)))
    assert line.startswith("masks hold the values 0 to 9 without names") and "--binary" in line


@pytest.mark.parametrize(("count", "is_many"), [(1, False), (2, False), (3, True), (30, True)])
def test_many_of_one_kind_are_a_tenth_of_the_inputs(count, is_many):
    findings = [
        Finding(str(i), "train", f"mask is {i}x9 px, its image 8x{i}") for i in range(count)
    ]
    finished = finished_of({"train": {0: 1, 1: 1}}, findings, records=25)
    expected = f"{count} of {25 + count} inputs are rejected: mask is # px, its image #"
    assert review.losses(finished, "") == ([expected] if is_many else [])


def test_one_bad_input_of_a_tiny_set_is_not_many():
    bad = [Finding("a", "train", "mask is empty (0 bytes)")]
    assert review.losses(finished_of({"train": {0: 1, 1: 1}}, bad, records=2), "") == []


@pytest.mark.parametrize(
    ("reason", "counts"),
    [
        ("image without a mask of its name", True),
        ("several masks of one name, which --several_masks would merge: a.png, a.tif", True),
        ("in no list", False),
        ("hidden folder, not read: 7 in --images", False),
        ("no picture by its suffix: in --images", False),
    ],
)
def test_only_inputs_that_were_asked_for_can_be_lost(reason, counts):
    findings = [Finding(str(i), "", reason) for i in range(9)]
    assert bool(review.losses(finished_of({"train": {0: 1, 1: 1}}, findings), "")) == counts


def test_kinds_keep_their_order_their_words_and_all_their_findings():
    reasons = [
        "image: PNG, mode RGB, re-encoded as RGB JPEG of quality 95",
        "mask is a damaged PNG",
        "mask holds values that no class has: 7 (3 px); allowed are 0, 1",
        "image cannot be read: no such file",
        "mask holds values that no class has: 8 (1,204 px); allowed are 0, 1",
        "image has EXIF orientation 6",
        "image has EXIF orientation 8",
    ]
    findings = [Finding(str(i), "", reason) for i, reason in enumerate(reasons)]
    groups = review.by_kind(findings)
    assert {kind.title: [int(f.name) for f in kind.first] for kind in groups} == {
        reasons[0]: [0],
        reasons[1]: [1],
        "mask holds values that no class has": [2, 4],
        "image cannot be read": [3],
        "image has EXIF orientation #": [5, 6],
    }
    assert groups == sorted(groups, key=lambda kind: kind.first[0].name)
    assert [kind.count for kind in groups] == [1, 1, 2, 1, 2]
    (some,) = review.by_kind(findings[:1] * 7, most=3)
    assert (some.count, some.first) == (7, findings[:1] * 3)
    assert review.particulars(findings[2]) == "7 (3 px); allowed are 0, 1"
    assert review.particulars(findings[0]) == ""


def test_a_finding_in_other_words_is_not_another_input(tmp_path):
    """A data set that an older petseg finished is recognized."""
    raw = draw_pairs(tmp_path / "raw", soft_masks(4, 0))
    (raw / "images" / "notes.txt").write_text("")
    arguments = {"source": "folders", "workers": 1, "show_progress": False}
    finished = petseg.convert(str(raw), str(tmp_path / "out"), **arguments)
    (note,) = finished.unplaced
    older = dataclasses.replace(finished, unplaced=(dataclasses.replace(note, reason="a note"),))
    manifest.write_manifest(str(tmp_path / "out"), older)
    assert petseg.convert(str(raw), str(tmp_path / "out"), **arguments) == older
