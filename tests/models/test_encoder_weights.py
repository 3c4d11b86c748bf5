"""Weights files: which load, and why others do not."""

import pickle
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format
from testing.encoders import build_tiny, images, keras_network, key_of, outputs_of

from petseg.errors import UserError
from petseg.models.encoders import vgg
from petseg.models.encoders.base import EncoderOptions
from petseg.models.encoders.mobilenet_v2 import APPLICATION
from petseg.registry import ENCODERS


def save_weights(network: keras.Model, path) -> None:
    """Writes Keras's present format, or the older one of the files that it downloads."""
    if path.name.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, network)


def vgg16(**options) -> keras.Model:
    """A tiny VGG16, to whose file others are compared: nothing is built faster."""
    inputs = x = keras.Input((32, 32, 3))
    for number, width in enumerate((2, 4, 8, 16, 16), 1):
        x = keras.layers.Conv2D(width, 3, padding="same", name=f"block{number}_conv1")(x)
    if options.get("include_top"):
        x = keras.layers.Dense(7)(keras.layers.Flatten()(x))
    return keras.Model(inputs, x)


def refusal_of(path) -> str:
    with pytest.raises(UserError, match=r"config\.model\.encoder_weights=") as caught:
        build_tiny("vgg16", 32, weights=str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


# Dropout and preprocessing, which Keras's own networks have, change nothing.
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet50", "x.h5"),
        ("efficientnet_v2_b0", "x.weights.h5"),
        ("convnext_tiny", "x.weights.h5"),
    ],
)
def test_a_file_that_keras_wrote_loads(tmp_path, name, file):
    network = keras_network(name)
    rng = np.random.default_rng(0)
    for variable in network.weights:
        variable.assign(rng.uniform(0.5, 1, variable.shape))
    save_weights(network, tmp_path / file)
    encoder = build_tiny(name, weights=str(tmp_path / file))
    values = {key_of(variable): variable.numpy() for variable in network.weights}
    for variable in encoder.variables:
        expected = values[key_of(variable)].reshape(variable.shape)
        np.testing.assert_array_equal(variable, expected, err_msg=variable.path)


def test_the_plain_encoder_is_what_its_docstring_says_and_loads_its_own_weights(tmp_path):
    inputs = x = keras.Input((64, 64, 3))
    blocks = []
    for channels in (4, 8, 16, 32, 64):
        x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        x = keras.layers.GroupNormalization(min(channels, 8))(x)
        x = keras.layers.Activation("relu")(x)
        blocks.append(x)
        x = keras.layers.MaxPooling2D(2)(x)
    network = keras.Model(inputs, [*blocks, x])
    path = str(tmp_path / "x.weights.h5")
    network.save_weights(path)
    pixels = images(2, 64)
    outputs = outputs_of(build_tiny("plain", weights=path), pixels)
    *expected, last = network(pixels / np.float32(127.5) - 1)
    for number, block in enumerate(expected, 1):
        np.testing.assert_allclose(outputs[f"block{number}"], block, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs["pool5"], last, rtol=1e-4, atol=1e-4)


def test_weights_of_another_network_are_named(tmp_path):
    path = tmp_path / "x.weights.h5"
    network = keras_network("convnext_tiny")
    save_weights(network, path)
    reason = refusal_of(path)
    assert f"does not fit vgg16: it holds {len(network.weights)} arrays, the network 10" in reason
    assert "keras.applications.VGG16 without its top" in reason
    save_weights(keras_network("mobilenet_v2"), path)
    assert "seems to hold mobilenet_v2 (config.model.encoder=mobilenet_v2)" in refusal_of(path)


@pytest.mark.parametrize(
    ("width", "reason"),
    [
        (4, "its first convolution has 4 channels, not 2: set config.model.encoder_width by it"),
        (3, "it is of another width: it has (3, 3, 24, 24) in place of (3, 3, 16, 16)"),
    ],
)
def test_weights_of_another_width_are_named(tmp_path, width, reason):
    path = tmp_path / "x.weights.h5"
    other = vgg.build_keras_model(
        vgg.VARIANTS["vgg16"], EncoderOptions(32, width=width, convs=(1,) * 5)
    )
    save_weights(other, path)
    assert reason in refusal_of(path)


def test_weights_of_a_deeper_network_are_not_called_a_top(tmp_path):
    path = tmp_path / "x.weights.h5"
    deeper = EncoderOptions(32, width=2, convs=(1, 1, 1, 1, 2))
    save_weights(vgg.build_keras_model(vgg.VARIANTS["vgg16"], deeper), path)
    assert "it holds 12 arrays, the network 10: another network, or another" in refusal_of(path)
    of_vgg19 = EncoderOptions(32, width=2)
    save_weights(vgg.build_keras_model(vgg.VARIANTS["vgg19"], of_vgg19), path)
    assert "it seems to hold vgg19 (config.model.encoder=vgg19)" in refusal_of(path)


@pytest.mark.parametrize("file", ["x.weights.h5", "x.h5"])
def test_a_file_with_its_top_is_named(tmp_path, file):
    save_weights(vgg16(include_top=True), tmp_path / file)
    reason = refusal_of(tmp_path / file)
    assert "it holds more, such as (16384, 7): the network with its top" in reason


@pytest.mark.parametrize(("wrote", "named"), [("x.weights.h5", "y.h5"), ("x.h5", "y.weights.h5")])
def test_a_name_by_which_keras_would_read_another_format_is_refused(tmp_path, wrote, named):
    save_weights(vgg16(), tmp_path / wrote)
    build_tiny("vgg16", 32, weights=str(tmp_path / wrote))
    (tmp_path / wrote).rename(tmp_path / named)
    expected = ".weights.h5" if wrote == "x.weights.h5" else ".h5"
    assert f"its name must end in {expected}; rename it" in refusal_of(tmp_path / named)


def write_zip(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")


def test_what_is_no_hdf5_file_is_named(tmp_path):
    write_zip(tmp_path / "new.pth", "archive/data.pkl", "archive/data/0")
    assert "is a PyTorch file, which Keras cannot read; what fits" in refusal_of(
        tmp_path / "new.pth"
    )
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"conv1.weight": 1}))
    assert "is a PyTorch or pickle file" in refusal_of(tmp_path / "old.pth")
    write_zip(tmp_path / "x.keras", "config.json", "model.weights.h5")
    assert "is a whole Keras model, not its weights alone" in refusal_of(tmp_path / "x.keras")
    write_zip(tmp_path / "x.zip", "readme.txt")
    assert "is a zip file" in refusal_of(tmp_path / "x.zip")
    (tmp_path / "x.h5").write_bytes(b"")
    assert "is an empty file; what fits" in refusal_of(tmp_path / "x.h5")
    (tmp_path / "x.h5").write_bytes(b"some text\n")
    assert "is not a Keras weights file, or damaged" in refusal_of(tmp_path / "x.h5")
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "x.h5").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert "is a safetensors file, which Keras cannot read" in refusal_of(tmp_path / "x.h5")
    reason = refusal_of(tmp_path / "absent.h5")
    assert "no such file, nor imagenet or none; what fits is a file that save_weights" in reason
    assert "is a folder; what fits" in refusal_of(tmp_path)


@pytest.mark.parametrize("file", ["x.weights.h5", "x.h5"])
def test_a_file_that_was_cut_is_refused_wherever_it_was_cut(tmp_path, file):
    save_weights(vgg16(), tmp_path / file)
    content = (tmp_path / file).read_bytes()
    for share in (0.001, 0.3, 0.9):
        (tmp_path / file).write_bytes(content[: int(share * len(content))])
        refusal_of(tmp_path / file)


def test_a_failed_download_says_how_to_pass_a_path(monkeypatch):
    def fail(*_args, **_kwargs):
        raise Exception("URL fetch failure on https://host/file: None -- no route\nto host")

    monkeypatch.setattr(keras.applications, "ResNet50", fail)
    with pytest.raises(UserError, match=r"ResNet50 'notop'.*--config\.model") as caught:
        build_tiny("resnet50", 32, weights="imagenet")
    assert "\n" not in str(caught.value)


def test_imagenets_weights_fit_only_the_published_network(monkeypatch):
    def download(include_top, weights):
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(64)])

    monkeypatch.setattr(keras.applications, "ResNet50", download)
    with pytest.raises(UserError, match="fits only the published ResNet50: leave out"):
        build_tiny("resnet50", 32, weights="imagenet")


@pytest.mark.real_data
def test_the_real_weights_give_what_keras_gives(real_data):
    path = str(real_data / "mobilenet_v2" / "mobilenet_v2_notop.weights.h5")
    encoder = ENCODERS.get("mobilenet_v2").build(EncoderOptions(64, path))
    network = keras.applications.MobileNetV2(
        include_top=False, weights=path, input_shape=(64, 64, 3)
    )
    x = images(2, 64)
    ends = [network.get_layer("block_6_expand_relu"), network.get_layer("block_16_project")]
    expected = keras.Model(network.input, [end.output for end in ends])(
        keras.applications.mobilenet_v2.preprocess_input(x.astype(np.float32)), training=False
    )
    outputs = outputs_of(encoder, x)
    for level, whole in zip(("P3", "P5"), expected, strict=True):
        np.testing.assert_allclose(
            outputs[encoder.levels[level].stage], whole, rtol=1e-3, atol=1e-3
        )
    alone = APPLICATION.build_model(EncoderOptions(64, path, output_stride=16))
    assert alone.count_params() == network.count_params()


@pytest.mark.real_data
def test_the_scales_of_the_levels_are_those_of_natural_images(real_data):
    path = str(real_data / "mobilenet_v2" / "mobilenet_v2_notop.weights.h5")
    encoder = ENCODERS.get("mobilenet_v2").build(EncoderOptions(128, path))
    files = sorted((real_data / "oxford_pets_128" / "images").glob("*.jpg"))
    pets = [keras.utils.load_img(file) for file in files[:: len(files) // 16][:16]]
    outputs = outputs_of(encoder, np.stack([np.asarray(pet) for pet in pets]))
    for level in encoder.levels.values():
        size = np.sqrt(np.mean(np.square(outputs[level.stage])))
        assert level.scale == pytest.approx(size, rel=0.1)
