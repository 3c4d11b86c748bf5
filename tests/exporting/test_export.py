"""Exports: each format against the trained model, served without petseg, and fuzzed."""

import dataclasses
import json
import resource
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.autograph import autograph_forbidden
from testing.commands import assert_one_line_error, run_module, run_python
from testing.conversion import encoded
from testing.encoders import TINY, draw_weights
from testing.encoders import images as noise
from testing.run_folders import write_run

from petseg.data.label_map import IGNORE, parse_label_map
from petseg.errors import FaultFound, UserError
from petseg.exporting import export_model, formats
from petseg.exporting.choices import FORMAT_NAMES
from petseg.exporting.export_model import ExportOptions
from petseg.exporting.serving import ServingModel
from petseg.inference.eval_step import predict
from petseg.inference.jobs import plan_jobs
from petseg.models.segmentation_model import ModelOptions, build_model
from petseg.run_dir import trained_model
from petseg.training import trainer

SERVE = """
import sys
import tensorflow as tf

served = tf.saved_model.load(sys.argv[1]).signatures
content = [tf.io.read_file(path) for path in sys.argv[2:]]
from_bytes = served["serving_default"](encoded=tf.stack([*content, tf.constant(b"bad")]))
decoded = [tf.io.decode_jpeg(c, channels=3) for c in content]
sized = [tf.image.resize(d, [32, 32], antialias=True) for d in decoded]
images = tf.saturate_cast(tf.round(tf.stack(sized)), tf.uint8)
from_images = served["images"](images=images)["class_ids"]
assert from_images.dtype == tf.uint8 and from_images.shape == [len(content), 32, 32]
tf.debugging.assert_equal(from_bytes["class_ids"][:-1], from_images)
assert (from_bytes["class_ids"][-1].numpy() == 255).all()
assert from_bytes["valid"].numpy().tolist() == [True] * len(content) + [False]
shares = served["probabilities"](images=images)["probabilities"]
tf.debugging.assert_equal(tf.argmax(shares, -1), tf.cast(from_images, tf.int64))
about = served["about"]()
assert about["class_names"].numpy().tolist() == [b"pet", b"background", b"border"]
assert about["label_map"].numpy() == b"pet=1; background=2; border=3"
assert about["max_pixels"].numpy() == 300_000
assert not [name for name in sys.modules if name.startswith("petseg")]
"""


def test_the_command_offers_every_format():
    assert tuple(formats.FORMATS) == FORMAT_NAMES


@pytest.mark.slow
def test_a_saved_model_is_served_by_a_process_with_tensorflow_alone(run_dir, raw_pets, tmp_path):
    output = tmp_path / "models" / "1"
    done = run_module(
        *("-m", "petseg.export", f"--workdir={run_dir}", f"--output_dir={output}"),
        "--max_pixels=300000",
    )
    assert (done.returncode, done.stderr) == (0, "")
    card = json.loads((output / "model_card.json").read_text())
    assert card["max_pixels"] == 300_000
    assert "JPEG, PNG or BMP bytes [batch], of up to max_pixels pixels" in card["takes"]
    paths = sorted((raw_pets / "images").iterdir())[:3]
    served = run_python("-c", SERVE, output, *paths)
    assert served.returncode == 0, served.stderr
    again = run_module("-m", "petseg.export", f"--workdir={run_dir}", f"--output_dir={output}")
    assert_one_line_error(again, 2, "not an empty folder")
    assert [path.name for path in output.parent.iterdir()] == ["1"]


@pytest.mark.parametrize("name", ["keras", "litert", "litert_int8", "onnx"])
def test_a_format_predicts_as_the_trained_model(run_dir, raw_pets, tmp_path, name):
    card = export_model.export_model(str(run_dir), ExportOptions(str(tmp_path / "out"), name))
    assert json.loads((tmp_path / "out" / "model_card.json").read_text()) == card
    assert card["agreement"] >= card["required_agreement"] >= 0.97
    assert card["class_names"] == ["pet", "background", "border"]
    assert card["metrics"]["mean_iou"] > 0 and card["checkpoint_step"] == 5
    assert set(card["files"]) == {formats.FORMATS[name].file}
    # Images that the export did not compare.
    trained = trained_model.load_trained_model(str(run_dir))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    predicted = formats.load(name, tmp_path / "out" / formats.FORMATS[name].file)(images)
    assert (predicted.dtype, predicted.shape) == (np.uint8, (3, 32, 32))
    agreement = (predicted == predict(trained.model, images)).mean()
    assert agreement > (0.9 if name == "litert_int8" else 0.999)


FORMATS = [
    pytest.param(name, marks=[pytest.mark.long] * (name != "saved_model"))
    for name in formats.FORMATS
]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("encoder", [name for name in TINY if not name.startswith("vgg")])
def test_every_encoder_predicts_the_same_in_every_format(encoder, name, tmp_path):
    width, convs = TINY[encoder]
    if encoder == "convnext_tiny":
        width = 8  # a norm over 2 channels is a sign, which int8 turns where it is near 0
    options = ModelOptions(encoder, "fcn8s", width, convs, decoder_channels=4)
    model = build_model(options, num_classes=3, image_size=64, weights="none")
    draw_weights(model.encoder)
    serving = ServingModel(model, parse_label_map("three_class"), 64, keep_aspect=False)
    form, images = formats.FORMATS[name], noise(4, 64)
    path = tmp_path / (form.file or "model")
    form.write(serving, path, images)
    predicted, expected = formats.load(name, path)(images), predict(model, images)
    assert np.unique(expected).size > 1
    assert (predicted == expected).mean() > (0.8 if name == "litert_int8" else 0.999)


@pytest.mark.parametrize("name", ["saved_model", "keras", "litert", "onnx"])
def test_a_model_of_oblong_images_is_exported(tmp_path, name):
    options = ModelOptions(encoder_width=2, encoder_convs=(1, 1, 1, 1, 1))
    model = build_model(options, num_classes=3, image_size=(64, 96), weights="none")
    serving = ServingModel(model, parse_label_map("three_class"), (64, 96), keep_aspect=False)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    path = formats.write(name, serving, tmp_path, images)
    predicted = formats.load(name, path)(images)
    assert (predicted.dtype, predicted.shape) == (np.uint8, (3, 64, 96))
    assert (predicted == predict(model, images)).mean() > 0.999
    if name == "saved_model":
        about = tf.saved_model.load(str(path)).signatures["about"]()
        assert about["image_size"].numpy().tolist() == [64, 96]


@pytest.mark.long
def test_the_normalised_decoder_is_exported_in_every_format(tiny_config, tmp_path):
    tiny_config.model.decoder, tiny_config.model.decoder_channels = "fpn", 8
    tiny_config.train.epochs = 8.0
    trainer.train_and_evaluate(tiny_config, str(tmp_path / "run"))
    for name in formats.FORMATS:
        card = export_model.export_model(
            str(tmp_path / "run"), ExportOptions(str(tmp_path / name), name)
        )
        assert card["agreement"] >= card["required_agreement"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("decoder", ["unet", "segnet", "pspnet", "deeplab_v3_plus"])
def test_every_decoder_gives_the_same_in_every_format(tmp_path, decoder, name):
    options = ModelOptions(
        decoder=decoder, decoder_channels=8, encoder_width=2, encoder_convs=(1, 1, 1, 1, 1)
    )
    model = build_model(options, num_classes=3, image_size=96, weights="none")
    serving = ServingModel(model, parse_label_map("three_class"), 96, keep_aspect=False)
    images = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), np.uint8)
    path = formats.write(name, serving, tmp_path, images)
    agreement = (formats.FORMATS[name].load(path)(images) == predict(model, images)).mean()
    # Random weights: no class is far above the others.
    assert agreement > (0.8 if name == "litert_int8" else 0.9999)


def test_a_model_that_differs_is_refused_and_leaves_nothing(run_dir, tmp_path, monkeypatch):
    def write_other(serving, path, images):
        for variable in serving.model.trainable_variables:
            variable.assign(-variable)
        serving.model.save(str(path))

    form = formats.FORMATS["keras"]
    other = type(form)(**{**vars(form), "write": write_other})
    monkeypatch.setitem(formats.FORMATS, "keras", other)
    expected = trained_model.load_trained_model(str(run_dir))
    # Writing also negated the weights of the model that is compared: use another copy of it.
    monkeypatch.setattr(export_model, "predict", lambda _, images: predict(expected.model, images))
    with pytest.raises(FaultFound, match=r"agrees with the trained one on .*it was not kept"):
        export_model.export_model(str(run_dir), ExportOptions(str(tmp_path / "out"), "keras"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_int8_that_moves_segnets_maxima_says_so(tiny_config, tmp_path, monkeypatch):
    tiny_config.model.decoder, tiny_config.model.decoder_channels = "segnet", 8
    # So small a model agrees well enough: ask for more than there is.
    form = dataclasses.replace(formats.FORMATS["litert_int8"], agreement=1.01)
    monkeypatch.setitem(formats.FORMATS, "litert_int8", form)
    write_run(tmp_path / "run", tiny_config)
    options = ExportOptions(str(tmp_path / "out"), "litert_int8")
    with pytest.raises(FaultFound) as caught:
        export_model.export_model(str(tmp_path / "run"), options)
    assert str(caught.value).endswith(
        "it was not kept; config.model.decoder=segnet puts features where the encoder's maxima "
        "were, and among nearly equal ones int8 finds others; take --format=litert"
    )


def test_an_unknown_format_is_refused(run_dir, tmp_path):
    with pytest.raises(UserError, match=r"'coreml' is not one of saved_model, keras, litert"):
        export_model.export_model(str(run_dir), ExportOptions(str(tmp_path / "out"), "coreml"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_pixels": 0}, "--max_pixels=0 must be at least 1"),
        ({"max_pixels": 9, "format": "onnx"}, "--max_pixels is of --format=saved_model, not onnx"),
    ],
)
def test_a_wrong_limit_is_refused(run_dir, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        export_model.export_model(str(run_dir), ExportOptions(str(tmp_path / "out"), **options))


def test_a_missing_package_is_named(run_dir, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(UserError, match=r"needs ai_edge_litert: pip install ai-edge-litert"):
        export_model.export_model(str(run_dir), ExportOptions(str(tmp_path / "out"), "litert"))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module", autouse=True)
def without_autograph():
    with autograph_forbidden():
        yield


@pytest.fixture(scope="module")
def serve():
    """Serves encoded pictures with a model that keeps their aspect."""
    return server_of(32)


def server_of(size):
    options = ModelOptions(encoder_width=2, encoder_convs=(1, 1, 1, 1, 1))
    model = build_model(options, num_classes=3, image_size=size, weights="none")
    serving = ServingModel(model, parse_label_map("three_class"), size, keep_aspect=True)
    return lambda encoded: {
        name: value.numpy() for name, value in serving.serve_encoded(tf.constant(encoded)).items()
    }


def test_a_picture_past_the_limit_is_skipped_alone():
    options = ModelOptions(encoder_width=2, encoder_convs=(1, 1, 1, 1, 1))
    model = build_model(options, num_classes=3, image_size=32, weights="none")
    serving = ServingModel(model, parse_label_map("three_class"), 32, False, max_pixels=400)
    contents = [encoded(picture(*sides), "PNG") for sides in ((20, 20), (20, 21))]
    found = serving.serve_encoded(tf.constant(contents))
    assert found["valid"].numpy().tolist() == [True, False]
    assert (found["class_ids"][1].numpy() == IGNORE).all()


def picture(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def test_pixels_outside_a_picture_are_marked(serve):
    wide, square = encoded(picture(64, 16), "PNG"), encoded(picture(20, 20), "PNG")
    found = serve([wide, square])["class_ids"]
    assert (found[0, :8] < 3).all() and (found[0, 8:] == IGNORE).all()
    assert (found[1] < 3).all()


def test_pixels_outside_a_picture_are_marked_in_oblong_images():
    serve = server_of((32, 64))
    contents = [encoded(picture(*sides), "PNG") for sides in ((64, 16), (20, 20), (10, 5))]
    wide, square, fitting = serve(contents)["class_ids"]
    assert (wide[:16] < 3).all() and (wide[16:] == IGNORE).all()
    assert (square[:, :32] < 3).all() and (square[:, 32:] == IGNORE).all()
    assert (fitting < 3).all()


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_picture_in_a_request_is_skipped_alone(serve, data):
    good = encoded(picture(24, 18), "PNG")
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP"]))
    bad = bytearray(encoded(picture(24, 18), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    bad = bytes(bad[: data.draw(st.integers(0, len(bad)))])
    batch = [good, good]
    batch.insert(data.draw(st.integers(0, 2)), bad)
    found, alone = serve(batch), serve([good])
    for content, class_ids, valid in zip(batch, found["class_ids"], found["valid"], strict=True):
        if content == good:
            assert valid
            np.testing.assert_array_equal(class_ids, alone["class_ids"][0])
        elif not valid:
            assert (class_ids == IGNORE).all()


def test_a_request_of_damaged_pictures_is_answered(serve):
    found = serve([b"", b"junk"])
    assert found["valid"].tolist() == [False, False] and (found["class_ids"] == IGNORE).all()


@pytest.mark.parametrize("name", ["saved_model", "keras"])
def test_a_full_disk_is_one_line_and_nothing_is_kept(run_dir, tmp_path, name):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    trained_model.load_trained_model(str(run_dir))  # loads what is needed, without the limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        with pytest.raises(FaultFound, match=r"--output_dir: .*; nothing was kept") as raised:
            export_model.export_model(str(run_dir), ExportOptions(str(tmp_path / "out"), name))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_stays_that_folder(run_dir, tmp_path, monkeypatch):
    # Such as a mounted disk, or the current folder.
    (tmp_path / "lost+found").mkdir()
    inode = tmp_path.stat().st_ino
    monkeypatch.chdir(tmp_path)
    card = export_model.export_model(str(run_dir), ExportOptions(".", "keras"))
    assert tmp_path.stat().st_ino == inode
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"lost+found", "model_card.json", *card["files"]}
    assert keras.saving.load_model(next(tmp_path.glob("*.keras"))).input_shape[1] == 32


def test_an_object_store_is_refused_before_a_local_folder_gets_its_name(
    run_dir, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--output_dir=gs://bucket/model must be a local folder"):
        export_model.export_model(str(run_dir), ExportOptions("gs://bucket/model"))
    with pytest.raises(UserError, match=r"--output_dir=gs://bucket/masks must be a local folder"):
        plan_jobs([str(tmp_path)], "gs://bucket/masks", ["class_ids"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a [1]", "a\\b"])
def test_a_path_that_tensorflow_cannot_load_from_is_refused(run_dir, tmp_path, name):
    """Otherwise the export would fail after all its work, and so would every reader."""
    serving = tf.Module()
    serving.weight = tf.Variable(1.0)
    tf.saved_model.save(serving, str(tmp_path / name))
    with pytest.raises(Exception, match="variables"):
        tf.saved_model.load(str(tmp_path / name))
    with pytest.raises(UserError, match="cannot load a SavedModel from a path with"):
        export_model.export_model(str(run_dir), ExportOptions(str(tmp_path / name / "out")))
