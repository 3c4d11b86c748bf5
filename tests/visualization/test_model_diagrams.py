import re
import shutil

import numpy as np
import pytest
from PIL import Image

from petseg.errors import UserError
from petseg.models.segmentation_model import ModelOptions, build_model
from petseg.visualization import model_diagrams

OPTIONS = ModelOptions(decoder="fpn", encoder_width=2, encoder_convs=(1, 2, 1, 1, 1))


def build():
    return build_model(OPTIONS, num_classes=2, image_size=64, weights="none")


def test_a_diagram_has_each_layer_once_and_an_arrow_for_each_tensor():
    text = model_diagrams.describe_diagram(build(), "a title", set())
    labels = dict(re.findall(r'^(n\d+) \[label="(.*?)"', text, re.MULTILINE))
    by_layer = {label.split("\\n")[0]: node for node, label in labels.items()}
    assert len(by_layer) == len(labels)
    assert labels[by_layer["block2_conv2"]] == "block2_conv2\\nConv2D 3 x 3, relu\\n32 x 32 x 4"
    assert "Add, group norm, ReLU" in labels[by_layer["add_P4"]]  # they share a box
    edges = re.findall(r"^(n\d+) -> (n\d+)(.*)$", text, re.MULTILINE)
    ends = [(one, other) for one, other, _ in edges]
    assert (by_layer["block2_conv1"], by_layer["block2_conv2"]) in ends
    assert (by_layer["block3_pool"], by_layer["block4_conv1"]) in ends
    assert (by_layer["upsample_to_image"], by_layer["logits"]) in ends
    levels = {re.sub(r"\W|label", "", rest): one for one, _, rest in edges if rest}
    assert levels == {f"P{n}": by_layer[f"block{n}_pool"] for n in (2, 3, 4, 5)}
    # Every box but the first is reached; only sums have two arrows.
    into = [other for _, other in ends]
    assert set(into) == set(labels) - {by_layer["images"]}
    twice = {labels[node].split("\\n")[0] for node in into if into.count(node) == 2}
    assert twice == {"add_P4", "add_P3", "add_P2"}


def test_colours_tell_what_is_trained():
    model = build()
    trained = {weight.path for weight in model.trainable_weights("block5")}
    text = model_diagrams.describe_diagram(model, "", trained, has_decoder=False)
    colours = dict(re.findall(r'label="(\w+)\\n[^"]*" fillcolor="(.*?)"', text))
    assert colours["block4_conv1"] == model_diagrams._FROZEN
    assert colours["block5_conv1"] == model_diagrams._TRAINED
    assert colours["block5_pool"] == model_diagrams._NO_WEIGHTS
    assert "upsample" not in text


def test_a_file_in_the_folders_place_is_one_line(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(UserError, match=r"--draw_model_to: no folder .*/file: File exists$"):
        model_diagrams.draw_model(build(), "fpn", ["decoder"], str(path))


@pytest.mark.skipif(not shutil.which("dot"), reason="needs graphviz")
def test_both_pictures_are_drawn(tmp_path):
    paths = model_diagrams.draw_model(build(), "fpn", ["decoder"], str(tmp_path / "new"))
    assert [path.name for path in paths] == ["vgg16.png", "vgg16_fpn.png"]
    for path in paths:
        with Image.open(path) as image:
            assert image.height > 1000
            assert len(np.unique(np.asarray(image.convert("L")))) > 2


def test_without_graphviz_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="install graphviz"):
        model_diagrams.draw_model(build(), "fpn", ["decoder"], str(tmp_path))
