from pathlib import Path

import pytest

from petseg import config_rules, recipes
from petseg.errors import UserError


def test_the_recipes_are_those_of_the_package():
    assert recipes.names() == (
        *("deeplab_v3_plus_mobilenet_v2", "few_images", "few_images_from_scratch"),
        *("oxford_pets", "oxford_pets_eight_gpus"),
        "oxford_pets_fcn2s",
        *("oxford_pets_features", "oxford_pets_fine_tuned", "oxford_pets_mobilenet_v2"),
        *("oxford_pets_partial_masks", "oxford_pets_proposals"),
        *(
            "oxford_pets_pspnet",
            "oxford_pets_segnet",
            "quickstart",
            "tensorflow_tutorial",
            "unet_from_scratch",
        ),
    )


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_valid_and_opens_with_the_command_that_uses_it(name):
    config = recipes.load(name)
    config_rules.validate(config)
    text = Path(recipes.find(name)).read_text()
    (doc, *_) = text.removeprefix('"""').split('"""')
    assert f"petseg-train --config={name} --workdir=RUN" in doc


def test_a_recipe_is_found_by_name_and_a_file_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = recipes.find("quickstart")
    assert found.endswith("petseg/configs/quickstart.py")
    assert recipes.find(found) == found
    assert recipes.find("quickstart:argument") == f"{found}:argument"
    (tmp_path / "mine.py").touch()
    assert recipes.find("mine.py") == "mine.py"


def test_a_file_goes_before_the_recipe_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    assert recipes.find("quickstart").endswith("petseg/configs/quickstart.py")
    (tmp_path / "quickstart").rmdir()
    (tmp_path / "quickstart").touch()
    assert recipes.find("quickstart") == "quickstart"


@pytest.mark.parametrize("name", ["oxford_cats", "__init__", "absent/quickstart.py", ""])
def test_an_unknown_recipe_is_refused_with_a_list_of_all(name):
    with pytest.raises(UserError) as raised:
        recipes.find(name)
    assert f"--config={name} is no file" in str(raised.value)
    assert ", ".join(recipes.names()) in str(raised.value)


def test_only_values_of_config_are_resolved():
    path = recipes.find("quickstart")
    line = ["petseg-train", "--config=quickstart", "--workdir=quickstart", "--config.data.dir=x"]
    expected = ["petseg-train", f"--config={path}", "--workdir=quickstart", "--config.data.dir=x"]
    assert recipes.resolve_arguments(line) == expected
    assert recipes.resolve_arguments(["-config", "quickstart"]) == ["-config", path]
    assert recipes.resolve_arguments(["--", "--config=none"]) == ["--", "--config=none"]
