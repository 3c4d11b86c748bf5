import copy
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg import config_json
from petseg.config import Config
from petseg.errors import UserError
from petseg.run_dir import run_folder

CONTENT = json.loads(config_json.to_json(Config()))
LEAVES = [
    (section, name)
    for section, fields in CONTENT.items()
    if isinstance(fields, dict)
    for name in fields
]
FOLDER: dict = {}


def read(run, content) -> Config:
    (run / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return run_folder.read_config(str(run))


def test_settings_that_were_written_are_read_back(tmp_path):
    assert read(tmp_path, CONTENT) == Config()


@pytest.mark.parametrize(
    ("section", "field", "value", "said"),
    [
        ("model", "decoder", "evil", "config.model.decoder='evil' must be one of"),
        ("model", "decoder", None, "config.model.decoder=None must be of type str"),
        ("data", "image_size", 10**9, "config.data.image_size=1000000000 must be at most 16,384"),
        ("data", "image_size", "224", "config.data.image_size='224' must be of type int"),
        ("data", "image_size", 224.0, "config.data.image_size=224.0 must be of type int"),
        (
            "data",
            "image_size",
            [64, 96, 3],
            "config.data.image_size=(64, 96, 3) must be one",
        ),
        ("data", "image_size", [64, None], "config.data.image_size=None must be of type int"),
        ("data", "batch_size", 2**63, "config.data.batch_size=9223372036854775808 must fit"),
        ("data", "batch_size", -5, "config.data.batch_size=-5 must"),
        ("model", "encoder_width", 10**12, "config.model.encoder_width=1000000000000 must"),
        ("model", "encoder_convs", [1, "1"], "config.model.encoder_convs='1' must be of type int"),
        ("train", "learning_rate", math.inf, "config.train.learning_rate=inf must be finite"),
        ("optimizer", "clip_norm", math.nan, "config.optimizer.clip_norm=nan must be finite"),
        ("train", "stages", [{"trainable": "decoder", "epochs": "1"}], "epochs='1' must be of"),
        ("train", "stages", "decoder", "is damaged"),
        ("model", "more", 1, "is damaged"),
    ],
)
def test_a_wrong_setting_of_a_run_is_one_line(tmp_path, section, field, value, said):
    content = copy.deepcopy(CONTENT)
    content[section][field] = value
    with pytest.raises(UserError, match="is damaged: ") as caught:
        read(tmp_path, content)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "config.json"))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"data":' * 100_000, "[1]", "null", "{}"])
def test_settings_that_are_none_are_one_line(tmp_path, text):
    with pytest.raises(UserError, match="is damaged: ") as caught:
        read(tmp_path, text)
    assert str(caught.value).isprintable()


def test_settings_that_are_a_device_are_one_line(tmp_path):
    (tmp_path / "config.json").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="it is a device, not a regular file"):
        run_folder.read_config(str(tmp_path))


@pytest.mark.parametrize("value", ["\x1b", "\x1b=1; b=2", "a=\x1b; b=2", "\x1b*dice", "\x1b\n"])
def test_no_setting_moves_the_terminal(tmp_path, value):
    for section, field in LEAVES:
        content = copy.deepcopy(CONTENT)
        content[section][field] = value
        try:
            read(tmp_path, content)
        except UserError as error:
            assert str(error).isprintable(), (section, field)


@settings(max_examples=200, deadline=None)
@given(
    leaf=st.sampled_from(LEAVES),
    value=st.one_of(
        st.sampled_from([None, True, -1, 0.5, 2**63, 10**12, math.nan, "", "x", "\ud800", "\x1b"]),
        st.integers(),
        st.floats(),
        st.lists(st.integers() | st.none(), max_size=3),
        st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    ),
)
def test_a_drawn_setting_is_one_line_or_is_read_as_it_stands(tmp_path_factory, leaf, value):
    run = FOLDER.setdefault("run", tmp_path_factory.mktemp("run"))
    content = copy.deepcopy(CONTENT)
    content[leaf[0]][leaf[1]] = value
    try:
        config = read(run, content)
    except UserError as error:
        assert str(error).isprintable()
    else:
        assert json.loads(config_json.to_json(config)) == content
