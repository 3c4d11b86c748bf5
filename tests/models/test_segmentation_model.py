import keras
import numpy as np
import pytest
import tensorflow as tf

from petseg.errors import UserError
from petseg.models import summary as layer_table
from petseg.models import vgg16_skip
from petseg.models.decoders import heads
from petseg.models.layers import upsampling

TINY = {"backbone_weights": "none", "backbone_width": 2, "backbone_convs": (1, 1, 1, 1, 1)}


def images(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture(scope="module")
def stock() -> keras.Model:
    return keras.applications.VGG16(include_top=False, weights=None, input_shape=(64, 64, 3))


def test_the_backbone_is_kerass_own_vgg16(stock):
    ours = vgg16_skip.build_vgg16(64, "none")
    described = [
        [(layer.name, layer.output.shape, layer.count_params()) for layer in model.layers[1:]]
        for model in (ours, stock)
    ]
    assert described[0] == described[1]
    ours.set_weights(stock.get_weights())
    x = np.random.default_rng(0).normal(0, 60, (2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(x), stock(x), rtol=1e-4, atol=1e-4)


def test_preprocessing_is_kerass_own():
    x = images(2, 8)
    expected = keras.applications.vgg16.preprocess_input(x.astype(np.float32).copy())
    np.testing.assert_allclose(vgg16_skip.preprocess(x), expected, atol=1e-5)


@pytest.mark.parametrize("score_channels", [0, 2, 3, 8])
@pytest.mark.parametrize(
    ("head", "strides"),
    [("fcn32s", [32]), ("fcn16s", [2, 16]), ("fcn8s", [2, 2, 8]), ("five_tap", [2] * 5)],
)
def test_heads_have_the_taps_strides_and_channels_asked_for(head, strides, score_channels):
    model = vgg16_skip.build_model(
        head=head, num_classes=3, image_size=64, score_channels=score_channels, **TINY
    )
    sizes = [tuple(output.shape[1:3]) for output in model.backbone.outputs]
    assert sizes == [(64 >> block, 64 >> block) for block in vgg16_skip.TAPPED_BLOCKS[head]]
    found = [
        layer.strides
        for layer in model.head.layers
        if isinstance(layer, keras.layers.Conv2DTranspose)
    ]
    assert found == [(stride, stride) for stride in strides]
    scores = [layer for layer in model.head.layers if type(layer) is keras.layers.Conv2D]
    assert [layer.kernel_size for layer in scores] == [(1, 1)] * len(strides)
    assert {layer.filters for layer in scores} == {score_channels or 3}
    assert model(images(2, 64)).shape == (2, 64, 64, 3)


def test_the_wide_head_has_the_strides_and_the_width_asked_for():
    model = vgg16_skip.build_model(head="wide", num_classes=3, image_size=64, head_width=24, **TINY)
    layers = model.head.layers
    ups = [layer for layer in layers if isinstance(layer, keras.layers.Conv2DTranspose)]
    assert [(layer.strides[0], layer.filters) for layer in ups] == [
        (2, 96), (2, 48), (2, 24), (4, 3)
    ]  # fmt: skip
    laterals = [layer for layer in layers if layer.name.startswith("lateral")]
    convolutions = [layer for layer in laterals if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [192, 96, 48, 24]
    assert model(images(2, 64)).shape == (2, 64, 64, 3)


def test_the_wide_head_is_what_numpy_makes_of_its_weights():
    shapes = [(2, 2, 4), (4, 4, 3), (8, 8, 3), (16, 16, 2)]
    head = heads.build_wide_head((5, 4, 3, 2), shapes, 2, 16, seed=3)
    rng = np.random.default_rng(0)
    head.set_weights([rng.normal(0, 1, w.shape).astype(np.float32) for w in head.get_weights()])
    pools = [rng.normal(0, 30, (2, *shape)).astype(np.float32) for shape in shapes]

    def convolve(x, name):
        kernel, *bias = head.get_layer(name).get_weights()
        reach = len(kernel) // 2
        padded = np.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)])
        return sum(bias) + sum(
            padded[:, row : row + x.shape[1], column : column + x.shape[2]] @ kernel[row, column]
            for row in range(len(kernel))
            for column in range(len(kernel))
        )

    def normalise(x, name):
        gamma, beta = head.get_layer(f"{name}_norm").get_weights()
        groups = x.reshape(*x.shape[:3], 8, -1)
        centred = groups - groups.mean((1, 2, 4), keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean((1, 2, 4), keepdims=True) + 1e-3)
        return np.maximum(scaled.reshape(x.shape) * gamma + beta, 0)

    def up(x, name, stride):
        (kernel,) = head.get_layer(name).get_weights()
        side = x.shape[1] * stride
        shape = (len(x), side, side, kernel.shape[2])
        return tf.nn.conv2d_transpose(x, kernel, shape, stride).numpy()

    total = 0
    for block, pool in zip((5, 4, 3, 2), pools, strict=True):
        scaled = pool * head.get_layer(f"scale{block}").scale
        lateral = normalise(convolve(scaled, f"lateral{block}"), f"lateral{block}")
        if block == 5:
            total = lateral
        else:
            total = normalise(up(total, f"up_to_pool{block}", 2) + lateral, f"sum{block}")
        for name in (f"context{block}_1", f"context{block}_2"):
            total = normalise(convolve(total, name), name)
    expected = up(convolve(total, "reduce"), "up_to_image", 4)
    np.testing.assert_allclose(head(pools), expected, rtol=1e-3, atol=1e-3)


def test_blocks_one_by_one_give_the_pools_of_the_whole_backbone():
    model = vgg16_skip.build_model(head="five_tap", num_classes=2, image_size=64, **TINY)
    x = images(2, 64)
    whole = dict(zip(model.tapped, model.backbone(x), strict=True))
    for known in ({0: x}, {3: whole[3], 2: whole[2], 1: whole[1]}):
        for block, pool in zip(model.tapped, model.pools(known), strict=True):
            np.testing.assert_allclose(pool, whole[block], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.logits({0: x}), model(x), rtol=1e-5, atol=1e-5)


def test_scores_are_added_from_deep_to_shallow():
    # With one channel and scores that copy their pool, the sum can be made by hand.
    shapes = [(2, 2, 1), (4, 4, 1), (8, 8, 1)]
    head = heads.build_skip_head((5, 4, 3), shapes, 1, 1)
    for block in (5, 4, 3):
        head.get_layer(f"score{block}").set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
        head.get_layer(f"scale{block}").scale = 1.0
    rng = np.random.default_rng(0)
    pools = [rng.normal(size=(1, *shape)).astype(np.float32) for shape in shapes]

    def up(x, stride):
        kernel = upsampling.bilinear_kernel(stride, 1, 1)
        side = x.shape[1] * stride
        return tf.nn.conv2d_transpose(x, kernel, (1, side, side, 1), stride).numpy()

    expected = up(up(up(pools[0], 2) + pools[1], 2) + pools[2], 8)
    np.testing.assert_allclose(head(pools), expected, rtol=1e-5, atol=1e-5)


def test_the_joined_model_gives_the_same_logits():
    model = vgg16_skip.build_model(head="fcn8s", num_classes=3, image_size=64, **TINY)
    x = images(2, 64)
    np.testing.assert_allclose(model.joined()(x), model(x), rtol=1e-6, atol=1e-6)


def test_the_same_seed_gives_the_same_weights():
    models = [
        vgg16_skip.build_model(head="fcn8s", num_classes=2, image_size=32, seed=seed, **TINY)
        for seed in (1, 1, 2)
    ]
    first, same, other = ([v.numpy() for v in model.variables] for model in models)
    assert all((a == b).all() for a, b in zip(first, same, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_replicas_drop_the_channels_that_one_device_drops():
    seed = tf.constant([3, 4], tf.int64)
    whole = vgg16_skip.draw_channel_factors((9, 5), 8, 0.4, seed, 0, 1)
    for replicas in (2, 4, 8):
        parts = [
            vgg16_skip.draw_channel_factors((9, 5), 8 // replicas, 0.4, seed, replica, replicas)
            for replica in range(replicas)
        ]
        for index, expected in enumerate(whole):
            joined = np.concatenate([part[index] for part in parts])
            np.testing.assert_array_equal(joined, expected)


def test_dropout_zeroes_whole_channels_and_keeps_the_mean():
    def draw(step):
        seed = tf.constant([1, step], tf.int64)
        return vgg16_skip.draw_channel_factors((128,), 64, 0.25, seed, 0, 1)[0].numpy()

    factors = draw(2)
    assert factors.shape == (64, 1, 1, 128)
    assert set(np.unique(factors)) == {np.float32(0), np.float32(1 / 0.75)}
    assert 0.97 < factors.mean() < 1.03
    assert (draw(3) != factors).any()


def test_weights_of_the_wrong_shape_are_one_line(tmp_path):
    path = str(tmp_path / "narrow.weights.h5")
    vgg16_skip.build_vgg16(32, "none", width=3).save_weights(path)
    with pytest.raises(UserError, match=r"backbone_weights=.*narrow") as caught:
        vgg16_skip.build_vgg16(32, path, width=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not an h5 file", b"\x89HDF\r\n\x1a\n rest"])
def test_a_file_that_holds_no_weights_is_one_line(tmp_path, content):
    path = tmp_path / "vgg16.h5"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"backbone_weights=.*vgg16\.h5") as caught:
        vgg16_skip.build_vgg16(32, str(path), width=2)
    assert "\n" not in str(caught.value)


def test_an_absent_weights_file_is_named():
    with pytest.raises(UserError, match="no such file"):
        vgg16_skip.build_vgg16(32, "absent.h5", width=2)


def test_a_failed_download_says_how_to_pass_a_path(monkeypatch):
    def fail(*_args, **_kwargs):
        raise Exception("URL fetch failure on https://host/file: None -- no route\nto host")

    monkeypatch.setattr(keras.applications, "VGG16", fail)
    with pytest.raises(UserError, match=r"--config\.model\.backbone_weights=PATH") as caught:
        vgg16_skip.build_vgg16(32, "imagenet")
    assert "\n" not in str(caught.value)


@pytest.mark.real_data
def test_the_real_weights_load_and_see_what_vgg16_sees(real_data):
    path = str(real_data / "vgg16" / "vgg16_imagenet_notop.h5")
    ours = vgg16_skip.build_vgg16(64, path)
    stock = keras.applications.VGG16(include_top=False, weights=path, input_shape=(64, 64, 3))
    for one, other in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_layer_table_counts_what_is_trained():
    model = vgg16_skip.build_model(head="fcn8s", num_classes=3, image_size=32, **TINY)
    vgg16 = vgg16_skip.build_vgg16(32, "none", 2, (1, 1, 1, 1, 1))
    head = sum(int(np.prod(v.shape)) for v in model.head.variables)
    whole = head + sum(int(np.prod(v.shape)) for v in model.backbone.variables)
    frozen = layer_table.describe_model(model, vgg16, {v.path for v in model.head.variables})
    assert f"{whole:,} parameters, {head:,} of them trained" in frozen
    assert all("frozen" in line for line in frozen.split("skip-layer")[1].splitlines()
               if line.strip().startswith("block"))  # fmt: skip
    free = layer_table.describe_model(model, vgg16, {v.path for v in model.variables})
    assert f"{whole:,} parameters, {whole:,} of them trained" in free
    assert "frozen" not in free
