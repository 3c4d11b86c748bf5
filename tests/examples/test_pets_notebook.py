"""examples/pets.ipynb: it runs, and what is stored of a run is small and without traces."""

import base64
import importlib.util
import io
import json
import re

import pytest
from PIL import Image
from testing.command_processes import ROOT

PATH = ROOT / "examples" / "pets.ipynb"
STORED = json.loads(PATH.read_text())


def cells_of(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def text_of(cell):
    """What a cell printed on standard output."""
    outputs = [one for one in cell["outputs"] if one.get("name") == "stdout"]
    return "".join("".join(one["text"]) for one in outputs)


def pictures_of(cell):
    outputs = [one["data"]["image/png"] for one in cell["outputs"] if "data" in one]
    return [Image.open(io.BytesIO(base64.b64decode(png))) for png in outputs]


def test_what_is_stored_is_small_and_says_nothing_of_a_machine():
    assert PATH.stat().st_size < 300_000
    for cell in cells_of(STORED):
        for output in cell["outputs"]:
            assert output["output_type"] in ("stream", "execute_result")
            if output["output_type"] == "stream":
                assert output["name"] == "stdout"
                text = "".join(output["text"])
                assert not re.search(r"/(tmp|root|home|work)/|INFO|Warning", text)
            else:
                assert set(output["data"]) == {"image/png"}
    pictures = [picture for cell in cells_of(STORED) for picture in pictures_of(cell)]
    assert [picture.format for picture in pictures] == ["PNG"] * 3


@pytest.mark.slow
def test_the_notebook_runs_and_gives_what_is_stored(monkeypatch):
    pytest.importorskip("nbclient", reason="nbclient is not installed (extra test)")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed (extra test)")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    spec = importlib.util.spec_from_file_location("run_notebook", ROOT / "tools/run_notebook.py")
    run_notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run_notebook)
    done = run_notebook.clean(run_notebook.run(PATH))
    for ours, theirs in zip(cells_of(done), cells_of(STORED), strict=True):
        assert [one["output_type"] for one in ours["outputs"]] == [
            one["output_type"] for one in theirs["outputs"]
        ]
    printed = "".join(text_of(cell) for cell in cells_of(done))
    assert re.findall(r"(train|validation|test) +(\d+) images", printed) == [
        ("train", "108"), ("validation", "12"), ("test", "8")
    ]  # fmt: skip
    (score,) = re.findall(r"8 test images: (\d\.\d+)", printed)
    assert float(score) > 0.45  # without a pet anywhere it is about 0.36
    assert "agreement with the trained model: 100.00%" in printed
