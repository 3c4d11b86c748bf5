import json
import re

import pytest
from testing.commands import assert_one_line_error, run_module


@pytest.mark.slow
@pytest.mark.long
def test_the_quickstart_learns_and_writes_everything_that_it_names(tmp_path):
    out = tmp_path / "quickstart"
    done = run_module("tools/quickstart.py", f"--dir={out}")
    assert done.returncode == 0, done.stderr + done.stdout
    scores = re.search(r"ignored: ([\d.]+) \(untrained: ([\d.]+)\)", done.stdout)
    assert "$ petseg-train --config=quickstart " in done.stdout
    assert float(scores[1]) >= 0.85
    assert float(scores[2]) < 0.6
    report = json.loads((out / "run" / "evaluation" / "validation.json").read_text())
    assert report["mean_iou"] == pytest.approx(float(scores[1]), abs=1e-3)
    assert report["panel"] in done.stdout
    assert list((out / "predictions").glob("*_mask.png"))


def test_the_quickstart_refuses_a_folder_with_other_files(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = run_module("tools/quickstart.py", f"--dir={tmp_path}")
    assert_one_line_error(done, 2, "holds something else")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_wrong_flag_of_the_quickstart_is_one_line():
    assert_one_line_error(run_module("tools/quickstart.py", "--dirr=x"), 2, "dirr")
    assert_one_line_error(run_module("tools/quickstart.py", "stray"), 2, "'stray'")
