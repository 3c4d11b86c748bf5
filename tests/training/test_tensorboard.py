"""TensorBoard itself, started on loopback, finds what a run tells."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import tensorflow as tf
from PIL import Image
from testing.clusters import free_ports
from testing.events import curve, summaries
from testing.waiting import wait_until

from petseg.training import tensorboard as tensorboard_lib


@contextlib.contextmanager
def tensorboard(logdir: Path) -> Iterator[Callable[[str], bytes]]:
    """A function: path below TensorBoard's data -> what it answers."""
    (port,) = free_ports(1)
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", f"--logdir={logdir}", f"--port={port}",
         "--host=127.0.0.1", "--load_fast=false"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def get(path: str) -> bytes:
        url = f"http://127.0.0.1:{port}/data/{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read()

    def has_read() -> bool:
        try:
            # The root's folder is read first, then these.
            return len(json.loads(get("plugin/scalars/tags"))) == 2 and bool(
                get("plugin/text/tags")
            )
        except (urllib.error.URLError, ConnectionError):
            return False

    try:
        wait_until(has_read, "runs in TensorBoard", lambda: server.poll() is None)
        yield get
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def fetch(run_dir) -> Iterator[Callable[[str], bytes]]:
    with tensorboard(run_dir.parent) as get:
        yield get


def ask_hparams(get: Callable[[str], bytes], kind: str, body: dict) -> dict:
    return json.loads(get(f"plugin/hparams/{kind}?request={quote(json.dumps(body))}"))


@pytest.mark.slow
def test_every_folder_of_a_run_is_there(fetch, run_dir):
    runs = json.loads(fetch("runs"))
    assert sorted(runs) == ["run", "run/train", "run/validation"]


def test_scalars_are_grouped(fetch):
    tags = json.loads(fetch("plugin/scalars/tags"))
    assert set(tags["run/train"]) == {
        *("loss/total", "loss/cross_entropy", "loss/dice"),
        *("rate/learning_rate", "rate/gradient_norm"),
        *("input/images_per_second", "input/input_wait_fraction"),
    }
    figures = {f"metrics/{name}" for name in ("mean_iou", "pixel_accuracy")}
    figures |= {"metrics/frequency_weighted_iou"}
    losses = {"loss/total", "loss/cross_entropy", "loss/dice"}
    assert set(tags["run/validation"]) >= figures | losses
    points = json.loads(fetch("plugin/scalars/scalars?run=run/validation&tag=metrics/mean_iou"))
    assert [step for _, step, _ in points] == [0, 5]


@pytest.mark.slow
def test_images_show_the_panel_the_worst_and_the_confusion_matrix(fetch):
    tags = json.loads(fetch("plugin/images/tags"))
    assert set(tags["run/validation"]) == {"panel", "panel_worst", "confusion_matrix"}
    steps = {
        tag: [
            row["step"]
            for row in json.loads(
                fetch(f"plugin/images/images?run=run/validation&tag={tag}&sample=0")
            )
        ]
        for tag in tags["run/validation"]
    }
    assert steps == {"panel": [0, 5], "panel_worst": [5], "confusion_matrix": [0, 5]}
    # One picture an image, two cells wide and two high.
    assert tags["run/validation"]["panel"]["samples"] == 8
    (_, last) = json.loads(fetch("plugin/images/images?run=run/validation&tag=panel&sample=7"))
    picture = fetch(f"plugin/images/individualImage?{last['query']}")
    width, height = Image.open(io.BytesIO(picture)).size
    assert width == 2 * (32 + 4) + 4
    assert (height - 2 * (32 + 16) - 4) % 16 == 0  # the legend's lines


def test_histograms_are_of_the_decoders_weights_and_gradients(fetch):
    tags = json.loads(fetch("plugin/histograms/tags"))["run/train"]
    names = {tag.partition("/")[2] for tag in tags}
    assert {tag.partition("/")[0] for tag in tags} == {"weights", "gradients"}
    assert {"score_P3/kernel", "score_P5/bias", "upsample_to_image/kernel"} <= names
    assert not any("block" in name for name in names)


def test_texts_say_what_the_run_is(fetch):
    tags = json.loads(fetch("plugin/text/tags"))
    assert sorted(tags["run"]) == ["1 data", "2 settings", "3 layers", "4 manifest"]
    texts = {
        tag: json.loads(fetch(f"plugin/text/text?run=run&tag={quote(tag, safe='')}"))[0]["text"]
        for tag in tags["run"]
    }
    assert "encoder_width" in texts["2 settings"]
    assert "<table>" in texts["1 data"] and "train" in texts["1 data"]
    assert "sha256" in texts["4 manifest"]
    assert "frozen" in texts["3 layers"] and "score_P5" in texts["3 layers"]


def test_hparams_stand_beside_the_final_figures(fetch, run_dir):
    experiment = ask_hparams(fetch, "experiment", {"experimentName": ""})
    metrics = [
        {"group": info["name"]["group"], "tag": info["name"]["tag"]}
        for info in experiment["metricInfos"]
    ]
    assert metrics[:3] == [
        {"group": "validation", "tag": "metrics/mean_iou"},
        {"group": "validation", "tag": "loss/total"},
        {"group": "train", "tag": "loss/total"},
    ]
    titles = [info["displayName"] for info in experiment["metricInfos"]]
    assert len(set(titles)) == len(titles) and "iou of pet" in titles
    columns = [info["name"] for info in experiment["hparamInfos"]]
    first = ["model.decoder", "model.encoder", "train.epochs", "train.learning_rate", "train.loss"]
    assert columns[:5] == first
    groups = ask_hparams(
        fetch,
        "session_groups",
        {
            "experimentName": "", "startIndex": 0, "sliceSize": 10,
            "allowedStatuses": ["STATUS_SUCCESS"],
            "colParams": [{"metric": metric} for metric in metrics],
        },
    )["sessionGroups"]  # fmt: skip
    (group,) = groups
    assert group["hparams"]["model.decoder"] == "fcn8s"
    assert group["hparams"]["data.batch_size"] == 4
    assert "train.log_every_steps" not in group["hparams"]
    values = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
    known = json.loads((run_dir / "evaluation" / "validation_by_step.json").read_text())
    assert values["metrics/mean_iou"] == pytest.approx(known["5"]["mean_iou"], rel=1e-6)


def test_what_a_sweep_varies_comes_first_in_its_table(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "a")
    for varied in (["train.seed"], ["model.dropout_rate"]):  # the second stands for the first
        tensorboard_lib.write_sweep(str(tmp_path), varied, ["model.decoder", *varied], ["pet"])
    with tensorboard(tmp_path) as get:
        experiment = ask_hparams(get, "experiment", {"experimentName": ""})
        wanted = {"experimentName": "", "sliceSize": 10, "allowedStatuses": ["STATUS_SUCCESS"]}
        (group,) = ask_hparams(get, "session_groups", wanted)["sessionGroups"]
    columns = [info["name"] for info in experiment["hparamInfos"]]
    assert columns == ["model.dropout_rate", "model.decoder"]
    assert columns[0] in group["hparams"]


def test_a_sweep_keeps_what_others_log_in_its_folder(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default():
        for step in range(3):
            tf.summary.scalar("loss of another program", 0.5 * step, step)
    writer.close()
    for _ in range(2):
        tensorboard_lib.write_sweep(str(tmp_path), ["train.seed"], ["train.seed"], ["pet"])
    assert curve(tmp_path, "loss of another program") == {0: 0.0, 1: 0.5, 2: 1.0}
    tags = [tag for tag, _, _ in summaries(tmp_path)]
    assert tags.count("_hparams_/experiment") == 1
    assert len(tags) == 4


def test_custom_scalars_have_one_line_for_each_run_in_the_first_charts(fetch):
    (category,) = json.loads(fetch("plugin/custom_scalars/layout"))["category"]
    found = []
    for chart in category["chart"]:
        (pattern,) = chart["multiline"]["tag"]
        for run in ("train", "validation"):
            query = f"plugin/custom_scalars/scalars?run=run/{run}&tag={quote(pattern)}"
            answer = json.loads(fetch(query))
            assert answer["regex_valid"]
            found.append((run, list(answer["tag_to_events"])))
    assert found == [
        ("train", ["loss/total"]),
        ("validation", ["loss/total"]),
        ("train", []),
        ("validation", ["metrics/mean_iou"]),
        ("train", ["input/images_per_second"]),
        ("validation", []),
        ("train", []),
        ("validation", ["iou/pet", "iou/background", "iou/border"]),
    ]


def test_the_graph_of_the_model_is_there(fetch):
    tags = json.loads(fetch("plugin/graphs/info"))
    assert tags["run"]["run_graph"]
    graph = fetch("plugin/graphs/graph?run=run&conceptual=false").decode()
    assert "block1_conv1" in graph and "upsample_to_image" in graph


def test_a_profile_lies_where_the_plugin_looks(run_dir):
    (profile,) = (run_dir / "train" / "plugins" / "profile").glob("*/*.xplane.pb")
    assert profile.stat().st_size > 0
