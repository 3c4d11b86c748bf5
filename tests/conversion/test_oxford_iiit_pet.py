import gzip
import hashlib
import shutil
import tarfile

import pytest
from testing.conversion import convert

from petseg.conversion.sources import oxford_iiit_pet
from petseg.conversion.sources.base import SourceOptions
from petseg.errors import UserError


def listing_of(raw_dir, fraction=0.25):
    return oxford_iiit_pet.list_oxford_iiit_pet(
        SourceOptions(raw_dir=str(raw_dir), validation_fraction=fraction)
    )


def _lines(folder, name):
    return (folder / "annotations" / f"{name}.txt").read_text().splitlines()


def test_every_listed_pair_gets_the_split_and_breed_of_its_list(pets):
    listing = listing_of(pets)
    by_name = {example.name: example for example in listing.examples}
    trainval = [line.split()[0] for line in _lines(pets, "trainval")]
    test = [line.split()[0] for line in _lines(pets, "test")]
    assert sorted(by_name) == sorted(trainval + test)
    assert all(by_name[name].split == "test" for name in test)
    assert all(by_name[name].split in ("train", "validation") for name in trainval)
    for line in _lines(pets, "list"):
        name, class_id = line.split()[:2]
        assert by_name[name].class_label == int(class_id) - 1
        assert by_name[name].class_text == name.rpartition("_")[0]
        assert listing.class_names[int(class_id) - 1] == by_name[name].class_text
    assert listing.rejected == ()


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5])
def test_validation_is_the_first_of_each_breed_in_hash_order(pets, fraction):
    listing = listing_of(pets, fraction)
    names = [line.split()[0] for line in _lines(pets, "trainval")]
    expected = set()
    for breed in {name.rpartition("_")[0] for name in names}:
        of_breed = [name for name in names if name.rpartition("_")[0] == breed]
        of_breed.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        expected |= set(of_breed[: round(fraction * len(of_breed))])
    assert {e.name for e in listing.examples if e.split == "validation"} == expected


def test_a_test_set_alone_needs_no_line_in_trainval(pets):
    (pets / "annotations" / "trainval.txt").write_text("")
    listing = listing_of(pets)
    test = {line.split()[0] for line in _lines(pets, "test")}
    assert {example.name: example.split for example in listing.examples} == dict.fromkeys(
        test, "test"
    )


@pytest.mark.parametrize(("fraction", "count"), [(0.01, 1), (0.99, 27)])
def test_breeds_of_few_images_leave_neither_train_nor_validation_empty(pets, fraction, count):
    splits = [example.split for example in listing_of(pets, fraction).examples]
    assert splits.count("validation") == count
    assert splits.count("train") == 28 - count


def test_lists_of_windows_editors_are_read_as_any_other(pets):
    before = listing_of(pets)
    for path in (pets / "annotations").glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert listing_of(pets) == before


def test_a_missing_file_is_named_and_moves_no_other_example(pets):
    before = {e.name: e.split for e in listing_of(pets).examples}
    (pets / "images" / "Slate_2.jpg").unlink()
    (pets / "annotations" / "trimaps" / "Slate_3.png").unlink()
    (pets / "images" / "Slate_4.jpg").unlink()
    (pets / "annotations" / "trimaps" / "Slate_4.png").unlink()
    listing = listing_of(pets)
    reasons = {finding.name: (finding.split, finding.reason) for finding in listing.rejected}
    assert reasons == {
        "Slate_2": (before["Slate_2"], "image missing"),
        "Slate_3": (before["Slate_3"], "trimap missing"),
        "Slate_4": (before["Slate_4"], "image and trimap missing"),
    }
    kept = {e.name: e.split for e in listing.examples}
    assert kept == {name: split for name, split in before.items() if name not in reasons}


def test_files_in_no_list_are_named_and_the_archive_twins_counted(pets):
    (pets / "images" / "Stray_1.jpg").write_bytes(b"GIF89a...")
    (pets / "images" / "Stray_2.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (pets / "images" / "._Slate_1.jpg").write_bytes(b"twin")
    for name in ("Slate_1", "Slate_2"):
        (pets / "annotations" / "trimaps" / f"._{name}.png").write_bytes(b"twin")
    (pets / "images" / "Slate_1.mat").write_bytes(b"matlab")
    listing = listing_of(pets)
    assert [(f.name, f.split, f.reason) for f in listing.rejected] == [
        ("._*", "", "macOS's twins of other files, no pictures: 1 in images"),
        ("Slate_1.mat", "", "no .jpg file"),
        ("Stray_1.jpg", "", "in no official list (and really of format GIF)"),
        ("Stray_2.jpg", "", "in no official list"),
        ("._*", "", "macOS's twins of other files, no pictures: 2 in annotations/trimaps"),
    ]


def test_a_suffix_in_capitals_is_found_and_two_images_of_one_name_are_not(pets):
    (pets / "images" / "Slate_1.jpg").rename(pets / "images" / "Slate_1.JPG")
    shutil.copy(pets / "images" / "Slate_2.jpg", pets / "images" / "Slate_2.JPG")
    listing = listing_of(pets)
    by_name = {example.name: example for example in listing.examples}
    assert by_name["Slate_1"].pair.image_name == "Slate_1.JPG"
    assert "Slate_2" not in by_name
    assert [f.reason for f in listing.rejected] == [
        "2 images of one name: Slate_2.JPG, Slate_2.jpg"
    ]


@pytest.fixture
def archives(pets, tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    for name in ("images", "annotations"):
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as archive:
            archive.add(pets / name, name)
    return folder


def test_the_two_archives_give_the_same_data_set_as_the_folders(archives, data_dir, tmp_path):
    convert(archives, tmp_path / "out")
    for path in data_dir.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "out").iterdir())) == len(list(data_dir.iterdir()))


@pytest.mark.parametrize("name", ["images", "annotations"])
def test_an_archive_that_is_cut_or_no_archive_is_named(archives, tmp_path, name):
    path = archives / f"{name}.tar.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=rf"{name}\.tar\.gz is damaged or not complete"):
        convert(archives, tmp_path / "out")
    path.write_bytes(gzip.compress(b"no tar"))
    with pytest.raises(UserError, match=rf"{name}\.tar\.gz is no tar archive"):
        convert(archives, tmp_path / "out")
    path.unlink()
    with pytest.raises(UserError):
        convert(archives, tmp_path / "out")


def test_a_name_listed_twice_counts_once(pets, tmp_path):
    path = pets / "annotations" / "test.txt"
    path.write_text(path.read_text() + _lines(pets, "trainval")[0] + "\n")
    listing = listing_of(pets)
    name = _lines(pets, "trainval")[0].split()[0]
    assert [(f.name, f.split) for f in listing.rejected] == [(name, "test")]
    assert "more than once" in listing.rejected[0].reason
    assert sum(e.name == name for e in listing.examples) == 1
    finished = convert(pets, tmp_path / "out")
    assert sum(split.records for split in finished.splits.values()) == 32


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a folder"),
        (lambda p: shutil.rmtree(p / "images"), "images is not a folder"),
        (lambda p: shutil.rmtree(p / "annotations" / "trimaps"), "trimaps is not a folder"),
        (lambda p: (p / "annotations" / "trainval.txt").unlink(), "trainval.txt not found"),
        (
            lambda p: [
                (p / "annotations" / f"{name}.txt").write_text("# only\n")
                for name in ("trainval", "test")
            ],
            "trainval.txt lists no image, nor does test.txt",
        ),
        (lambda p: (p / "annotations" / "trainval.txt").write_text("a 1\nb\n"), "line 2: 'b'"),
        (lambda p: (p / "annotations" / "trainval.txt").write_text("a zero 1 1\n"), "line 1"),
        (lambda p: (p / "annotations" / "test.txt").write_text("../x 1 1 1\n"), "not be a path"),
        (lambda p: [f.unlink() for f in (p / "images").iterdir()], "not one has both its files"),
    ],
)
def test_a_folder_in_another_shape_is_refused_in_one_line(pets, damage, message):
    damage(pets)
    with pytest.raises(UserError, match=message) as caught:
        listing_of(pets, 0.1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0])
def test_a_fraction_outside_its_range_is_refused(pets, fraction):
    with pytest.raises(UserError, match="--validation_fraction"):
        listing_of(pets, fraction)


@pytest.mark.parametrize(
    ("filename", "class_text", "expected"),
    [
        ("Slate_1.jpg", "Slate", {"species": "cat", "breed": "Slate"}),
        ("pepper_terrier_1.jpg", "pepper_terrier", {"species": "dog", "breed": "pepper_terrier"}),
        ("Slate_1.jpg", "", {"species": "cat"}),
    ],
)
def test_an_image_is_grouped_by_species_and_breed(filename, class_text, expected):
    assert oxford_iiit_pet.OXFORD_IIIT_PET.groups_of(filename, class_text) == expected
