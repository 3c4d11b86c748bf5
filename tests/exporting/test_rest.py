"""The requests of docs/deployment.md, sent to a server that speaks TF Serving's REST form."""

import base64
import http.server
import json
import re
import shlex
import subprocess
import threading

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from testing.command_processes import ROOT
from testing.configs import make_tiny_config
from testing.run_folders import write_run

import petseg
from petseg.exporting import export_model
from petseg.exporting.export_model import ExportOptions

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "deployment.md").read_text()


class Serving(http.server.BaseHTTPRequestHandler):
    """What TF Serving documents of its REST form: predict in rows, bytes as {"b64": ...}."""

    signatures: dict

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        signature = self.signatures.get(request.get("signature_name", "serving_default"))
        if self.path != "/v1/models/pets:predict" or signature is None:
            self.answer(404, {"error": "no such model or signature"})
            return
        ((name, spec),) = signature.structured_input_signature[1].items()
        rows = [decode(row[name] if isinstance(row, dict) else row) for row in request["instances"]]
        found = signature(**{name: tf.constant(rows, spec.dtype)})
        columns = {key: value.numpy().tolist() for key, value in found.items()}
        predictions = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        if len(columns) == 1:  # a single output is not named
            predictions = [value for row in predictions for value in row.values()]
        self.answer(200, {"predictions": predictions})

    def answer(self, status, content):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_arguments):
        """Prints nothing."""


def decode(value):
    is_bytes = isinstance(value, dict) and set(value) == {"b64"}
    return base64.b64decode(value["b64"], validate=True) if is_bytes else value


@pytest.fixture(scope="module")
def served(tmp_path_factory, data_dir):
    """The address of a server, and the run whose model it serves."""
    folder = tmp_path_factory.mktemp("served")
    write_run(folder / "run", make_tiny_config(data_dir))
    model = folder / "models" / "pets" / "1"
    export_model.export_model(str(folder / "run"), ExportOptions(str(model)))
    loaded = tf.saved_model.load(str(model))
    handler = type("Handler", (Serving,), {"signatures": loaded.signatures})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}", folder / "run"
    server.shutdown()
    server.server_close()
    serving.join()
    del loaded


def commands_of_the_page():
    """The two commands that make a request and send it."""
    (make,) = re.findall(r"^    (python -c .*) > request\.json$", PAGE, re.M)
    (send,) = re.findall(r"^    (curl -d @request\.json \S+)$", PAGE, re.M)
    return shlex.split(make), shlex.split(send)


def test_the_documented_request_is_answered_as_documented(served, tmp_path):
    address, run_dir = served
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 50, 3), np.uint8) for _ in range(2)]
    for name, picture in zip(("photo.jpg", "other.jpg"), pictures, strict=True):
        Image.fromarray(picture).save(tmp_path / name, format="PNG")  # without loss
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    make, send = commands_of_the_page()
    made = subprocess.run([*make, "bad.jpg"], cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / "request.json").write_bytes(made.stdout)
    assert send[-1].startswith("http://localhost:8501/")
    send[-1] = send[-1].replace("http://localhost:8501", address)
    answer = subprocess.run([*send, "-s"], cwd=tmp_path, capture_output=True, check=True).stdout
    predictions = json.loads(answer)["predictions"]
    assert [row["valid"] for row in predictions] == [True, True, False]
    assert set(predictions[0]) == {"class_ids", "valid"}
    assert np.all(np.array(predictions[2]["class_ids"]) == 255)
    run = petseg.load_run(str(run_dir))
    for row, picture in zip(predictions, pictures, strict=False):
        resized = tf.image.resize(picture, [32, 32], antialias=True)
        small = tf.saturate_cast(tf.round(resized), tf.uint8).numpy()
        np.testing.assert_array_equal(row["class_ids"], run.predict(small))


def test_another_signature_takes_values(served, tmp_path):
    address, _ = served
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3)).tolist()
    request = {"signature_name": "probabilities", "instances": [image]}
    (tmp_path / "request.json").write_text(json.dumps(request))
    _, send = commands_of_the_page()
    send[-1] = send[-1].replace("http://localhost:8501", address)
    answer = subprocess.run([*send, "-s"], cwd=tmp_path, capture_output=True, check=True).stdout
    (shares,) = json.loads(answer)["predictions"]
    np.testing.assert_allclose(np.sum(shares, -1), np.ones((32, 32)), atol=1e-5)
