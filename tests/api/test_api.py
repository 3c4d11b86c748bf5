import copy
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from testing.command_processes import ROOT
from testing.commands import run_python
from testing.weights import assert_same_weights, checkpoint_weights

import petseg
from petseg import FaultFound, UserError

HERE = Path(__file__).parent


@pytest.mark.slow
def test_a_script_of_a_few_lines_does_everything(raw_pets, tmp_path):
    done = run_python(HERE / "library_script.py", raw_pets, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines == {
        "shards": "3",
        "fitted": "2",
        "history": "[0, 5] pet background border",
        "evaluated": "True",
        "predicted": "(50, 64) (50, 64, 3)",
        "exported": lines["exported"],
        "loaded": "True",
    }
    assert float(lines["exported"]) >= 0.9999
    assert "Traceback" not in done.stderr


def test_importing_petseg_loads_no_tensorflow():
    code = (
        "import sys, petseg; print([name for name in ('tensorflow', 'keras', 'matplotlib',"
        " 'tensorflow_datasets', 'absl') if name in sys.modules])"
    )
    assert run_python("-c", code).stdout == "[]\n"


@pytest.mark.slow
def test_runs_train_off_the_main_thread_and_twice_in_a_process(tiny_config, tmp_path):
    tiny_config.train.epochs = 1.0
    before = copy.deepcopy(tiny_config)
    runs = []

    def train(folder):
        runs.append(petseg.train(tiny_config, str(tmp_path / folder)))

    thread = threading.Thread(target=train, args=("thread",))
    thread.start()
    thread.join()
    train("main")
    assert [figures["step"] for figures in runs[0].history] == [0, 5]
    one, other = (checkpoint_weights(tmp_path / name, 5) for name in ("thread", "main"))
    assert_same_weights(one, other)
    assert tiny_config == before  # the caller's settings stay his


@pytest.mark.slow
def test_a_resumed_run_of_the_library_is_that_of_the_command(run_dir):
    run = petseg.load_run(str(run_dir))
    assert run.class_names == ("pet", "background", "border")
    by_step = json.loads((run_dir / "evaluation" / "validation_by_step.json").read_text())
    assert [figures["step"] for figures in run.history] == sorted(map(int, by_step))
    assert run.history[-1]["mean_iou"] == by_step[str(run.history[-1]["step"])]["mean_iou"]
    assert run.history[-1]["seconds"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)],
)
def test_an_image_of_another_type_is_one_line(run_dir, image):
    with pytest.raises(UserError, match=r"must be uint8 \[height, width, 3\], RGB"):
        petseg.load_run(str(run_dir)).predict(image)


def test_mistakes_are_exceptions_of_one_line(data_dir, tmp_path):
    for call, message in (
        (lambda: petseg.convert(str(tmp_path), str(tmp_path / "out")), "annotations"),
        (
            lambda: petseg.convert("raw", str(tmp_path / "out"), class_file="classes.csv"),
            r"no option class_file: .*; did you mean classes\?",
        ),
        (lambda: petseg.load_dataset(str(tmp_path)), "not a finished data set"),
        (lambda: petseg.load_dataset(str(data_dir), image_size=50), "image_size=50"),
        (lambda: petseg.build_model(num_classes=2, image_size=(64, 50)), r"image_size=\(64, 50\)"),
        (lambda: petseg.build_model("vgg17", num_classes=2), "encoder 'vgg17'"),
        (lambda: petseg.load_run(str(tmp_path)), "config.json"),
        (lambda: petseg.load_recipe("nothing"), "nothing"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "sides"), [(32, (32, 32)), ([64, 96], (64, 96))])
def test_an_epoch_of_the_data_set_is_new_each_time_and_validation_is_the_same(
    data_dir, size, sides
):
    train, validation = petseg.load_dataset(str(data_dir), image_size=size, batch_size=6)
    assert (len(train), len(validation)) == (3, 2)  # 20 and 8 images
    first, second = ([image.numpy() for image, _ in train] for _ in range(2))
    assert [batch.shape for batch in first] == [(6, *sides, 3)] * 3
    assert any((a != b).any() for a, b in zip(first, second, strict=True))
    again, _ = petseg.load_dataset(str(data_dir), image_size=size, batch_size=6)
    for a, (b, _) in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    shown = [(image.shape[0], mask.shape) for image, mask in validation]
    assert shown == [(6, (6, *sides)), (2, (2, *sides))]
    for (a, _), (b, _) in zip(validation, validation, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_damaged_shard_is_named_before_a_data_set_is_iterated(data_dir, tmp_path):
    for split in ("train", "validation"):
        copy = shutil.copytree(data_dir, tmp_path / split)
        damaged = max(copy.glob(f"*-{split}.*"))
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
        with pytest.raises(FaultFound, match=f"{damaged.name} differs .*; convert .* again$"):
            petseg.load_dataset(str(copy), image_size=32, batch_size=6)


@pytest.mark.parametrize(("size", "sides"), [(32, (32, 32)), ((96, 64), (96, 64))])
def test_a_built_model_is_a_plain_keras_model(size, sides):
    model = petseg.build_model(
        "vgg16", "fpn", num_classes=2, weights="none", image_size=size, encoder_width=2
    )
    logits = model(np.zeros((3, *sides, 3), np.uint8))
    assert logits.shape == (3, *sides, 2)
    assert model.count_params() == sum(int(np.prod(w.shape)) for w in model.get_weights())


@pytest.mark.slow
def test_mypy_sees_the_types_of_a_users_script(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports=silent",
         f"--cache-dir={tmp_path}", str(HERE / "typed_script.py")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    lines = (HERE / "typed_script.py").read_text().splitlines()
    expected = {n: line.split("# error: ")[1] for n, line in enumerate(lines, 1) if "# err" in line}
    found = {
        int(line.split(":")[1]): line.rpartition("[")[2].rstrip("]")
        for line in done.stdout.splitlines()
        if "typed_script.py" in line and " error: " in line
    }
    assert found == expected, done.stdout + done.stderr
