import dataclasses

import pytest

from petseg import config_rules
from petseg.config import Config, Stage
from petseg.data import manifest
from petseg.errors import UserError
from petseg.training import run_summary


def test_runs_are_compared_by_what_differs_from_the_defaults():
    usual = run_summary.hparam_columns(Config())
    assert "model.decoder" in usual and "train.learning_rate" in usual
    assert "model.dropout_rate" not in usual
    changed = Config()
    changed.optimizer.clip_norm = 1.0
    changed.model.encoder_convs = (1, 1, 1, 1, 1)
    changed.train.stages = [Stage("decoder", 4.0, 5e-3), Stage("block5", 2.0, 1e-4)]
    changed.data.dir = "elsewhere"  # moves no weight
    changed.train.log_every_steps = 3
    found = run_summary.hparams(changed)
    assert "model.dropout_rate" in found  # so that other runs, which have another, compare with it
    assert "data.dir" not in found
    assert {
        name: found[name] for name in set(run_summary.hparam_columns(changed)) - set(usual)
    } == {
        "optimizer.clip_norm": 1.0,
        "model.encoder_convs": "1, 1, 1, 1, 1",
        "train.stages": "decoder 4.0 0.005, block5 2.0 0.0001",
    }


def test_the_data_report_counts_every_split_and_names_what_was_left_out(data_dir):
    known = manifest.read_manifest(str(data_dir))
    finding = manifest.Finding("odd|name.jpg", "", "it is\nempty")
    text = run_summary.data_report(dataclasses.replace(known, unplaced=(finding,)))
    for name, split in known.splits.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
        total = sum(split.pixels_per_label.values())
        assert f"| {split.records} |" in row
        assert f"{split.pixels_per_label[1] / total:.1%}" in row
    assert "1 files left out" in text and "odd\\|name.jpg |  | it is empty" in text


def test_a_long_manifest_is_cut_and_says_so(data_dir):
    known = manifest.read_manifest(str(data_dir))
    many = tuple(manifest.Finding(f"{i}.jpg", "", "reason") for i in range(2000))
    texts = run_summary.texts(Config(), dataclasses.replace(known, unplaced=many), "layers")
    assert len(texts["4 manifest"]) < 40_000
    assert "more characters" in texts["4 manifest"]


@pytest.mark.parametrize("steps", [(1,), (5, 5), (9, 3), (-1, 4), (1, 2, 3)])
def test_a_profile_needs_two_rising_steps(steps):
    config = Config()
    config.train.profile_steps = steps
    with pytest.raises(UserError, match=r"config\.train\.profile_steps=.* two rising steps"):
        config_rules.validate(config)
