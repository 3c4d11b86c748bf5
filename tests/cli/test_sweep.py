"""Several runs: trained by one command, compared in one table."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from testing.commands import TINY, assert_one_line_error, run_module

from petseg.cli import results
from petseg.run_dir import evaluations


def run_sweep(folder, data_dir, *varied, more=()):
    return run_module(
        "tools/sweep.py", f"--sweep_dir={folder}", *(f"--vary={text}" for text in varied),
        "--config=oxford_pets", f"--config.data.dir={data_dir}", *TINY, *more,
    )  # fmt: skip


def rows(text):
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.strip().splitlines()
        if line.startswith("|") and "---" not in line
    ]


@pytest.mark.slow
def test_a_sweep_trains_every_combination_with_one_feature_cache_and_resumes(data_dir, tmp_path):
    cache = f"--config.data.feature_cache_dir={tmp_path / 'features'}"
    varied = ("model.decoder=fcn8s,fcn16s", "train.loss=dice")
    done = run_sweep(tmp_path / "runs", data_dir, *varied, more=[cache])
    assert done.returncode == 0, done.stderr
    names = ["decoder=fcn16s,loss=dice", "decoder=fcn8s,loss=dice"]
    everything = sorted((tmp_path / "runs").iterdir())
    assert [path.name for path in everything if path.is_dir()] == names
    table_again = run_module("tools/results.py", *map(str, everything))
    assert (table_again.returncode, table_again.stdout) == (0, done.stdout), table_again.stderr
    assert done.stderr.count("computing features") == 1
    header, *body = rows(done.stdout)
    assert len(body) == 2
    settings_of = {row[0] for row in body}
    assert all("train.loss=dice" in settings for settings in settings_of)
    assert sum("model.decoder=fcn16s" in settings for settings in settings_of) == 1
    ious = [float(row[header.index("mean IoU")]) for row in body]
    assert ious == sorted(ious, reverse=True)
    again = run_sweep(tmp_path / "runs", data_dir, "model.decoder=fcn8s", varied[1], more=[cache])
    assert again.returncode == 0
    (only,) = rows(again.stdout)[1:]
    assert only in body


def test_an_invalid_combination_is_refused_before_any_run(data_dir, tmp_path):
    for varied, expected in (
        (["model.decoder=fcn8s,fcn7s"], "config.model.decoder='fcn7s'"),
        (["model.decoders=fcn8s"], "model.decoder"),
        (["train.seed=1,x"], "seed"),
        (["train.seed"], "must be SECTION.FIELD=VALUE"),
        (['train.class_weights=["1,1,2", '], "no JSON list"),
    ):
        done = run_sweep(tmp_path / "runs", data_dir, *varied)
        assert_one_line_error(done, 2, expected)
        assert not (tmp_path / "runs").exists()


def copy_run(run_dir, folder, data=(), model=(), **train):
    # As if petseg-evaluate had never run.
    shutil.copytree(run_dir, folder, ignore=shutil.ignore_patterns("validation.json"))
    content = json.loads((folder / "config.json").read_text())
    content["train"].update(train)
    content["data"].update(data)
    content["model"].update(model)
    (folder / "config.json").write_text(json.dumps(content))
    return str(folder)


def test_runs_that_differ_only_in_the_seed_are_one_row(run_dir, tmp_path):
    by_step = evaluations.read_evaluations(str(run_dir))
    last = by_step[max(by_step)]["mean_iou"]
    first = copy_run(run_dir, tmp_path / "first")
    other = copy_run(run_dir, tmp_path / "seed", seed=7)
    changed = {step: {**figures, "mean_iou": last / 2} for step, figures in by_step.items()}
    path = tmp_path / "seed" / "evaluation" / "validation_by_step.json"
    path.write_text(json.dumps(changed))
    loss = copy_run(run_dir, tmp_path / "loss", loss="dice")
    header, *body = rows(results.table([first, other, loss], reach=0.9 * last))
    assert [row[1] for row in body] == ["1", "2"]
    assert "train.loss=dice" in body[0][0]
    assert "seed" not in body[1][0]
    assert body[1][header.index("mean IoU")] == f"{0.75 * last:.4f} ({last / 2:.4f}-{last:.4f})"
    seconds = evaluations.read_seconds(str(run_dir))
    reached = [seconds[s] for s in by_step if by_step[s]["mean_iou"] >= 0.9 * last]
    assert body[1][-1] == f"{min(reached):,.0f}"


def test_runs_on_cached_features_are_one_row_whatever_the_folder(run_dir, tmp_path):
    plain = copy_run(run_dir, tmp_path / "plain")
    cached = [copy_run(run_dir, tmp_path / n, {"feature_cache_dir": f"/{n}"}) for n in "ab"]
    shutil.rmtree(tmp_path / "a" / "checkpoints")  # the table does not need them
    _, *body = rows(results.table([plain, *cached]))
    assert sorted((row[1], "data.feature_cache_dir=DIR" in row[0]) for row in body) == [
        ("1", False), ("2", True)
    ]  # fmt: skip


def test_runs_that_start_from_runs_of_other_seeds_are_one_row(run_dir, tmp_path):
    starts = {
        "a": copy_run(run_dir, tmp_path / "a", seed=1),
        "b": copy_run(run_dir, tmp_path / "b", seed=2),
        "c": copy_run(run_dir, tmp_path / "c", seed=3, loss="dice"),
        "gone": str(tmp_path / "gone"),
    }
    runs = [
        copy_run(run_dir, tmp_path / f"from_{name}", model={"start_from": start}, seed=seed)
        for seed, (name, start) in enumerate(starts.items())
    ]
    _, *body = rows(results.table(runs))
    assert sorted(row[1] for row in body) == ["1", "1", "2"]
    assert all("model.start_from=RUN" in row[0] for row in body)


def test_the_curves_of_runs_are_drawn_over_minutes(run_dir, tmp_path):
    other = tmp_path / "with_$_in_its_name"
    shutil.copytree(run_dir, other)
    lines = results.curves([str(run_dir), str(other)]).axes[0].lines
    by_step, seconds = (
        evaluations.read_evaluations(str(run_dir)),
        evaluations.read_seconds(str(run_dir)),
    )
    assert len(by_step) > 1
    for line in lines:
        expected = [(seconds[step] / 60, by_step[step]["mean_iou"]) for step in sorted(by_step)]
        np.testing.assert_allclose(line.get_xydata(), expected)
    file = tmp_path / "curves.png"
    done = run_module("tools/results.py", str(run_dir), str(other), f"--curves={file}")
    assert done.returncode == 0, done.stderr
    assert Image.open(file).height == 280
    for bad, expected in ((file.with_suffix(".gif"), "must end in .png or .svg"),
                          (file / "no" / "curves.png", "Not a directory")):  # fmt: skip
        done = run_module("tools/results.py", str(run_dir), f"--curves={bad}")
        assert_one_line_error(done, 2, expected)


def test_runs_whose_folders_have_one_name_are_lines_of_their_own(run_dir, tmp_path):
    runs = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "b" / "other"]
    for run in runs:
        shutil.copytree(run_dir, run)
    figure = results.curves([str(run) for run in runs])
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels[2] == "other" and len(set(labels)) == 3
    for label, run in zip(labels[:2], runs, strict=False):
        assert str(run).endswith(label.removeprefix("…")) and label.endswith(
            f"{run.parent.name}/run"
        )


def test_a_folder_that_is_no_run_is_named(tmp_path):
    done = run_module("tools/results.py", str(tmp_path))
    assert_one_line_error(done, 2, "not a run of petseg-train")
    assert_one_line_error(run_module("tools/results.py"), 2, "name at least one run")
