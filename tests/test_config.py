import dataclasses
import json
import math

import pytest

from petseg import config_json, config_rules
from petseg.config import Config, ModelConfig, Stage
from petseg.errors import UserError
from petseg.setting import Section
from petseg.training import run_summary


def changed(**values) -> Config:
    """The defaults with some settings changed: train__epochs=8.0."""
    config = Config()
    for name, value in values.items():
        section, _, field = name.partition("__")
        setattr(getattr(config, section), field, value)
    return config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data__batch_size": 0}, "data.batch_size=0 must lie between 1 and 1,000,000"),
        ({"data__batch_size": 8.5}, "data.batch_size=8.5 must be of type int"),
        ({"data__batch_size": True}, "data.batch_size=True must be of type int"),
        ({"data__image_size": 100}, "data.image_size=100 must be a positive multiple of 32"),
        ({"data__image_size": 0}, "data.image_size=0 must be a positive multiple of 32"),
        (
            {"data__image_size": (64, 100)},
            r"image_size=\(64, 100\) must be a positive multiple",
        ),
        ({"data__image_size": [0, 64]}, r"image_size=\(0, 64\) must be a positive multiple of 32"),
        ({"data__image_size": (32, 2**15)}, r"image_size=\(32, 32768\) must be at most 16,384"),
        (
            {"data__image_size": (64,)},
            r"image_size=\(64,\) must be one number, or height and",
        ),
        ({"data__image_size": [64, 64, 3]}, r"image_size=\(64, 64, 3\) must be one number, or"),
        ({"data__image_size": (64, "96")}, "image_size='96' must be of type int"),
        ({"data__image_size": (64, 96.0)}, "image_size=96.0 must be of type int"),
        ({"train__epochs": "8"}, "train.epochs='8' must be of type float"),
        ({"train__epochs": 0.0}, "train.epochs=0.0 must be above 0"),
        ({"model__encoder_convs": (1.5, 1)}, "encoder_convs=1.5 must be of type int"),
        ({"model__encoder_convs": (0, 1)}, r"encoder_convs=\(0, 1\) must lie between 1 and 100"),
        ({"optimizer__drop_at": ("a", "b")}, "drop_at='a' must be of type float"),
        ({"train__profile_steps": [1, 2]}, "profile_steps=.* must be of type tuple"),
        ({"train__stages": [("decoder", 1.0)]}, "train.stages=.*"),
        ({"model__decoder": "wide"}, "'wide' is now called 'fpn'"),
        ({"model__decoder": "five_tap"}, "'five_tap' is now called 'fcn2s'"),
        ({"data__cache_decoded": True}, "cache='none' must be memory or a local folder with"),
        (
            {"data__cache_decoded": True, "data__cache": "gs://bucket/folder"},
            "cache='gs://bucket/folder' must be memory or a local folder with",
        ),
        (
            {"data__cache_decoded": True, "data__cache": "memory", "data__feature_cache_dir": "x"},
            "feature_cache_dir='x' must be '' with config.data.cache_decoded",
        ),
        (
            {"data__masks_of": "species=dog", "train__class_weights": "balanced"},
            "class_weights='balanced' must be none or numbers with config.data.masks_of",
        ),
        ({"data__cache_short_side": 256}, "cache_short_side=256 must be 0 without config.data"),
        ({"model__encoder": "mobilnet_v2"}, "did you mean mobilenet_v2?"),
        ({"model__encoder": "VGG16"}, "did you mean vgg16?"),
        ({"train__trainable": "head"}, "'head' is now called 'decoder'"),
        ({"train__trainable": "block6"}, "one of decoder, block1, .*, block5, pool5, all"),
        ({"train__best_metric": "iou"}, "best_metric='iou' must be one of .*mean_iou.*iou/CLASS"),
        ({"train__best_metric": "mean_iou/pet"}, "best_metric"),
        ({"optimizer__microbatches": 17}, "microbatches=17 must be at most .*batch_size=16"),
        ({"train__seed": -1}, "train.seed=-1 must lie between 0 and 2,147,483,647"),
        ({"train__seed": 2**40}, "train.seed=1099511627776 must lie between"),
        ({"train__epochs": math.inf}, "train.epochs=inf must be finite"),
        ({"train__learning_rate": math.nan}, "train.learning_rate=nan must be"),
        ({"data__cache": ""}, "data.cache='' must be none, memory or a folder"),
        ({"data__feature_cache_dir": "x", "train__trainable": "block1"}, "a stage after block1"),
    ],
)
def test_a_wrong_setting_is_one_line(change, message):
    with pytest.raises(UserError, match=message) as caught:
        config_rules.validate(changed(**change))
    assert "\n" not in str(caught.value)


def test_a_whole_number_is_fine_where_a_fraction_may_be():
    config_rules.validate(changed(train__epochs=8, optimizer__drop_at=(0.5, 0.75)))


@pytest.mark.parametrize(
    ("given", "kept", "shown"),
    [
        (64, 64, 64),
        ((64, 96), (64, 96), "64x96"),
        ([96, 64], (96, 64), "96x64"),
        ((96, 96), 96, 96),  # so that a square has one form
    ],
)
def test_a_size_is_one_number_or_height_and_width(given, kept, shown):
    config = changed(data__image_size=given)
    config_rules.validate(config)
    assert config.data.image_size == kept
    assert run_summary.hparams(config)["data.image_size"] == shown
    text = config_json.to_json(config)
    assert config_json.from_json(text) == config
    expected = kept if isinstance(kept, int) else list(kept)
    assert json.loads(text)["data"]["image_size"] == expected


def test_settings_of_one_stage_have_no_effect_beside_a_list_of_stages():
    stages = [Stage("decoder", 1.0, 1e-3), Stage("block5", 1.0, 1e-4)]
    config_rules.validate(changed(train__stages=stages))
    with pytest.raises(UserError, match=r"epochs=9.0 has no effect .*stages\[0\]\.epochs"):
        config_rules.validate(changed(train__stages=stages, train__epochs=9.0))
    with pytest.raises(UserError, match=r"train\.stages\[1\]\.epochs=0.0 must be above 0"):
        stages[1].epochs = 0.0
        config_rules.validate(changed(train__stages=stages))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("model.head", "model.decoder"),
        ("model.backbone_weights", "model.encoder_weights"),
        ("model.backbone_width", "model.encoder_width"),
        ("model.score_channels", "model.decoder_channels"),
        ("model.head_width", "model.decoder_channels"),
        ("train.trained", "train.trainable"),
        ("train.then", "train.stages"),
        ("train.doctor_seconds", "train.bottleneck_seconds"),
        ("optimizer.backbone_rate_factor", "optimizer.encoder_rate_factor"),
    ],
)
def test_an_old_name_is_refused_with_its_new_one(old, new):
    assert f"config.{old} is now config.{new}" in config_rules.explain_unknown_setting(
        f"config.{old}"
    )
    section, _, field = old.partition(".")
    with pytest.raises(AttributeError, match=f"it is now {new}"):
        setattr(getattr(Config(), section), field, 1)
    # Every new name is a setting.
    assert config_rules.is_setting(f"config.{new}")


def test_an_unknown_name_is_refused_with_the_nearest():
    explain = config_rules.explain_unknown_setting
    assert "did you mean config.data.batch_size" in explain("config.data.batchsize")
    assert "did you mean config.train.seed" in explain("config.seed")
    with pytest.raises(AttributeError, match="ModelConfig has no setting 'decodr'"):
        ModelConfig().decodr = "fpn"


def test_every_setting_says_whether_a_resumed_run_may_change_it():
    """What a run's past depends on may not; what it does not may."""
    fixed = {name for name in names() if not config_rules.may_change(name, "a", "b")}
    for name in ("data.image_size", "data.batch_size", "model.decoder", "augment.flip"):
        assert f"config.{name}" in fixed
    for name in ("train.seed", "optimizer.name", "optimizer.average_decay", "data.label_map"):
        assert f"config.{name}" in fixed
    for name in ("data.dir", "train.epochs", "train.loss", "devices.strategy", "optimizer.power"):
        assert f"config.{name}" not in fixed
    assert config_rules.may_change("config.data.feature_cache_dir", "here", "there")
    assert not config_rules.may_change("config.data.feature_cache_dir", "", "there")


def names() -> list[str]:
    found = []
    for section in dataclasses.fields(Config()):
        value = getattr(Config(), section.name)
        if isinstance(value, Section):
            found += [f"config.{section.name}.{field.name}" for field in dataclasses.fields(value)]
    return found


def test_paths_are_made_absolute_and_words_are_not():
    config = changed(data__dir="records", data__cache="memory", model__encoder_weights="none")
    spelled = config_json.spell_out(config)
    assert spelled.data.dir.startswith("/") and spelled.data.dir.endswith("/records")
    assert (spelled.data.cache, spelled.model.encoder_weights) == ("memory", "none")
    assert config.data.dir == "records"  # the given one stays
    remote = config_json.spell_out(changed(data__dir="gs://bucket/records"))
    assert remote.data.dir == "gs://bucket/records"


@pytest.mark.parametrize(("presence", "loss", "message"), [
    (False, "dice+0.5*presence", "set config.model.presence=True"),
    (True, "dice", r"as in dice\+0\.5\*presence"),
    (True, "presence", "have a term for the pixels"),
])  # fmt: skip
def test_a_presence_head_and_its_loss_need_each_other(presence, loss, message):
    config = Config()
    config.model.presence, config.train.loss = presence, loss
    with pytest.raises(UserError, match=message):
        config_rules.validate(config)
    config.model.presence, config.train.loss = True, "dice+0.5*presence"
    config_rules.validate(config)
