import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from testing import toy_shapes
from testing.commands import run_module
from testing.conversion import taken, write

from petseg.conversion import class_file, files
from petseg.conversion.sources import folders
from petseg.conversion.sources.base import MaskRules, SourceOptions, hash_order
from petseg.data import manifest, record
from petseg.errors import UserError


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    toy_shapes.draw_folders(folder, count=24, seed=0)
    return folder


@pytest.fixture
def shapes(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "shapes")


def listing_of(images, masks, rules=None, **changes):
    options = {"validation_fraction": 0.25, "mask_rules": rules or MaskRules(None), **changes}
    return taken(
        folders.list_folders(SourceOptions(images=str(images), masks=str(masks), **options))
    )


def list_shapes(folder, **changes):
    rules = class_file.read_mask_rules(str(folder / "classes.csv"), None)
    return listing_of(folder / "images", folder / "masks", rules, **changes)


def test_colour_coded_masks_become_the_ids_of_the_class_file(shapes, tmp_path):
    finished = write(lambda: list_shapes(shapes), tmp_path / "out")
    assert finished.raw_labels == {**dict(enumerate(toy_shapes.CLASSES)), 255: "void"}
    ids = {colour: i for i, colour in enumerate(toy_shapes.CLASSES.values())}
    ids[toy_shapes.VOID] = toy_shapes.VOID_ID
    assert finished.colours == {value: colour for colour, value in ids.items()}
    assert manifest.read_manifest(str(tmp_path / "out")) == finished
    stored = 0
    for split in finished.splits.values():
        for serialized in tf.data.TFRecordDataset(
            manifest.shard_paths(str(tmp_path / "out"), split)
        ):
            fields = record.parse_record(serialized)
            name = fields[record.SOURCE_ID].numpy().decode()
            assert fields[record.IMAGE] == (shapes / "images" / f"{name}.jpg").read_bytes()
            colours = np.asarray(Image.open(shapes / "masks" / f"{name}.png"))
            expected = [[ids[tuple(pixel)] for pixel in row] for row in colours.tolist()]
            assert (record.decode_mask(fields[record.MASK]).numpy()[..., 0] == expected).all()
            stored += 1
    assert stored == 24
    assert finished.rejected == finished.repaired == ()


def test_the_split_depends_on_the_name_alone(shapes):
    before = {e.name: e.split for e in list_shapes(shapes, test_fraction=0.25).examples}
    assert set(before.values()) == {"train", "validation", "test"}
    for name, split in before.items():
        position = int(hash_order(name)[:15], 16) / 16**15
        expected = "validation" if position < 0.25 else "test" if position < 0.5 else "train"
        assert split == expected
    for name in list(before)[::3]:
        (shapes / "images" / f"{name}.jpg").unlink()
    after = {e.name: e.split for e in list_shapes(shapes, test_fraction=0.25).examples}
    assert after.items() < before.items()


@pytest.mark.parametrize("layout", ["images/{split}", "{split}/images"])
def test_sub_folders_give_the_split(shapes, layout):
    for index, name in enumerate(sorted(p.stem for p in (shapes / "images").iterdir())):
        split = ("train", "val", "Test")[index % 3]
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            folder = shapes / "new" / layout.format(split=split).replace("images", kind)
            folder.mkdir(parents=True, exist_ok=True)
            (shapes / kind / f"{name}.{suffix}").rename(folder / f"{name}.{suffix}")
    if layout.startswith("images"):
        listing = listing_of(shapes / "new" / "images", shapes / "new" / "masks")
    else:
        listing = listing_of(f"{shapes}/new/*/images/*.jpg", f"{shapes}/new/*/masks/*.png")
    assert listing.split_by == "sub-folders"
    found = {example.name: example.split for example in listing.examples}
    assert len(found) == 24
    for name, split in found.items():
        assert {"train": "train", "val": "validation", "Test": "test"}[name.split("/")[0]] == split


def test_validation_is_taken_out_of_train_where_sub_folders_have_none(shapes):
    for kind in ("images", "masks"):
        (shapes / "new" / kind).mkdir(parents=True)
        (shapes / kind).rename(shapes / "new" / kind / "train")
    listing = listing_of(shapes / "new" / "images", shapes / "new" / "masks")
    assert {e.split for e in listing.examples} == {"train", "validation"}
    assert "validation by a hash" in listing.split_by


def test_lists_give_the_split_and_what_they_leave_out_is_reported(shapes):
    names = sorted(p.stem for p in (shapes / "images").iterdir())
    (shapes / "train.txt").write_text("# names\n" + "\n".join(names[:10]) + "\nabsent_1\n")
    (shapes / "val.txt").write_text("\n".join(f"any/{n}.jpg" for n in names[9:15]))
    listing = list_shapes(
        shapes,
        lists={"train": str(shapes / "train.txt"), "validation": str(shapes / "val.txt")},
    )
    splits = {example.name: example.split for example in listing.examples}
    assert splits == {n: "train" if i < 10 else "validation" for i, n in enumerate(names[:15])}
    reasons = {f.name: (f.split, f.reason) for f in listing.rejected}
    assert reasons["absent_1"] == ("train", "listed, but image and mask missing")
    assert reasons[f"any/{names[9]}"][1].startswith("listed more than once")
    assert all(reasons[name] == ("", "in no list") for name in names[15:])


def test_files_without_a_partner_are_reported(shapes):
    (shapes / "images" / "shape_0001.jpg").unlink()
    (shapes / "masks" / "shape_0002.png").unlink()
    shutil.copy(shapes / "images" / "shape_0003.jpg", shapes / "images" / "shape_0003.JPEG")
    (shapes / "images" / "notes.txt").write_text("notes")
    (shapes / "masks" / "._shape_0004.png").write_text("twin")
    listing = list_shapes(shapes)
    assert {f.name: f.reason for f in listing.rejected} == {
        "notes.txt": "no picture by its suffix: in --images",
        "._*": "macOS's twins of other files, no pictures: 1 in --masks",
        "shape_0001": "mask without an image of its name",
        "shape_0002": "image without a mask of its name",
        "shape_0003": "several images of one name: shape_0003.JPEG, shape_0003.jpg",
    }
    assert len(listing.examples) == 21


def test_names_with_odd_characters_are_kept(shapes, tmp_path):
    odd = ["with space", "ümlaut", "line\nbreak", "dots..dots", "semi;colon", os.fsdecode(b"\xff")]
    for index, name in enumerate(odd):
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            path = shapes / kind / f"shape_{index:04d}.{suffix}"
            path.rename(shapes / kind / f"{name}.{suffix}")
    (shapes / "images" / "with space.jpg").write_bytes(b"")
    (shapes / "images" / "line\nbreak.jpg").write_bytes(b"")
    finished = write(lambda: list_shapes(shapes), tmp_path / "out")
    assert sum(split.records for split in finished.splits.values()) == 22
    assert {f.name for f in finished.rejected} == {"with space", "'line\\nbreak'"}
    assert manifest.read_manifest(str(tmp_path / "out")) == finished


def test_links_that_lead_in_circles_end(shapes):
    (shapes / "images" / "again").symlink_to(shapes / "images")
    (shapes / "images" / "self.jpg").symlink_to("self.jpg")
    listing = list_shapes(shapes)
    assert len(listing.examples) == 24
    assert [f.name for f in listing.rejected] == ["self"]


def test_a_folder_behind_a_link_is_read(shapes, tmp_path):
    (shapes / "images").rename(tmp_path / "elsewhere")
    (shapes / "images").mkdir()
    (shapes / "images" / "sub").symlink_to(tmp_path / "elsewhere")
    (shapes / "masks").rename(tmp_path / "masks")
    (shapes / "masks" / "sub").mkdir(parents=True)
    for path in (tmp_path / "masks").iterdir():
        path.rename(shapes / "masks" / "sub" / path.name)
    assert {e.name[:4] for e in list_shapes(shapes).examples} == {"sub/"}


def test_a_folder_behind_two_links_is_read_twice(shapes, tmp_path):
    for kind in ("images", "masks"):
        (shapes / kind).rename(tmp_path / kind)
        (shapes / kind).mkdir()
        for link in ("a", "b"):
            (shapes / kind / link).symlink_to(tmp_path / kind)
    assert len(list_shapes(shapes).examples) == 48


def test_the_order_of_a_folder_does_not_matter(shapes, monkeypatch):
    for name in ("b.txt", "a.txt", "c.txt"):
        (shapes / "images" / name).write_text("")
    before = list_shapes(shapes)
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listdir(path)[::-1])
    assert list_shapes(shapes) == before


@pytest.mark.parametrize("change", ["class name", "unpaired image"])
def test_a_finished_data_set_of_other_names_or_findings_is_refused(shapes, tmp_path, change):
    write(lambda: list_shapes(shapes), tmp_path / "out")
    write(lambda: list_shapes(shapes), tmp_path / "out")
    if change == "class name":
        path = shapes / "classes.csv"
        path.write_text(path.read_text().replace("disc", "ball"))
    else:
        shutil.copy(shapes / "images" / "shape_0000.jpg", shapes / "images" / "alone.jpg")
    with pytest.raises(UserError, match="made from other inputs"):
        write(lambda: list_shapes(shapes), tmp_path / "out")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: shutil.rmtree(f / "images"), "--images: .*images is not a folder"),
        (lambda f: [p.unlink() for p in (f / "masks").iterdir()], "--masks: .* holds no picture"),
        (
            lambda f: [p.rename(p.with_stem(f"{p.stem}_mask")) for p in (f / "masks").iterdir()],
            r"the first image is called 'shape_0000', the first mask 'shape_0000_mask'; "
            r"try --masks='.*/masks/\*_mask.png'",
        ),
        (
            lambda f: [p.rename(p.with_stem(f"m{p.stem[-2:]}")) for p in (f / "masks").iterdir()],
            "names must agree but for the suffix",
        ),
    ],
)
def test_folders_that_cannot_work_are_refused_in_one_line(shapes, spoil, message):
    spoil(shapes)
    with pytest.raises(UserError, match=message) as caught:
        list_shapes(shapes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no class"),
        ("0,road\n0,car\n", "line 2: id 0 is duplicated"),
        ("0,road\n1,road\n", "the name 'road' is duplicated"),
        ("0,road,#000000\n1,car,0 0 0\n", "the colour #000000 is duplicated"),
        ("0,road,#000000\n1,car\n", r"class 1 \(car\) has no colour"),
        ("0.road\n1,car\n", "line 1: .0.road. is not .id,name."),
        ("300,road\n", "id 300 must lie between 0 and 255"),
        ("0,a=b\n", "cannot be a class name"),
        ("0,ignored\n", "see --ignore_id"),
        ("0,road,purple\n", "colour 'purple' is neither"),
        ("0,road,300 0 0\n", "colour '300 0 0' is neither"),
        ("road,0\n", "is not 'id,name'"),
    ],
)
def test_a_malformed_class_file_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        class_file.read_mask_rules(str(tmp_path / "classes.csv"), None)


@pytest.mark.parametrize("value", [-1, 256])
def test_an_ignored_value_that_no_mask_can_hold_is_refused(value):
    with pytest.raises(UserError, match=f"--ignore_id={value} must lie between 0 and 255"):
        class_file.read_mask_rules("", value)


def test_an_ignored_value_gets_the_name_by_which_label_maps_ignore_it(tmp_path):
    (tmp_path / "c.csv").write_text("1,road\n255,void\n")
    assert class_file.read_mask_rules(str(tmp_path / "c.csv"), 255).names == {
        1: "road",
        255: "ignored",
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_class_file_of_any_editor_is_read(tmp_path, encoding):
    for ending in ("\n", "\r\n", "\r"):
        text = ending.join(["id,name", "1,stra\u00dfe", "2,\u6c34", ""])
        (tmp_path / "c.csv").write_bytes(text.encode(encoding))
        rules = class_file.read_mask_rules(str(tmp_path / "c.csv"), None)
        assert rules.names == {1: "stra\u00dfe", 2: "\u6c34"}


def test_a_class_file_that_is_no_utf_8_is_refused(tmp_path):
    (tmp_path / "c.csv").write_bytes("1,stra\u00dfe\n".encode("latin-1"))
    with pytest.raises(UserError, match="cannot read"):
        class_file.read_mask_rules(str(tmp_path / "c.csv"), None)


def test_a_class_file_may_have_a_header_comments_and_colours_of_either_kind(tmp_path):
    (tmp_path / "c.csv").write_text("ID, Name, Colour\n# c\n\n7, road, #80ff00\n9,car,1,2,3\n")
    rules = class_file.read_mask_rules(str(tmp_path / "c.csv"), 255)
    assert rules == MaskRules(
        {7: "road", 9: "car", 255: "ignored"}, {(128, 255, 0): 7, (1, 2, 3): 9}, 255
    )


def test_the_command_reports_every_input_and_the_label_map_to_train_with(shapes, tmp_path):
    mask = Image.open(shapes / "masks" / "shape_0003.png")
    mask.putpixel((7, 9), (1, 2, 3))
    mask.save(shapes / "masks" / "shape_0003.png")
    (shapes / "masks" / "shape_0004.png").unlink()
    done = run_module(
        *("-m", "petseg.cli.convert", "--source=folders", f"--raw_dir={shapes}"),
        *(f"--output_dir={tmp_path / 'out'}", f"--classes={shapes / 'classes.csv'}"),
    )
    assert done.returncode == 0, done.stderr
    assert "image without a mask of its name: shape_0004" in done.stdout
    assert (
        "give it an id in --classes and that id as --ignore_id: "
        "shape_0003 (#010203, first at row 9, column 7)" in done.stdout
    )
    spec = "ground=0; disc=1; box=2; triangle=3; stripe=4; void=255"
    assert f"--config.data.label_map='{spec}'" in done.stdout
    assert "split by   a hash of each name" in done.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--source=folders"], "needs --images, or --raw_dir"),
        (["--source=tfds"], "needs --raw_dir"),
        (["--raw_dir=/absent"], "--raw_dir=/absent: there is no such folder"),
        (
            ["--raw_dir=/", "--images=y"],
            "--images is of --source=folders, coco,",
        ),
        (["--raw_dir=/", "--classes=y"], "--classes is of --source=folders, tfds, coco,"),
        (["--raw_dir=/", "--ignore_id=0"], "--ignore_id is of --source=folders, tfds, coco,"),
        ([], "--source=oxford_iiit_pet needs --raw_dir"),
        (["--source=none", "--raw_dir=/"], "source 'none' is not one of oxford_iiit_pet"),
        (["--plugins=no_such_module"], "--plugins: cannot import 'no_such_module'"),
        (["--raw_dir=/", "--short_side=8"], "--short_side=8 must be 0 or at least 32"),
        (["--raw_dir=/", "--short_side=64", "--validate=header"], "leave out --validate=header"),
        (["--raw_dir=/", "--beam_args=a"], "--beam_args needs --runner=beam"),
        (["--raw_dir=/", "--name=My Pets"], "must be lower-case"),
        (["--source=tfds", "--raw_dir=no_such_set"], "--raw_dir: no_such_set"),
    ],
)
def test_a_wrong_command_is_one_line_and_leaves_nothing(tmp_path, flags, message):
    done = run_module("-m", "petseg.cli.convert", f"--output_dir={tmp_path / 'out'}", *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pattern", ["{}/images", "{}/images/*.jpg", "{}/**/images/*.jpg"])
def test_a_folder_that_exists_is_no_pattern(drawn, tmp_path, pattern):
    folder = shutil.copytree(drawn, tmp_path / "pets [v2] *new?")
    plain = listing_of(drawn / "images", drawn / "masks")
    listing = listing_of(pattern.format(folder), folder / "masks")
    assert [(e.name.rpartition("/")[2], e.split) for e in listing.examples] == [
        (e.name, e.split) for e in plain.examples
    ]


def test_a_pattern_that_is_no_folder_stays_a_pattern(tmp_path):
    for name in ("v1", "v2", "v3"):
        (tmp_path / name).mkdir()
    assert files.fixed_part(f"{tmp_path}/v[12]/*.png") == str(tmp_path)
    (tmp_path / "v[12]").mkdir()
    assert files.fixed_part(f"{tmp_path}/v[12]/*.png") == f"{tmp_path}/v[12]"


def test_a_pattern_that_no_expression_can_be_made_of_is_refused(shapes):
    with pytest.raises(UserError, match=r"\[z-a\]\*.jpg is no pattern: bad character range"):
        listing_of(shapes / "images/[z-a]*.jpg", shapes / "masks")


def test_a_folder_that_is_called_class_is_no_wildcard(shapes):
    (shapes / "masks").rename(shapes / "{class}")
    assert len(listing_of(shapes / "images", shapes / "{class}").examples) == 24
