"""Classes of whole images, and groups of them."""

import pytest

from petseg.conversion.sources.base import Source
from petseg.data.image_classes import choose_classes, groups_of, read_class_names
from petseg.errors import UserError
from petseg.registry import SOURCES

BREEDS = ("Abyssinian", "american_bulldog", "beagle", "Bengal", "boxer")


@pytest.fixture
def source(monkeypatch):
    """A source from outside that groups images by the first part of their name."""
    monkeypatch.setattr(SOURCES, "_items", dict(SOURCES._items))

    def by_city(filename, class_text):
        return {"city": filename.partition("_")[0], "weather": class_text}

    SOURCES.register("streets", Source(list_examples=None, groups_of=by_city))
    return "streets"


def test_a_source_groups_its_images(source):
    groups = groups_of("ulm_007.png", "rain", source)
    assert groups == {"city": "ulm", "weather": "rain"}


def test_an_unknown_source_has_the_classes_of_images_alone():
    assert groups_of("ulm_007.png", "rain", "elsewhere") == {"image class": "rain"}
    assert groups_of("ulm_007.png", "", "elsewhere") == {}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("species=dog", "american_bulldog beagle boxer"),
        ("species=cat", "Abyssinian Bengal"),
        ("breed=beagle,boxer", "beagle boxer"),
        ("class=beagle, boxer", "beagle boxer"),
        ("class=b*", "beagle boxer"),
        ("class=B*,?byssinian", "Abyssinian Bengal"),
    ],
)
def test_a_text_chooses_classes(text, chosen):
    is_chosen = choose_classes(text, BREEDS, "oxford_iiit_pet")
    assert [n for n, one in zip(BREEDS, is_chosen, strict=True) if one] == chosen.split()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("species=fish", "no species is called 'fish'; there are cat, dog"),
        ("class=beagle,B0xer", "no class is called 'B0xer'; there are Abyssinian, american_bull"),
        ("species=dog,cat", "matches all 5 classes; leave it out"),
        ("class=*", "matches all 5 classes; leave it out"),
        ("colour=red", "must be KIND=PATTERN,PATTERN with a kind of breed, class, species; as in "
         "class=Abyssinian"),
        ("dog", "must be KIND=PATTERN,PATTERN"),
        ("species=", "no species is called ''"),
    ],
)  # fmt: skip
def test_what_chooses_none_or_all_is_refused(text, message):
    with pytest.raises(UserError, match="^config.data.masks_of=" + text.replace("*", r"\*")) as one:
        choose_classes(text, BREEDS, "oxford_iiit_pet")
    assert message in str(one.value)


def test_class_names_are_read_or_refused(tmp_path):
    with pytest.raises(UserError, match="its images have no classes of their own"):
        read_class_names(str(tmp_path))
    (tmp_path / "image-class-label.labels.txt").write_text("only\n")
    with pytest.raises(UserError, match="names fewer than two"):
        read_class_names(str(tmp_path))
    (tmp_path / "image-class-label.labels.txt").write_text("a\nb c\n")
    assert read_class_names(str(tmp_path)) == ("a", "b c")
