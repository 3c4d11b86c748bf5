import dataclasses

import pytest
from testing.weights import assert_identical_weights, checkpoint_weights

from petseg.data import manifest
from petseg.data.manifest import Shard, Split
from petseg.training import bottleneck, trainer
from petseg.training.bottleneck import Figures

ORIGINALS = Figures(
    read=20_000,
    decode=1_040,
    input=900,
    model=4_000,
    cores=2,
    has_gpu=True,
    is_bfloat16_faster=False,
    image_size=224,
    short_side=370,
    needed_short_side=224,
    decoded_bytes=0,
    free_bytes=8 << 30,
)


def test_slow_input_is_named_with_remedies_in_order_of_their_gain():
    found = bottleneck.diagnose(ORIGINALS)
    assert found.verdict == "input bound"
    assert "900 images/s on 2 cores" in found.summary and "4,000" in found.summary
    smaller, cores = found.advice
    # (256/370)^2 = 0.48 of the decoding stays, which is three quarters of the work.
    assert smaller == "convert with --short_side=256 for about 1.6x"
    assert cores.startswith("or 9 cores")


@pytest.mark.parametrize(
    ("size", "stored", "needed"),
    [
        (224, (375, 500), 224),
        (224, (500, 375), 224),
        ((224, 320), (375, 500), 240),  # 240 x 320 pixels cover it
        ((224, 320), (500, 375), 320),
        ((320, 224), (500, 375), 240),
        ((96, 64), (375, 500), 96),
    ],
)
def test_stored_images_need_the_pixels_of_the_input(size, stored, needed):
    shard = Shard("x", 7, 1, "0" * 64, "0" * 64, {}, 7 * stored[0], 7 * stored[1])
    assert bottleneck._needed_short_side(size, Split((shard,))) == needed


def test_slow_reading_comes_before_smaller_images():
    found = bottleneck.diagnose(dataclasses.replace(ORIGINALS, read=1_000))
    assert "config.data.cache" in found.advice[0] and found.advice[0].endswith("4.4x")
    assert "--short_side=256" in found.advice[1]


def test_decoding_once_is_advised_where_it_was_not_done():
    encoded = dataclasses.replace(ORIGINALS, decoded_bytes=3 << 30)
    once, smaller, _ = bottleneck.diagnose(encoded).advice
    # 0.65 of what decoding takes is saved: of 1/900 s an image, 0.65/1,040.
    assert once == (
        "decode once (config.data.cache_decoded=True, config.data.cache=memory: about 3,072 MiB) "
        "for about 2.3x"
    )
    assert "--short_side" in smaller
    on_disk = bottleneck.diagnose(dataclasses.replace(encoded, free_bytes=3 << 30)).advice[0]
    assert "config.data.cache=a folder on a local disk" in on_disk


def test_no_remedy_promises_more_than_the_model_can_take():
    found = bottleneck.diagnose(dataclasses.replace(ORIGINALS, model=1_200, short_side=3000))
    assert found.advice[0] == "convert with --short_side=256 for about 1.3x"


def test_small_images_need_no_conversion():
    found = bottleneck.diagnose(dataclasses.replace(ORIGINALS, short_side=256))
    assert [line[:10] for line in found.advice] == ["or 9 cores"]


def test_a_slow_model_is_not_blamed_on_the_input():
    found = bottleneck.diagnose(dataclasses.replace(ORIGINALS, model=10, has_gpu=False))
    assert found.verdict == "model bound"
    (line,) = found.advice
    assert "90.0 times" in line and "a GPU" in line


def test_a_slow_model_is_told_of_a_faster_precision_first():
    slow = dataclasses.replace(ORIGINALS, model=10, is_bfloat16_faster=True)
    first, second = bottleneck.diagnose(slow).advice
    assert "config.devices.precision=mixed_bfloat16" in first and "GPU" in first
    assert "more GPUs" in second
    on_cpu = bottleneck.diagnose(dataclasses.replace(slow, has_gpu=False)).advice
    assert "this CPU" in on_cpu[0]


@pytest.mark.parametrize("model", [800, 900, 1_100])
def test_rates_that_are_near_are_balanced(model):
    assert bottleneck.diagnose(dataclasses.replace(ORIGINALS, model=model)).verdict == "balanced"


@pytest.mark.slow
def test_a_run_prints_what_limits_it_and_ends_with_the_weights_of_one_that_does_not(
    finished_run, tiny_config, tmp_path, capfd
):
    """Examining a model leaves no trace in its variables."""
    tiny_config.train.bottleneck_seconds = 0.05
    trainer.train_and_evaluate(tiny_config, str(tmp_path / "run"))
    straight, config = finished_run
    assert config.train.bottleneck_seconds == 0
    assert_identical_weights(
        checkpoint_weights(tmp_path / "run", 10), checkpoint_weights(straight, 10)
    )
    said = capfd.readouterr().err
    assert "the model takes" in said and "images/s on" in said
    events = b"".join(path.read_bytes() for path in (tmp_path / "run/train").iterdir())
    assert b"input/bottleneck" in events and b"the model takes" in events
    figures, found = bottleneck.examine(tiny_config, 0.05)
    assert any(verdict in said for verdict in ("input bound", "model bound", "balanced"))
    assert found == bottleneck.diagnose(figures)
    pixels = manifest.read_manifest(tiny_config.data.dir).splits["train"].pixels_per_label
    assert figures.decoded_bytes == pytest.approx(4 * sum(pixels.values()), rel=0.1)
    tiny_config.data.cache, tiny_config.data.cache_decoded = "memory", True
    assert bottleneck.examine(tiny_config, 0.05)[0].decoded_bytes == 0
    assert all(rate > 0 for rate in (figures.read, figures.decode, figures.input, figures.model))
    assert figures.short_side > 32 and figures.image_size == 32
