import codecs
import os

import pytest
from testing.annotations import draw_images
from testing.conversion import taken
from testing.picture_files import touch

from petseg.conversion import pair_lists, split_lists
from petseg.conversion.sources import folders
from petseg.conversion.sources.base import SourceOptions
from petseg.errors import UserError


@pytest.fixture
def raw(tmp_path):
    """img/0.png to img/3.png, and lab/ likewise."""
    return touch(tmp_path, [f"{kind}/{i}.png" for kind in ("img", "lab") for i in range(4)])


def listing_of(raw, images="img", masks="lab", **contents):
    """What --train_list and the like give; a content is text or bytes."""
    for split, content in contents.items():
        path = raw / f"{split}.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = SourceOptions(
        images=str(raw / images),
        masks=str(raw / masks),
        lists={split: str(raw / f"{split}.txt") for split in contents},
        validation_fraction=0.0,
    )
    return taken(folders.list_folders(options))


def pairs_of(listing):
    """Image's file name -> mask's file name and split."""
    return {
        e.pair.image_name: (e.pair.mask.path.rpartition("/")[2], e.split) for e in listing.examples
    }


@pytest.mark.parametrize("between", [" ", "\t", "  ", ",", ", ", ";"])
@pytest.mark.parametrize("root", ["", "any/", "/"])
def test_two_columns_are_a_pair(raw, between, root):
    listing = listing_of(
        raw,
        train=f"{root}img/0.png{between}{root}lab/1.png\n{root}img/1.png{between}{root}lab/0.png\n",
        validation=f"{root}img/2.png{between}{root}lab/2.png",
    )
    assert pairs_of(listing) == {
        "0.png": ("1.png", "train"),
        "1.png": ("0.png", "train"),
        "2.png": ("2.png", "validation"),
    }
    assert [(f.name, f.reason) for f in listing.rejected] == [("3", "in no list")]


def test_two_columns_pair_names_that_have_nothing_in_common(tmp_path):
    touch(tmp_path, ["img/a.jpg", "img/b.jpg", "lab/x.png", "lab/y.png", "lab/z.png"])
    listing = listing_of(tmp_path, train="img/a.jpg lab/y.png\nimg/b lab/x\n")
    assert pairs_of(listing) == {"a.jpg": ("y.png", "train"), "b.jpg": ("x.png", "train")}
    assert [(f.name, f.reason) for f in listing.rejected] == [
        ("z", "mask without an image of its name")
    ]


def test_columns_find_files_that_patterns_name_otherwise(tmp_path):
    touch(tmp_path, ["a/1_rgb.png", "b/1_rgb.png", "a/1_id.png", "b/1_id.png"])
    listing = listing_of(
        tmp_path,
        "*/*_rgb.png",
        "*/*_id.png",
        train="a/1_rgb.png a/1_id.png",
        test="b/1_rgb.png b/1_id.png",
    )
    assert {e.name: e.split for e in listing.examples} == {"a/1": "train", "b/1": "test"}
    assert all(e.pair.mask.path.endswith(f"{e.name}_id.png") for e in listing.examples)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("img/0.png lab/9.png", "listed, but mask missing"),
        ("img/9.png lab/0.png", "listed, but image missing"),
        ("img/9.png lab/9.png", "listed, but image and mask missing"),
        ("0 1", "listed, but image and mask missing"),  # a class, in many data sets' lists
        ("img/9 lab/1", "listed, but image and mask missing"),
        ("img/1 lab/9", "listed, but image and mask missing"),
        ("0 1 1 1", "listed, but image and mask missing"),
    ],
)
def test_columns_that_are_no_pair_are_rejected(raw, line, reason):
    listing = listing_of(raw, train=f"{line}\nimg/3.png\n")
    assert pairs_of(listing) == {"3.png": ("3.png", "train")}
    (finding,) = [f for f in listing.rejected if f.split]
    assert finding.reason == reason


def test_three_pictures_in_a_line_are_refused_with_its_number(raw):
    with pytest.raises(UserError, match=r"train.txt, line 2: .* names more than two pictures"):
        listing_of(raw, train="img/0.png\nimg/1.png lab/1.png lab/2.png\n")


def test_a_name_with_spaces_and_suffixes_in_it_is_one_name(tmp_path):
    names = ["a.png b.png", "my dog.png", "semi;colon.png"]
    touch(tmp_path, [f"{kind}/{name}" for kind in ("img", "lab") for name in names])
    listing = listing_of(tmp_path, train="\n".join(names))
    assert pairs_of(listing) == {name: (name, "train") for name in names}


def test_a_folder_with_a_space_in_its_name_is_one_path(tmp_path):
    touch(tmp_path, [f"{kind}/my dir/0.png" for kind in ("img", "lab")])
    for name in ("img/my dir/0.png", "my dir/0", "img/my dir/0", "any dir/0.png"):
        listing = listing_of(tmp_path, train=name)
        assert [example.name for example in listing.examples] == ["my dir/0"]


def test_a_list_without_any_name_that_is_there_shows_both(raw):
    with pytest.raises(UserError, match="first pair is called '0', the first listed 'x 1 1 1'"):
        listing_of(raw, train="x 1 1 1\n")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encode",
    [
        str.encode,
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),  # with its byte order mark
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    ],
)
def test_lists_of_any_editor_lose_no_name(raw, ending, encode):
    text = ending.join(["0.png", "1.png", "", "# a comment", "2.png", ""])
    listing = listing_of(raw, train=encode(text), validation=encode(f"img/3.png lab/3.png{ending}"))
    assert pairs_of(listing) == {
        **{f"{i}.png": (f"{i}.png", "train") for i in range(3)},
        "3.png": ("3.png", "validation"),
    }
    assert listing.rejected == ()


def test_a_name_that_is_no_utf_8_is_found(tmp_path):
    name = os.fsdecode(b"\xff\x85")
    touch(tmp_path, [f"img/{name}.png", f"lab/{name}.png"])
    listing = listing_of(tmp_path, train=b"\xff\x85.png\n")
    assert [e.name for e in listing.examples] == [name]


def test_images_that_differ_in_their_suffix_alone_are_two(tmp_path):
    draw_images(tmp_path, ["a.jpg", "a.png", "b.jpg", "m/1.png", "m/2.png", "m/3.png"])
    (tmp_path / "t.txt").write_text("a.jpg m/1.png\na.png m/2.png\nb.jpg m/3.png\nb.jpg m/3.png\n")
    rejected = []
    lines = split_lists.read_lists({"train": str(tmp_path / "t.txt")})
    pairs, splits = pair_lists.pair_by_lists(lines, "", rejected)
    names = {key: pair.mask.name for key, pair in pairs.items()}
    assert names == {"a.jpg": "1.png", "a.png": "2.png", "b": "3.png"}
    assert splits.keys() == names.keys()
    assert [f.reason for f in rejected] == ["listed more than once; the first listing counts"]
