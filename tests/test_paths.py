import dataclasses
from pathlib import Path

import pytest

import petseg
from petseg import config, paths, recipes
from petseg.config import Config
from petseg.setting import Section, rules_of

PATH_SETTINGS = {
    ("data", "dir"),
    ("data", "cache"),
    ("data", "feature_cache_dir"),
    ("model", "encoder_weights"),
    ("model", "start_from"),
    ("train", "teacher"),
}
# One folder with all that TensorFlow takes for a pattern.
ODD_NAME = "r [lr 0.1] *x? {a} \\d"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The user's folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_every_path_setting_expands_the_user_s_folder(home):
    made = Config()
    found = set()
    for section in dataclasses.fields(made):
        of_section = getattr(made, section.name)
        if isinstance(of_section, Section):
            for field in dataclasses.fields(of_section):
                if rules_of(field).is_path:
                    setattr(of_section, field.name, "~/x")
                    assert getattr(of_section, field.name) == f"{home}/x"
                    found.add((section.name, field.name))
    assert found == PATH_SETTINGS


def test_a_setting_that_is_no_path_keeps_its_tilde():
    assert config.TrainConfig(loss="~/x").loss == "~/x"


def test_the_name_of_a_recipe_expands_the_user_s_folder(home):
    (home / "mine.py").touch()
    assert recipes.find("~/mine.py:argument") == f"{home}/mine.py:argument"


@pytest.mark.slow
def test_the_library_expands_the_user_s_folder(home, raw_pets, tiny_config):
    (home / "raw").symlink_to(raw_pets)
    petseg.convert("~/raw", "~/records", show_progress=False)
    assert (home / "records" / "manifest.json").exists()
    tiny_config.data.dir, tiny_config.train.epochs = "~/records", 0.2
    run = petseg.train(tiny_config, Path("~/run"))
    assert run.run_dir == f"{home}/run"
    assert run.config.data.dir == f"{home}/records"
    assert run.evaluate(data_dir="~/records")["images"] == 4
    run.export("~/model")
    assert (home / "model" / "saved_model.pb").exists()
    assert not Path("~").exists()


def test_a_folder_with_wildcards_is_read_under_a_plain_name(tmp_path):
    folder = tmp_path / ODD_NAME
    folder.mkdir()
    (folder / "file").write_text("content")
    with paths.literal(folder) as plain:
        assert (plain / "file").read_text() == "content"
        assert not set("[]*?\\") & set(str(plain))
    assert not plain.exists()
    assert (folder / "file").read_text() == "content"


@pytest.mark.parametrize("name", ["gs://bucket/run [1]", "/plain/run"])
def test_other_names_are_left(name):
    with paths.literal(name) as same:
        assert str(same) == name
