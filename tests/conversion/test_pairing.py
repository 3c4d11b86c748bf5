import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from testing.conversion import taken
from testing.picture_files import touch

from petseg.conversion import pairing
from petseg.conversion.sources import folders
from petseg.conversion.sources.base import SourceOptions
from petseg.errors import UserError

COMPOSED, DECOMPOSED = "M\u00fcller_1", "Mu\u0308ller_1"


def listing_of(images, masks, **changes):
    return taken(
        folders.list_folders(SourceOptions(images=str(images), masks=str(masks), **changes))
    )


def pairs_of(listing) -> dict[str, tuple[str, str]]:
    """Name -> file names of image and mask."""
    return {
        example.name: tuple(
            stored.path.rpartition("/")[2] for stored in (example.pair.image, example.pair.mask)
        )
        for example in listing.examples
    }


def hinted(message: str) -> dict[str, str]:
    """The flags that an error proposes."""
    return dict(re.findall(r"--(images|masks)='([^']*)'", message))


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["1.jpg", "10.jpg"], ["1_mask.png", "10_mask.png"]),
        (["img1.jpg", "img10.jpg"], ["img1_mask.png", "img10_mask.png"]),
        (["a.jpg", "ab.jpg"], ["a_mask.png", "ab_mask.png"]),
        (["a.jpg", "ab.jpg"], ["mask_a.png", "mask_ab.png"]),
        (["1_rgb.jpg", "10_rgb.jpg"], ["1_label.png", "10_label.png"]),
        (["rgb_1.jpg", "rgb_10.jpg"], ["gt_1.png", "gt_10.png"]),
        (["shape_01.jpg", "shape_11.jpg"], ["01.png", "11.png"]),
        (["x/1.jpg", "y/1.jpg", "10.jpg"], ["x/1_mask.png", "y/1_mask.png", "10_mask.png"]),
        (["1.jpg", "10.jpeg"], ["1_mask.png", "10_mask.png"]),
    ],
)
def test_a_hint_pairs_every_image_with_its_own_mask(tmp_path, images, masks):
    touch(tmp_path / "i", images)
    touch(tmp_path / "m", masks)
    with pytest.raises(UserError, match="the first image is called") as caught:
        listing_of(tmp_path / "i", tmp_path / "m")
    flags = {"images": str(tmp_path / "i"), **hinted(str(caught.value))}
    assert set(pairs_of(listing_of(**flags)).values()) == {
        (image.rpartition("/")[2], mask.rpartition("/")[2])
        for image, mask in zip(images, masks, strict=True)
    }


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["1.jpg", "2.jpg"], ["10.png", "20.png"]),  # a digit is no ending
        (["1.jpg", "10.jpg", "7.jpg"], ["1_mask.png", "10_mask.png"]),
        (["cat.jpg", "dog.jpg"], ["one.png", "two.png"]),
        (["1.jpg"], ["1_mask.png", "1_mask.tif"]),
    ],
)
def test_no_hint_is_given_that_leaves_an_image_alone(tmp_path, images, masks):
    touch(tmp_path / "i", images)
    touch(tmp_path / "m", masks)
    with pytest.raises(UserError, match="names must agree but for the suffix"):
        listing_of(tmp_path / "i", tmp_path / "m")


@given(
    names=st.sets(st.from_regex(r"[a-c0-2]{1,4}", fullmatch=True), min_size=1, max_size=6),
    before=st.sampled_from(["", "mask_", "m-"]),
    after=st.sampled_from(["", "_mask", ".seg"]),
)
def test_every_hint_pairs_each_image_with_one_mask(tmp_path_factory, names, before, after):
    folder = tmp_path_factory.mktemp("drawn")
    touch(folder / "i", [f"{name}.jpg" for name in names])
    touch(folder / "m", [f"{before}{name}{after}.png" for name in names])
    try:
        listing = listing_of(folder / "i", folder / "m")
    except UserError as error:
        flags = {"images": f"{folder}/i", **hinted(str(error))}
        listing = listing_of(**flags)
    expected = {(f"{name}.jpg", f"{before}{name}{after}.png") for name in names}
    assert set(pairs_of(listing).values()) == expected


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["a.jpg", "b.jpg"], ["a.png", "b.png"]),
        (["a.png", "b.png"], ["a_mask.png", "b_mask.png"]),
        (["a.jpg", "b.jpg"], ["a_mask.png", "b_mask.png"]),
        (["a.png", "b.png"], ["mask_a.png", "mask_b.png"]),
        (["a_image.png", "b_image.png"], ["a_mask.png", "b_mask.png"]),
        (["x/a.jpg", "y/a.jpg"], ["x/a_label.png", "y/a_label.png"]),
    ],
)
def test_one_folder_for_both_is_refused_with_patterns_that_tell_them_apart(tmp_path, images, masks):
    touch(tmp_path / "f", [*images, *masks])
    (tmp_path / "link").symlink_to(tmp_path / "f")
    for other in (f"{tmp_path}/f", f"{tmp_path}/f/", f"{tmp_path}/link", f"{tmp_path}/f/**/*"):
        with pytest.raises(UserError, match="each image would be its own mask") as caught:
            listing_of(tmp_path / "f", other)
    listing = listing_of(**hinted(str(caught.value)))
    assert set(pairs_of(listing).values()) == {
        (image.rpartition("/")[2], mask.rpartition("/")[2])
        for image, mask in zip(images, masks, strict=True)
    }
    assert listing.rejected == ()  # masks are no images without a mask


def test_one_folder_of_masks_alone_is_refused_without_patterns(tmp_path):
    touch(tmp_path, ["a.png", "b.png"])
    with pytest.raises(UserError, match="name the masks by a folder or pattern of their own"):
        listing_of(tmp_path, tmp_path)


def test_a_mask_that_is_a_link_to_its_image_is_rejected(tmp_path):
    touch(tmp_path, ["i/a.png", "i/b.png", "m/a.png"])
    (tmp_path / "m" / "b.png").symlink_to(tmp_path / "i" / "b.png")
    listing = listing_of(tmp_path / "i", tmp_path / "m")
    assert [(f.name, f.reason) for f in listing.rejected] == [("b", pairing.ITSELF)]
    assert pairs_of(listing) == {"a": ("a.png", "a.png")}


@pytest.mark.parametrize(
    ("image", "mask"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED), (DECOMPOSED, DECOMPOSED)]
)
def test_names_pair_however_their_accents_are_written(tmp_path, image, mask):
    touch(tmp_path, [f"i/{image}.jpg", f"m/{mask}.png"])
    (tmp_path / "list.txt").write_text(f"{COMPOSED}.jpg\n")
    for lists in ({}, {"train": str(tmp_path / "list.txt")}):
        listing = listing_of(tmp_path / "i", tmp_path / "m", lists=lists)
        # A name that paired before keeps its spelling, and so its place.
        expected = image if image == mask else COMPOSED
        assert pairs_of(listing) == {expected: (f"{image}.jpg", f"{mask}.png")}
        assert listing.rejected == ()


def test_two_spellings_in_one_folder_stay_two_names(tmp_path):
    both = (COMPOSED, DECOMPOSED)
    touch(tmp_path, [f"i/{name}.jpg" for name in both] + [f"m/{name}.png" for name in both])
    assert pairs_of(listing_of(tmp_path / "i", tmp_path / "m")) == {
        name: (f"{name}.jpg", f"{name}.png") for name in both
    }


HIDDEN = [".ipynb_checkpoints", "@eaDir", ".Trash", ".thumbnails", "__MACOSX"]


@pytest.mark.parametrize("hidden", HIDDEN)
def test_hidden_folders_are_named_and_their_copies_no_examples(tmp_path, hidden):
    names = ["a", f"{hidden}/a", f"{hidden}/b", f"x/{hidden}/a"]
    touch(tmp_path, [f"i/{n}.jpg" for n in names] + [f"m/{n}.png" for n in names])
    for images, masks in (("i", "m"), ("i/**/*.jpg", "m/**/*.png")):
        listing = listing_of(tmp_path / images, tmp_path / masks)
        assert [example.name for example in listing.examples] == ["a"]
        assert [(f.name, f.reason) for f in listing.rejected] == [
            (hidden, "hidden folder, not read: 2 in --images"),
            (hidden, "hidden folder, not read: 2 in --masks"),
        ]
    # Unless the user names it.
    named = listing_of(tmp_path / "i" / hidden, tmp_path / "m" / hidden)
    assert [example.name for example in named.examples] == ["a", "b"]
    named = listing_of(f"{tmp_path}/i/*/{hidden}/*.jpg", f"{tmp_path}/m/*/{hidden}/*.png")
    assert [example.name for example in named.examples] == ["x/a"]


def test_a_pair_of_which_one_is_no_longer_there_is_left_to_reading(tmp_path):
    touch(tmp_path, ["i/a.png"])
    (tmp_path / "m").mkdir()
    os.symlink("absent.png", tmp_path / "m" / "a.png")
    assert pairs_of(listing_of(tmp_path / "i", tmp_path / "m")) == {"a": ("a.png", "a.png")}
