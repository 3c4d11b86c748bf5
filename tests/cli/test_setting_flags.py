import pytest
from absl import flags
from ml_collections import config_flags

from petseg.cli import setting_flags
from petseg.config import Config
from petseg.errors import UserError


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--config.data.batchsize=4", ["config.data.batchsize", "config.data.batch_size"]),
        ("-config.data.batchsize", ["config.data.batchsize", "config.data.batch_size"]),
        ("--noconfig.devices.xlaa", ["config.devices.xlaa", "config.devices.xla"]),
        ("--config.data.dir.x=1", ["config.data.dir.x"]),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_one(flag, expected):
    with pytest.raises(UserError) as raised:
        setting_flags.refuse_unknown(["petseg-train", "--config=x", flag])
    for text in expected:
        assert text in str(raised.value)


def test_settings_and_other_flags_pass():
    setting_flags.refuse_unknown(
        ["--config=a.py", "--config.data.batch_size=4", "--noconfig.devices.xla", "--x=config.y"]
    )
    setting_flags.refuse_unknown(["--config=a.py", "--", "--config.no.setting=1"])


def parse_size(*arguments, default=224):
    """data.image_size of a config whose recipe has a default, after these arguments."""
    config, values = Config(), flags.FlagValues()
    config.data.image_size = default
    line = ["petseg-train", *arguments]
    holder = config_flags.DEFINE_config_dataclass(
        "config", config, flag_values=values, sys_argv=line
    )
    values(line)
    return holder.value.data.image_size


@pytest.mark.parametrize("default", [224, (64, 96)])
@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64", 64),
        ("64x128", (64, 128)),
        ("(64, 128)", (64, 128)),
        ("[64,128]", (64, 128)),
        ("64, 128", (64, 128)),
        ("(64, 64)", 64),
        ("-32", -32),  # which config_rules refuses
    ],
)
def test_a_size_has_one_number_or_two(text, size, default):
    assert parse_size(f"--config.data.image_size={text}", default=default) == size
    assert parse_size("--config.data.image_size", text, default=default) == size
    assert parse_size("--config.data.batch_size=2", default=default) == default


@pytest.mark.parametrize("text", ["", "big", "64.0", "(64", "64x", "64,96,3", "('64', 96)"])
def test_a_size_that_is_none_is_one_line(text):
    with pytest.raises(flags.IllegalFlagValueError, match="height and width, as in ") as raised:
        parse_size(f"--config.data.image_size={text}")
    assert f"--config.data.image_size={text}: " in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_way_to_write_a_setting_belongs_to_the_config():
    line = "--sweep_dir=x --config=a -config b --config.c=1 --config.d 2 --noconfig.e --vary=f=g"
    expected = ["--config=a", "-config", "b", "--config.c=1", "--config.d", "2", "--noconfig.e"]
    assert setting_flags.config_arguments([*line.split(), "h"]) == expected
