import json
import re

import pytest
from testing.commands import run_module


@pytest.mark.slow
@pytest.mark.xdist_group("quickstart")
def test_the_quickstart_learns_and_leaves_everything_it_names(tmp_path):
    out = tmp_path / "quickstart"
    done = run_module("tools/quickstart.py", f"--dir={out}")
    assert done.returncode == 0, done.stderr + done.stdout
    scores = re.search(r"ignored: ([\d.]+) \(untrained: ([\d.]+)\)", done.stdout)
    assert float(scores[1]) >= 0.85
    assert float(scores[2]) < 0.6
    report = json.loads((out / "run" / "evaluation" / "validation.json").read_text())
    assert report["mean_iou"] == pytest.approx(float(scores[1]), abs=1e-3)
    assert report["panel"] in done.stdout
    assert list((out / "predictions").glob("*_mask.png"))


def test_the_quickstart_leaves_a_strange_folder_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = run_module("tools/quickstart.py", f"--dir={tmp_path}")
    assert done.returncode != 0
    assert "holds something else" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
