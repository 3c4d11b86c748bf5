"""Wrong flags in one line that names the right culprit, in this process."""

import pytest
from absl import flags
from ml_collections import config_flags

from petseg.cli import flag_parsing
from petseg.config import Config
from petseg.errors import UserError


def parse_failing(arguments, capsys, monkeypatch, *, has_config=True):
    """The line that a command with --config and a required --workdir ends with."""
    values = flags.FlagValues()
    line = ["petseg-x", *arguments]
    flags.DEFINE_string("workdir", None, "Run folder.", flag_values=values, required=True)
    flags.DEFINE_bool("quiet", False, "", flag_values=values)
    if has_config:
        config_flags.DEFINE_config_file("config", None, "A recipe.", values, sys_argv=line)
        flags.mark_flag_as_required("config", values)
    monkeypatch.setattr(flags, "FLAGS", values)
    with pytest.raises(SystemExit) as ended:
        flag_parsing.parse(line)
    assert ended.value.code == UserError.exit_status
    out, err = capsys.readouterr()
    assert not out
    (told,) = err.splitlines()
    assert told.startswith("error: ")
    return told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--config.data.dir=OUT", "--workdir=x"],
            ["--config is missing: --config.data.dir=OUT changes", "oxford_pets, "],
        ),
        (["--workdir=x"], ["--config is missing: A recipe (see --help)"]),
        (["--config=oxford_pets"], ["--workdir is missing: Run folder (see --help)"]),
        (
            ["--config.data.dir=OUT", "--config=oxford_pets", "--workdir=x"],
            ["--config=oxford_pets must come before --config.data.dir=OUT"],
        ),
        (["--workdir=x", "--config"], ["--config is the last word"]),
        (["--config=oxford_pet"], ["oxford_pet is no file", "did you mean oxford_pets?"]),
        (["--config=unet"], ["unet is no file and no recipe; did you mean unet_from_scratch? "]),
        (["--config=configs/oxfrd_pets.py"], ["is no file", "did you mean oxford_pets?"]),
        (["--config=."], ["--config=. is a folder"]),
        (
            ["--config=oxford_pets", "--config.train.learn_rate=1"],
            ["config.train.learn_rate is no setting; did you mean config.train.learning_rate?"],
        ),
        (
            ["--config=oxford_pets", "--config.batchsize=1"],
            ["config.batchsize is no setting; did you mean config.data.batch_size?"],
        ),
        (
            ["--config=oxford_pets", "--config.optimizer.epochs=1"],
            ["config.optimizer.epochs is no setting; did you mean config.train.epochs?"],
        ),
        (["--config=oxford_pets", "--config.x.y=1"], ["--help_config lists all settings"]),
    ],
)
def test_the_culprit_is_named(arguments, expected, capsys, monkeypatch):
    told = parse_failing(arguments, capsys, monkeypatch)
    for text in expected:
        assert text in told


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[tool]\nversion = 1.2.3.x\n", "is not Python, line 2: SyntaxError"),
        ("a = 1\n", "is no config file: it has no function get_config()"),
        ("\nimport absent_module\n", "cannot be loaded, line 2: ModuleNotFoundError"),
        ("def get_config():\n    return {}[3]\n", "cannot be loaded, line 2: KeyError: 3"),
        ("def get_config():\n    raise OSError('gone')\n", "line 2: OSError: gone"),
        ("def get_config(one):\n    return one\n", "TypeError"),
        ("def get_config():\n    return None\n", "does not return a petseg Config"),
        (
            "import petseg\ndef get_config():\n    c = petseg.Config()\n"
            "    c.train.epoch = 1\n    return c\n",
            "line 4: AttributeError: TrainConfig has no setting 'epoch'; did you mean epochs?",
        ),
        (
            "import petseg\ndef get_config():\n    c = petseg.Config()\n"
            "    c.train.lr = 1\n    return c\n",
            "TrainConfig has no setting 'lr'; it has trainable, epochs, learning_rate, ",
        ),
        ("\x00", "is not Python"),
    ],
)
def test_a_file_that_is_no_config_is_named_with_its_line(
    content, expected, tmp_path, capsys, monkeypatch
):
    path = tmp_path / "mine.txt"
    path.write_text(content)
    told = parse_failing([f"--config={path}", "--workdir=x"], capsys, monkeypatch)
    assert told.startswith(f"error: --config={path} ") or told.startswith(
        f"error: --config={path}:"
    )
    assert expected in told


def test_commands_without_a_config_say_so(capsys, monkeypatch):
    told = parse_failing(["--config.data.dir=x"], capsys, monkeypatch, has_config=False)
    assert told == ("error: --config.data.dir=x: this command takes no --config and no settings")


def test_the_parsed_config_is_the_recipes_with_its_changes(monkeypatch):
    values = flags.FlagValues()
    line = ["petseg-x", "--config", "oxford_pets", "--config.data.batch_size=3", "--", "--config"]
    flags.DEFINE_bool("quiet", False, "", flag_values=values)
    config_flags.DEFINE_config_file("config", None, "A recipe.", values, sys_argv=line)
    monkeypatch.setattr(flags, "FLAGS", values)
    assert flag_parsing.parse(line) == ["petseg-x", "--config"]
    assert isinstance(values.config, Config)
    assert values.config.data.batch_size == 3
