"""The recipe for eight GPUs, rehearsed on eight logical CPU devices; and its page's figures."""

import copy
import json
import re

import pytest
from testing.command_processes import ROOT
from testing.commands import run_module

from petseg import recipes

PAGE = (ROOT / "docs" / "eight_gpus.md").read_text()
NARROW = (
    *("--config.data.image_size=32", "--config.model.encoder_weights=none"),
    *("--config.model.encoder_width=2", "--config.model.encoder_convs=(1,1,1,1,1)"),
    *("--config.model.decoder_channels=8", "--config.train.bottleneck_seconds=0"),
    *("--config.devices.strategy=mirrored", "--config.devices.cpu_replicas=8"),
)


@pytest.mark.slow
def test_the_recipe_runs_on_eight_devices(data_dir, tmp_path):
    run = tmp_path / "run"
    done = run_module(
        *("-m", "petseg.train", "--config=oxford_pets_eight_gpus", f"--workdir={run}"),
        *(f"--config.data.dir={data_dir}", "--config.train.epochs=13", *NARROW),
    )
    assert done.returncode == 0, done.stderr
    assert "batches of 256 over 8 replica(s)" in done.stderr
    scores = json.loads((run / "evaluation" / "validation_by_step.json").read_text())
    assert sorted(map(int, scores))[0] == 0 and len(scores) > 1
    assert all(0 <= one["mean_iou"] <= 1 for one in scores.values())


def test_the_rate_and_the_warm_up_are_those_of_the_rule():
    config = recipes.load("oxford_pets_eight_gpus")
    replicas, each = 8, 32
    assert config.data.batch_size == replicas * each
    assert config.train.learning_rate == pytest.approx(replicas * 1e-2)
    steps_of_five_epochs = 5 * 3304 / config.data.batch_size
    assert config.optimizer.warmup_steps == pytest.approx(steps_of_five_epochs, abs=1)
    plain = copy.deepcopy(recipes.load("oxford_pets"))
    assert plain.optimizer.schedule == config.optimizer.schedule == "cosine"


def efficiency(step_s, bytes_of_gradients, replicas, link_bytes_s, latency_s):
    """Of a ring: 2 (n-1)/n of the gradients pass each link, in two passes of messages."""
    exchange_s = 2 * (replicas - 1) / replicas * bytes_of_gradients / link_bytes_s + 2 * latency_s
    return step_s / (step_s + exchange_s)


def test_the_page_gives_what_its_formula_gives():
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \|", PAGE, re.M)
    assert len(rows) >= 3
    (megabytes,) = map(float, re.findall(r"B = ([\d.]+) MB", PAGE))
    for rate, step_ms, inside, between in rows:
        step_s = int(step_ms) / 1e3
        assert round(32 / step_s) == int(rate)
        for links, shown in (((100e9, 50e-6), inside), ((1.25e9, 500e-6), between)):
            found = efficiency(step_s, megabytes * 1e6, 8, *links)
            assert f"{found:.2f}" == shown, (rate, links)
