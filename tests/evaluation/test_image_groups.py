"""Groups of images come from the source of the data set."""

import numpy as np
import pytest

from petseg.conversion.sources.base import Source
from petseg.evaluation.image_groups import groups_of
from petseg.input_pipeline.stored_examples import Original
from petseg.registry import SOURCES


def example(filename, image_class):
    picture = np.zeros((1, 1, 3), np.uint8)
    return Original(0, "name", filename, image_class, picture, picture[..., 0])


@pytest.fixture
def source(monkeypatch):
    """A source from outside that groups images by the first part of their name."""
    monkeypatch.setattr(SOURCES, "_items", dict(SOURCES._items))

    def by_city(filename, class_text):
        return {"city": filename.partition("_")[0], "weather": class_text}

    SOURCES.register("streets", Source(list_examples=None, groups_of=by_city))
    return "streets"


def test_a_source_groups_its_images(source):
    groups = groups_of(example("ulm_007.png", "rain"), source)
    assert groups == {"city": "ulm", "weather": "rain"}


def test_an_unknown_source_has_the_classes_of_images_alone():
    assert groups_of(example("ulm_007.png", "rain"), "elsewhere") == {"image class": "rain"}
    assert groups_of(example("ulm_007.png", ""), "elsewhere") == {}
