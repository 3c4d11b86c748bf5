import pytest

from petseg.cli import setting_flags
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


def test_every_way_to_write_a_setting_belongs_to_the_config():
    line = "--sweep_dir=x --config=a -config b --config.c=1 --config.d 2 --noconfig.e --vary=f=g"
    expected = ["--config=a", "-config", "b", "--config.c=1", "--config.d", "2", "--noconfig.e"]
    assert setting_flags.config_arguments([*line.split(), "h"]) == expected
