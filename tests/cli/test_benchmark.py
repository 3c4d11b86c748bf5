import json

import pytest
from testing.commands import assert_one_line_error, run_module


@pytest.mark.long
def test_the_input_is_measured_beside_its_limit_and_the_tutorial(data_dir):
    wanted = {"plain_decode_limit", "train", "train_raw", "eval", "tutorial"}
    done = run_module(
        "tools/benchmark.py",
        "--stage=input",
        f"--data_dir={data_dir}",
        "--records=64",
        "--rounds=1",
        f"--only={','.join(sorted(wanted))}",
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    measured = {line["name"]: line for line in lines}
    assert wanted <= measured.keys()
    ratios = {"train/plain_decode_limit", "train_raw/plain_decode_limit", "train/tutorial"}
    assert ratios <= measured.keys()
    for line in lines:
        assert line["stage"] == "input" and line["min"] <= line["value"] <= line["max"]
    ratio = measured["train"]["value"] / measured["plain_decode_limit"]["value"]
    assert measured["train/plain_decode_limit"]["value"] == pytest.approx(ratio, abs=0.01)


@pytest.mark.long
def test_the_bottleneck_needs_a_config_and_ends_with_a_verdict(data_dir):
    done = run_module("tools/benchmark.py", "--stage=bottleneck")
    assert_one_line_error(done, 2, "--stage=bottleneck needs --config")
    done = run_module(
        "tools/benchmark.py",
        "--stage=bottleneck",
        "--seconds=0.2",
        "--config=quickstart",
        f"--config.data.dir={data_dir}",
    )
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["stage"] == "bottleneck"
    assert last["verdict"] in ("input bound", "model bound", "balanced")
    assert f"{last['verdict']}: " in done.stderr
    assert all(line.startswith("- ") for line in done.stderr.strip().splitlines()[-1:])


def test_a_wrong_stage_is_refused_with_the_right_ones():
    done = run_module("tools/benchmark.py", "--stage=doctor")
    assert_one_line_error(done, 2, "--stage=doctor is now --stage=bottleneck")
    done = run_module("tools/benchmark.py", "--stage=trian")
    assert_one_line_error(done, 2, "--stage=trian", "convert, input, train, scaling, export")
