import keras
import numpy as np
import pytest
from testing.encoders import images

from petseg.errors import UserError
from petseg.models.encoders import vgg
from petseg.models.encoders.base import EncoderOptions

NARROW = EncoderOptions(32, width=2)
VGG16 = vgg.VARIANTS["vgg16"]


def build_vgg16(options: EncoderOptions):
    return vgg.build_vgg(VGG16, options)


@pytest.fixture(scope="module", params=["vgg16", "vgg19"])
def variant(request) -> vgg.Variant:
    return vgg.VARIANTS[request.param]


@pytest.fixture(scope="module")
def published(variant) -> keras.Model:
    build = {"vgg16": keras.applications.VGG16, "vgg19": keras.applications.VGG19}[variant.name]
    return build(include_top=False, weights=None, input_shape=(64, 64, 3))


def test_it_is_kerass_own(variant, published):
    ours = vgg.build_keras_model(variant, EncoderOptions(64))
    described = [
        [(layer.name, layer.output.shape, layer.count_params()) for layer in model.layers[1:]]
        for model in (ours, published)
    ]
    assert described[0] == described[1]
    ours.set_weights(published.get_weights())
    x = np.random.default_rng(0).normal(0, 60, (2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(x), published(x), rtol=1e-4, atol=1e-4)


def test_its_stages_one_after_the_other_are_kerass_on_pixels(variant, published):
    encoder = vgg.build_vgg(variant, EncoderOptions(64))
    for variable, value in zip(encoder.variables, published.get_weights(), strict=True):
        variable.assign(value)
    x = images(2, 64)
    output = x
    for stage in encoder.stages.values():
        output = stage(output)
    pixels = keras.applications.vgg16.preprocess_input(x.astype(np.float32).copy())
    np.testing.assert_allclose(output, published(pixels), rtol=1e-4, atol=1e-4)


def test_levels_describe_the_outputs_of_their_stages():
    encoder = build_vgg16(EncoderOptions(64, width=4, convs=(1, 2, 1, 1, 1)))
    assert tuple(encoder.stages) == vgg.VGG16.stages
    assert list(encoder.levels) == [f"{kind}{n}" for kind in "CP" for n in range(1, 6)]
    for name, level in encoder.levels.items():
        number = int(name[1])
        assert level.stride == (2**number if name[0] == "P" else 2 ** (number - 1))
        side = 64 // level.stride
        output = encoder.stages[level.stage].output
        assert output.shape == (None, side, side, level.channels)
    output = images(2, 64)
    for stage in encoder.stages.values():
        output = stage(output).numpy()
        assert output.min() >= 0


def test_every_variable_belongs_to_the_stage_that_computes_with_it():
    encoder = build_vgg16(NARROW)
    for name, stage in encoder.stages.items():
        for variable in stage.variables:
            assert encoder.stage_of(variable) == name
            assert variable.path.startswith(name)
        assert name.startswith("block") or not stage.variables
    with pytest.raises(KeyError):
        encoder.stage_of(build_vgg16(NARROW).variables[0])


def test_convolutions_are_given_for_every_block():
    with pytest.raises(UserError, match=r"encoder_convs=\(1, 1\) must hold 5 numbers"):
        build_vgg16(EncoderOptions(32, convs=(1, 1)))


def test_weights_of_the_wrong_shape_are_one_line(tmp_path):
    path = str(tmp_path / "narrow.weights.h5")
    vgg.build_keras_model(VGG16, EncoderOptions(32, width=3)).save_weights(path)
    with pytest.raises(UserError, match=r"encoder_weights=.*narrow") as caught:
        build_vgg16(EncoderOptions(32, path, width=2))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not an h5 file", b"\x89HDF\r\n\x1a\n rest"])
def test_a_file_that_holds_no_weights_is_one_line(tmp_path, content):
    path = tmp_path / "vgg16.h5"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"encoder_weights=.*vgg16\.h5") as caught:
        build_vgg16(EncoderOptions(32, str(path), width=2))
    assert "\n" not in str(caught.value)


def test_an_absent_weights_file_is_named():
    with pytest.raises(UserError, match="no such file"):
        build_vgg16(EncoderOptions(32, "absent.h5", width=2))


def test_a_failed_download_says_how_to_pass_a_path(monkeypatch):
    def fail(*_args, **_kwargs):
        raise Exception("URL fetch failure on https://host/file: None -- no route\nto host")

    monkeypatch.setattr(keras.applications, "VGG16", fail)
    with pytest.raises(UserError, match=r"--config\.model\.encoder_weights=PATH") as caught:
        build_vgg16(EncoderOptions(32, "imagenet"))
    assert "\n" not in str(caught.value)


@pytest.mark.real_data
def test_the_real_weights_load_and_give_what_vgg16_gives(real_data):
    path = str(real_data / "vgg16" / "vgg16_imagenet_notop.h5")
    ours = vgg.build_keras_model(VGG16, EncoderOptions(64, path))
    published = keras.applications.VGG16(include_top=False, weights=path, input_shape=(64, 64, 3))
    for one, other in zip(ours.get_weights(), published.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
