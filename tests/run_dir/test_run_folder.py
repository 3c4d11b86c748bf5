import json
import os
import shutil

import pytest

import petseg
from petseg import config_json
from petseg.data import manifest
from petseg.errors import UserError
from petseg.evaluation.evaluate_split import EvaluateOptions, evaluate_split
from petseg.exporting.export_model import ExportOptions, export_model
from petseg.run_dir import run_folder
from petseg.training.trainer import train_and_evaluate


def _contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _make_data_set(folder, data_dir):
    shutil.copytree(data_dir, folder)
    manifest_file = folder / "manifest.json"  # of another data set than the one trained on
    manifest_file.write_text(manifest_file.read_text().replace('"name": "', '"name": "other_', 1))


def _make_other_config(folder, _):
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')


def test_a_config_nested_too_deeply_or_a_fifo_is_one_line_and_no_wait(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("[" * 100_000 + "]" * 100_000)
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / "config.json")
    for name in ("a", "b"):
        run_folder.check_is_ours(str(tmp_path / name))  # reading says what is damaged
        with pytest.raises(UserError, match=r"config\.json is damaged: "):
            run_folder.read_config(str(tmp_path / name))


def _make_list_as_config(folder, _):
    folder.mkdir()
    (folder / "config.json").write_text("[1, 2]")


def _make_photos(folder, _):
    (folder / "holidays").mkdir(parents=True)
    (folder / "holidays" / "1.jpg").write_bytes(b"a photo")


def _make_manifest(folder, _):
    folder.mkdir()
    (folder / "manifest.json").write_text('{"name": "Web App", "icons": []}')


def _make_data_set_beside_settings(folder, data_dir):
    _make_data_set(folder, data_dir)
    (folder / "config.json").write_text(config_json.to_json(petseg.load_recipe("quickstart")))


_FOREIGN = {
    "data set": _make_data_set,
    "other config": _make_other_config,
    "list as config": _make_list_as_config,
    "photos": _make_photos,
    "other manifest": _make_manifest,
    "data set beside settings": _make_data_set_beside_settings,
}


@pytest.fixture(params=_FOREIGN)
def foreign(request, tmp_path, data_dir):
    """A folder that is neither empty nor a run."""
    folder = tmp_path / "foreign"
    _FOREIGN[request.param](folder, data_dir)
    return folder


@pytest.mark.parametrize("train", [train_and_evaluate, petseg.train])
def test_training_leaves_a_folder_that_is_no_run(foreign, tiny_config, train):
    before = _contents(foreign)
    with pytest.raises(UserError, match="name a new folder"):
        train(tiny_config, str(foreign))
    assert _contents(foreign) == before


def test_evaluation_and_export_leave_a_folder_that_is_no_run(foreign):
    before = _contents(foreign)
    with pytest.raises(UserError):
        evaluate_split(str(foreign), EvaluateOptions())
    with pytest.raises(UserError):
        export_model(str(foreign), ExportOptions(output_dir=str(foreign / "model")))
    assert _contents(foreign) == before


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "run").write_text("notes")
    with pytest.raises(UserError, match="is a file; name a new folder"):
        run_folder.check_is_ours(str(tmp_path / "run"))


@pytest.mark.parametrize("names", [(), ("lock",), ("lock", "config.json.tmp"), ("lost+found",)])
def test_what_a_killed_start_or_a_new_disk_leaves_counts_as_empty(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    run_folder.check_is_ours(str(tmp_path))


def test_a_run_is_ours_with_whatever_a_user_adds(run_dir, tmp_path):
    copy = shutil.copytree(run_dir, tmp_path / "run")
    (copy / "notes.txt").write_text("mine")
    run_folder.check_is_ours(str(copy))


def test_a_run_that_was_killed_while_it_wrote_its_settings_begins_again(tmp_path, tiny_config):
    (tmp_path / "config.json").write_text(config_json.to_json(tiny_config))
    run_folder.check_is_ours(str(tmp_path))


def test_only_one_command_trains_in_a_folder(tmp_path, tiny_config, data_dir, monkeypatch):
    monkeypatch.setattr(run_folder, "_LOCK_WAIT_S", 0.1)
    run = tmp_path / "run"
    with run_folder.claim(str(run)):
        run_folder.write_settings(str(run), tiny_config, manifest.read_manifest(str(data_dir)))
        before = _contents(run)
        with pytest.raises(UserError, match=f"another command trains in {run}"):
            train_and_evaluate(tiny_config, str(run))
        assert _contents(run) == before
    assert json.loads((run / "config.json").read_text())["data"]["dir"] == str(data_dir)


def test_a_claimed_folder_that_stayed_empty_is_removed(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with (
            pytest.raises(UserError, match="wrong data set"),
            run_folder.claim(str(tmp_path / name)),
        ):
            raise UserError("wrong data set")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert not any((tmp_path / "empty").iterdir())
