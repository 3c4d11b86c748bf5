import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from testing.conversion import convert

from petseg.conversion import merged_masks
from petseg.conversion.class_file import read_mask_rules
from petseg.conversion.files import StoredFile, stored_file
from petseg.conversion.prepare import read_inputs
from petseg.conversion.sources.base import MaskRules, SeveralMasks, SourceExample
from petseg.data.label_map import IGNORED
from petseg.data.picture_file import BadFile
from petseg.errors import UserError

SHAPE = (5, 7)


def png(labels):
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def example_of(values):
    masks = tuple(StoredFile(f"m/{index}.png", 0) for index in range(len(values)))
    pair = SeveralMasks(StoredFile("i/a.jpg", 0), masks, tuple(values))
    return SourceExample("a", "train", pair)


def merge(files, values, rules):
    checked = merged_masks.check_masks(example_of(values), files, rules)
    labels = merged_masks.decode_labels(checked)
    assert checked.pixels_per_label == {int(v): int((labels == v).sum()) for v in np.unique(labels)}
    return labels


@given(
    seed=st.integers(0, 2**32 - 1),
    values=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    ignored=st.sampled_from([None, 9]),
)
def test_each_pixel_is_of_the_last_file_that_is_not_zero_there(seed, values, ignored):
    rng = np.random.default_rng(seed)
    files = [rng.choice([0, 0, 1, 9, 255], SHAPE).astype(np.uint8) for _ in values]
    names = {0: "background", 1: "a", 2: "b", 3: "c", 4: "d", 9: IGNORED}
    labels = merge(list(map(png, files)), values, MaskRules(names, ignored=ignored))
    for row in range(SHAPE[0]):
        for column in range(SHAPE[1]):
            expected = 0
            for file, value in zip(files, values, strict=True):
                if file[row, column]:
                    expected = 9 if file[row, column] == ignored else value
            assert labels[row, column] == expected


def test_what_is_wrong_with_one_of_the_files_names_it():
    good = np.ones(SHAPE, np.uint8)
    rules = MaskRules({0: "background", 1: "foreground"})
    with pytest.raises(BadFile, match=r"masks differ in size: 1\.png is 5x7 px, the first one 7x5"):
        merge([png(good), png(good.T)], [1, 1], rules)
    with pytest.raises(BadFile, match=r"damaged PNG: 1\.png"):
        merge([png(good), png(good)[:-9]], [1, 1], rules)


def test_the_class_files_only_class_is_that_of_the_objects():
    rules, value_of = merged_masks.rules_of_objects(MaskRules({0: "none", 7: "nucleus"}))
    assert (rules.names, value_of("any")) == ({0: "none", 7: "nucleus"}, 7)
    rules, value_of = merged_masks.rules_of_objects(
        MaskRules({7: "nucleus", 255: IGNORED}, {}, 255)
    )
    assert (rules.names, value_of("any")) == (
        {0: "background", 7: "nucleus", 255: IGNORED},
        7,
    )
    with pytest.raises(UserError, match="names 2 classes besides 0"):
        merged_masks.rules_of_objects(MaskRules({0: "none", 1: "a", 2: "b"}))


def test_the_path_names_the_class(tmp_path):
    pattern = f"{tmp_path}/*_{{class}}.png"
    paths = [f"{tmp_path}/{n}_{c}.png" for n in ("x", "y_1") for c in ("car", "road")]
    rules, value_of = merged_masks.rules_of_classes(MaskRules(None), pattern, paths)
    assert rules.names == {0: "background", 1: "car", 2: "road"}
    assert [value_of(path) for path in paths] == [1, 2, 1, 2]
    named = MaskRules({0: "other", 5: "car", 3: "road", 4: "sky"})
    rules, value_of = merged_masks.rules_of_classes(named, pattern, paths)
    assert rules.names == {0: "other", 3: "road", 4: "sky", 5: "car"}
    assert [value_of(path) for path in paths] == [5, 3, 5, 3]
    with pytest.raises(UserError, match="'road' in 2 paths, a class that --classes does not name"):
        merged_masks.rules_of_classes(MaskRules({0: "o", 1: "car"}), pattern, paths)
    with pytest.raises(UserError, match="'a;b', which cannot be a class name"):
        merged_masks.rules_of_classes(MaskRules(None), pattern, [f"{tmp_path}/x_a;b.png"])


def draw(folder, count):
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(count):
        Image.fromarray(rng.integers(0, 255, (*SHAPE, 3), np.uint8)).save(
            folder / "images" / f"x{index}.jpg"
        )
        for column, name in enumerate(("car", "road", "sky")):
            labels = np.zeros(SHAPE, np.uint8)
            labels[:, column : column + 2] = 255
            Image.fromarray(labels).save(folder / "masks" / f"x{index}_{name}.png")


def test_a_file_for_each_class_converts_to_one_mask_and_is_the_same_when_resumed(tmp_path):
    draw(tmp_path, 4)
    flags = {
        "source": "folders",
        "images": f"{tmp_path}/images",
        "masks": f"{tmp_path}/masks/*_{{class}}.png",
    }
    finished = convert("", tmp_path / "out", **flags)
    assert finished.raw_labels == {0: "background", 1: "car", 2: "road", 3: "sky"}
    pixels = {v: sum(s.pixels_per_label[v] for s in finished.splits.values()) for v in range(4)}
    assert pixels == {0: 4 * 5 * 3, 1: 4 * 5, 2: 4 * 5, 3: 4 * 5 * 2}
    assert finished.rejected == ()
    assert convert("", tmp_path / "out", **flags) == finished
    # A mask that is not the last one is an input, too.
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(tmp_path / "masks" / "x1_car.png")
    with pytest.raises(UserError, match="made from other inputs"):
        convert("", tmp_path / "out", **flags)


def test_the_inputs_cover_every_file_and_its_value(tmp_path):
    draw(tmp_path, 1)
    masks = tuple(
        StoredFile(f"{tmp_path}/masks/x0_{name}.png", 0) for name in ("car", "road", "sky")
    )
    pair = SeveralMasks(StoredFile(f"{tmp_path}/images/x0.jpg", 0), masks, (1, 2, 3))
    example = SourceExample("x0", "train", pair)
    lines = {read_inputs(example)[0]}
    other = dataclasses.replace(pair, values=(1, 2, 2))
    lines.add(read_inputs(dataclasses.replace(example, pair=other))[0])
    for mask in masks:
        content = bytearray((tmp_path / "masks" / mask.name).read_bytes())
        content[-1] ^= 1
        (tmp_path / "masks" / mask.name).write_bytes(content)
        lines.add(read_inputs(example)[0])
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (read_mask_rules("", None, is_binary=True), [0, 1, 1]),
        (read_mask_rules("", None, threshold=128), [0, 0, 1]),
        (read_mask_rules("", 77, is_binary=True), [0, 77, 1]),
    ],
)
def test_objects_are_what_binary_and_threshold_say(tmp_path, rules, expected):
    Image.fromarray(np.array([[0, 77, 200]], np.uint8)).save(tmp_path / "m.png")
    merged, value_of = merged_masks.rules_of_objects(rules)
    stored = stored_file(str(tmp_path / "m.png"))
    pair = SeveralMasks(stored, (stored,), (value_of(stored.path),))
    example = SourceExample("x", "train", pair)
    checked = merged_masks.check_masks(example, [stored.read()], merged)
    assert merged_masks.decode_labels(checked).tolist() == [expected]
