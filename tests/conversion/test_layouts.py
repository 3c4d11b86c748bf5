"""The layouts of public data sets, drawn: what pairs, and what an error proposes."""

import re

import numpy as np
import pytest
from testing.conversion import taken
from testing.picture_files import touch

from petseg.conversion import files
from petseg.conversion.convert import ConvertOptions, source_options
from petseg.conversion.sources import folders
from petseg.conversion.sources.base import SeveralMasks, SourceOptions
from petseg.errors import UserError


def listing_of(root, **flags):
    flags = {
        k: f"{root}/{v}" if k in ("images", "masks", "raw_dir") else v for k, v in flags.items()
    }
    return taken(folders.list_folders(SourceOptions(**flags)))


def pairs_of(root, listing):
    """Image's path -> mask's path, below the root."""
    return {
        e.pair.image.path.removeprefix(f"{root}/"): e.pair.mask.path.removeprefix(f"{root}/")
        for e in listing.examples
    }


def hinted(root, message):
    flags = dict(re.findall(r"--(images|masks)='([^']*)'", message))
    flags = {flag: value.removeprefix(f"{root}/") for flag, value in flags.items()}
    return {**flags, "several_masks": "' --several_masks" in message}


def retina(root):
    names = [("training", i) for i in range(21, 27)] + [("test", i) for i in range(1, 7)]
    expected = {
        f"{split}/images/{i:02}_{split}.tif": f"{split}/1st_manual/{i:02}_manual1.gif"
        for split, i in names
    }
    touch(root, [*expected, *expected.values()])
    touch(root, [f"{split}/mask/{i:02}_{split}_mask.gif" for split, i in names])
    return expected, {"images": "*/images/*.tif", "masks": "*/1st_manual/*.gif"}


def road(root):
    names = [(kind, i) for kind in ("um", "umm", "uu") for i in range(4)]
    expected = {
        f"training/image_2/{kind}_{i:06}.png": f"training/gt_image_2/{kind}_road_{i:06}.png"
        for kind, i in names
    }
    touch(root, [*expected, *expected.values()])
    touch(root, [f"training/gt_image_2/um_lane_{i:06}.png" for i in range(4)])
    return expected, {"images": "training/image_2", "masks": "training/gt_image_2"}


def skin(root):
    expected = {f"in/ISIC_{i:07}.jpg": f"gt/ISIC_{i:07}_segmentation.png" for i in range(5)}
    touch(root, [*expected, *expected.values()])
    return expected, {"images": "in", "masks": "gt"}


def scenes(root):
    """As in Cityscapes: folders of cities, and two masks of each name beside the one."""
    names = [(city, f"{city}_{i:06}_000019") for city in ("aachen", "bochum") for i in range(3)]
    expected = {
        f"leftImg8bit/train/{city}/{name}_leftImg8bit.png": (
            f"gtFine/train/{city}/{name}_gtFine_labelIds.png"
        )
        for city, name in names
    }
    touch(root, [*expected, *expected.values()])
    touch(root, [mask.replace("labelIds", "instanceIds") for mask in expected.values()])
    flags = {"images": "leftImg8bit/train/*/*.png", "masks": "gtFine/train/*/*_labelIds.png"}
    return expected, flags | {"masks": "gtFine/train/*/*.png"}


@pytest.mark.parametrize("draw", [retina, road, skin])
def test_what_the_error_proposes_pairs_each_image_with_its_mask(tmp_path, draw):
    expected, flags = draw(tmp_path)
    with pytest.raises(UserError, match="the first image is called") as caught:
        listing_of(tmp_path, **flags)
    listing = listing_of(tmp_path, **{**flags, **hinted(tmp_path, str(caught.value))})
    assert pairs_of(tmp_path, listing) == expected


def test_scenes_pair_by_city_and_name(tmp_path):
    expected, flags = scenes(tmp_path)
    patterns = {
        "images": "leftImg8bit/train/*/*_leftImg8bit.png",
        "masks": "gtFine/train/*/*_gtFine_labelIds.png",
    }
    assert pairs_of(tmp_path, listing_of(tmp_path, **patterns)) == expected
    with pytest.raises(UserError) as caught:
        listing_of(tmp_path, **flags)
    proposed = hinted(tmp_path, str(caught.value))
    assert not proposed["several_masks"]
    images = pairs_of(tmp_path, listing_of(tmp_path, **{**flags, **proposed}))
    assert images.keys() == expected.keys()


def test_nuclei_have_a_file_for_each(tmp_path):
    masks = {f"id{i}": [f"{i}{j}" for j in range(1 + i % 3)] for i in range(6)}
    touch(tmp_path, [f"s/{name}/images/{name}.png" for name in masks])
    touch(tmp_path, [f"s/{name}/masks/{m}.png" for name, of in masks.items() for m in of])
    flags = {"images": "s/*/images/*.png", "masks": "s/*/masks/*.png"}
    with pytest.raises(UserError) as caught:
        listing_of(tmp_path, **flags)
    proposed = hinted(tmp_path, str(caught.value))
    assert proposed == {
        "images": "s/*/images/{any}.png",
        "masks": "s/*/masks/{any}.png",
        "several_masks": True,
    }
    listing = listing_of(tmp_path, **proposed)
    assert listing.rejected == ()
    assert {e.name: [mask.name for mask in e.pair.masks] for e in listing.examples} == {
        name: [f"{m}.png" for m in of] for name, of in masks.items()
    }
    assert all(
        isinstance(e.pair, SeveralMasks) and set(e.pair.values) == {1} for e in listing.examples
    )
    assert listing.masks.names == {0: "background", 1: "foreground"}


def test_a_folder_an_image_holds_its_masks(tmp_path):
    touch(tmp_path, ["i/a.jpg", "i/x/b.jpg", "i/c.jpg", "m/a/2.png", "m/a/1.png", "m/x/b/1.png"])
    touch(tmp_path, ["m/c.png"])
    listing = listing_of(tmp_path, images="i", masks="m", several_masks=True)
    assert {e.name: [mask.name for mask in e.pair.masks] for e in listing.examples} == {
        "a": ["1.png", "2.png"],
        "x/b": ["1.png"],
        "c": ["c.png"],
    }


def test_several_masks_of_one_name_are_named_with_the_flag_that_merges_them(tmp_path):
    touch(tmp_path, ["i/a.jpg", "m/a.png", "m/a.bmp"])
    with pytest.raises(UserError, match=r"1 of 1 have several masks of one name.*--several_masks"):
        listing_of(tmp_path, images="i", masks="m")


@pytest.mark.parametrize("is_moved", [False, True])
@pytest.mark.parametrize("raw_dir", ["", "."])
def test_lists_alone_name_pairs_of_another_machine(tmp_path, is_moved, raw_dir):
    """As CamVid's lists: absolute paths to folders that lie beside the lists."""
    root = tmp_path / "elsewhere" if is_moved else tmp_path
    names = {split: [f"{split}{i}" for i in range(3)] for split in ("train", "val", "test")}
    for split, of in names.items():
        touch(root, [f"{split}{kind}/{n}.png" for n in of for kind in ("", "annot")])
        lines = [f"/SegNet/CamVid/{split}/{n}.png /SegNet/CamVid/{split}annot/{n}.png" for n in of]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines) + "\n")
    lists = {"train": "train", "validation": "val", "test": "test"}
    options = SourceOptions(
        raw_dir=str(root) if raw_dir or is_moved else "",
        lists={split: f"{tmp_path}/{name}.txt" for split, name in lists.items()},
    )
    listing = taken(folders.list_folders(options))
    assert {e.name: (e.split, e.pair.mask.path) for e in listing.examples} == {
        f"{name}/{n}": (split, f"{root}/{name}annot/{n}.png")
        for split, name in lists.items()
        for n in names[name]
    }
    assert listing.rejected == ()
    assert listing.hashed == ()


def test_array_masks_pair_too(tmp_path):
    touch(tmp_path, ["i/a.jpg", "i/b.jpg", "m/a.npy", "m/b.mat"])
    listing = listing_of(tmp_path, images="i", masks="m")
    assert pairs_of(tmp_path, listing) == {"i/a.jpg": "m/a.npy", "i/b.jpg": "m/b.mat"}
    with pytest.raises(UserError, match=r"--images: .* holds no picture"):
        listing_of(tmp_path, images="m", masks="i")


def test_pairs_do_not_depend_on_the_order_of_listing(tmp_path, monkeypatch):
    _, flags = retina(tmp_path)
    flags = {"images": "*/images/*_{any}.tif", "masks": "*/1st_manual/*_manual1.gif"}
    expected = listing_of(tmp_path, **flags)
    rng = np.random.default_rng(0)
    in_order = files.names_in
    monkeypatch.setattr(files, "names_in", lambda of: rng.permutation(list(in_order(of))).tolist())
    assert listing_of(tmp_path, **flags) == expected


def test_lines_without_a_pair_are_named_and_most_of_them_say_why_none_is(tmp_path):
    touch(tmp_path, ["i/a.png", "m/a.png", "i/b.png", "d/a.png"])
    text = "x/i/a.png x/m/a.png\ni/b.png m/b.png\ni/a.png\ni/a.png d/a.png\ni/b.png i/b.png\n"
    (tmp_path / "train.txt").write_text(text)
    lists = {"train": str(tmp_path / "train.txt")}
    listing = taken(folders.list_folders(SourceOptions(lists=lists)))
    assert pairs_of(tmp_path, listing) == {"i/a.png": "m/a.png"}
    assert [(f.name, f.reason) for f in listing.rejected] == [
        ("i/b.png m/b.png", "listed, but mask missing"),
        ("i/a.png", "listed, but without a mask in its line"),
        ("i/a.png d/a.png", "listed more than once; the first listing counts"),
        ("i/b.png i/b.png", "listed, but its mask is the image's own file"),
    ]
    (tmp_path / "train.txt").write_text("i/a.png n/a.png\ni/b.png\ni/b.png n/b.png\n")
    with pytest.raises(UserError, match=r"2 of 3 are listed, but mask missing, such as i/a\.png"):
        taken(folders.list_folders(SourceOptions(lists=lists)))


def test_relative_paths_begin_at_raw_dir_if_they_are_there(tmp_path, monkeypatch):
    touch(tmp_path, ["d/img/a.png", "d/lab/a.png", "d/l.txt", "here/img/b.png"])
    (tmp_path / "l.txt").write_text("")
    monkeypatch.chdir(tmp_path)

    def asked(**flags) -> SourceOptions:
        options = ConvertOptions(output_dir="out", source="folders", **flags)
        return source_options(options, "work", show_progress=False)

    found = asked(raw_dir="d/", images="img", masks="*/a.png", train_list="l.txt")
    assert (found.images, found.masks) == ("d/img", "d/*/a.png")
    assert found.lists == {"train": "l.txt"}  # a file that is here
    assert asked(raw_dir="d", test_list="lab/a.png").lists == {"test": "d/lab/a.png"}
    assert asked(raw_dir="d", images="here/img").images == "here/img"
    assert asked(raw_dir="d", images=str(tmp_path / "img")).images == str(tmp_path / "img")
    assert asked(images="img").images == "img"


def test_a_raw_dir_without_images_says_what_it_holds_or_which_source_reads_it(tmp_path):
    touch(tmp_path, ["a/train/x.png", "a/labels/x.png", "v/JPEGImages/x.jpg"])
    touch(tmp_path, ["v/SegmentationClass/x.png", "c/leftImg8bit/x.png", "c/gtFine/x.png"])
    for name, said in (
        ("a", "has no images/ and masks/ in it (it holds labels/, train/); name the folders"),
        ("v", "v has PASCAL VOC's layout, which --source=voc reads"),
        ("c", "c has Cityscapes's layout, which --source=cityscapes reads"),
    ):
        with pytest.raises(UserError) as raised:
            folders.list_folders(SourceOptions(raw_dir=str(tmp_path / name)))
        assert said in str(raised.value)
