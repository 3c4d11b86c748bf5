"""Predict: pictures, folders, videos, what is written, and input of every bad kind."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.command_processes import ROOT
from testing.commands import assert_one_line_error, run_module
from testing.conversion import encoded

from petseg.errors import UserError
from petseg.inference import outputs, video
from petseg.inference.jobs import list_jobs
from petseg.inference.outputs import OutputOptions
from petseg.inference.predict_files import predict_files
from petseg.inference.predictor import make_predictor
from petseg.inference.tta import TtaOptions
from petseg.run_dir import trained_model
from petseg.visualization import pictures

RATE = 10


@pytest.fixture(scope="module")
def trained(run_dir):
    return trained_model.load_trained_model(str(run_dir))


@pytest.fixture(scope="module")
def predict(trained):
    """A function that predicts files and gives the number of failures."""
    predictor = make_predictor(trained, TtaOptions(), 3)

    def predict(paths, output, kinds=(outputs.CLASS_IDS, outputs.OVERLAY)):
        jobs = list_jobs([str(path) for path in paths], str(output))
        options = OutputOptions(kinds, trained.label_map.names, trained.palette)
        return predict_files(predictor, jobs, options)

    return predict


def read(path):
    with Image.open(path) as picture:
        return np.array(picture)


def random_picture(width, height, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def names_below(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_command_skips_damaged_files_and_its_status_says_so(run_dir, raw_pets, tmp_path):
    folder = tmp_path / "in"
    (folder / "sub folder").mkdir(parents=True)
    good = {"a.jpg": (40, 30), "sub folder/ü b.png": (17, 61)}
    for name, size in good.items():
        Image.fromarray(random_picture(*size)).save(folder / name)
    (folder / "broken.jpg").write_bytes((raw_pets / "images" / "Slate_1.jpg").read_bytes()[:300])
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    output = tmp_path / "out"
    done = run_module(
        "-m", "petseg.predict", f"--workdir={run_dir}", f"--output_dir={output}", folder
    )
    assert_one_line_error(done, 1, "2 of 4 files")
    assert "broken.jpg: cannot be read" in done.stderr
    assert "empty.png: cannot be read" in done.stderr
    assert names_below(output) == sorted(
        f"{name.rpartition('.')[0]}_{kind}" for name in good for kind in ("mask.png", "overlay.jpg")
    )
    for name, size in good.items():
        stem = output / name.rpartition(".")[0]
        with Image.open(f"{stem}_mask.png") as mask, Image.open(f"{stem}_overlay.jpg") as overlay:
            assert mask.size == overlay.size == size
            assert mask.mode == "L"
            assert set(np.unique(mask)) <= {0, 1, 2}


def test_all_kinds_of_output_agree(predict, trained, tmp_path):
    smooth = np.tile(np.linspace(0, 255, 45).astype(np.uint8)[None, :, None], (33, 1, 3))
    Image.fromarray(smooth).save(tmp_path / "a.png")
    assert predict([tmp_path / "a.png"], tmp_path / "out", outputs.KINDS) == 0
    class_ids = read(tmp_path / "out" / "a_mask.png")
    np.testing.assert_array_equal(
        read(tmp_path / "out" / "a_colours.png"), trained.palette[class_ids]
    )
    saved = np.load(tmp_path / "out" / "a_probabilities.npz")
    probabilities = saved["probabilities"].astype(np.float32)
    assert probabilities.shape == (33, 45, 3)
    assert saved["class_names"].tolist() == ["pet", "background", "border"]
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=2e-3)
    # Different values may be equal in float16.
    predicted = np.take_along_axis(probabilities, class_ids[..., None].astype(int), -1)[..., 0]
    np.testing.assert_array_equal(predicted, probabilities.max(-1))
    overlay = read(tmp_path / "out" / "a_overlay.jpg").astype(int)
    drawn = pictures.overlay(smooth, class_ids, trained.palette)
    assert np.abs(overlay - drawn).mean() < 8  # a small JPEG


def test_a_picture_is_turned_as_its_exif_tag_says(predict, tmp_path):
    picture = Image.fromarray(random_picture(40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    (tmp_path / "turned.jpg").write_bytes(encoded(picture, "JPEG", exif=exif))
    assert predict([tmp_path / "turned.jpg"], tmp_path / "out") == 0
    assert read(tmp_path / "out" / "turned_mask.png").shape == (40, 20)


def test_two_pictures_with_the_same_output_are_refused(tmp_path):
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(UserError, match=r"a\.jpg and .*a\.png would both write"):
        list_jobs([str(tmp_path)], str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("path", "message"),
    [("absent.jpg", "no such file"), (".", "no picture or video in")],
)
def test_paths_without_a_picture_are_refused(tmp_path, path, message):
    with pytest.raises(UserError, match=message):
        list_jobs([str(tmp_path / path)], str(tmp_path / "out"))


def test_paths_are_read_from_standard_input(predict, tmp_path, monkeypatch):
    for name in ("a b", "c"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    lines = io.StringIO(f"{tmp_path}/a b.png\n\n{tmp_path}/c.png\n")
    monkeypatch.setattr("sys.stdin", lines)
    assert predict(["-"], tmp_path / "out") == 0
    assert [n for n in names_below(tmp_path / "out") if "mask" in n] == [
        "a b_mask.png",
        "c_mask.png",
    ]


def test_a_list_of_a_windows_editor_on_standard_input_loses_no_name(tmp_path, monkeypatch):
    for name in ("a b", "c"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    lines = f"\ufeff{tmp_path}/a b.png\r\n\r\n{tmp_path}/c.png\r\n"
    # As Python opens it on Linux: nothing is translated.
    stream = io.TextIOWrapper(io.BytesIO(lines.encode()), encoding="utf-8", newline="\n")
    monkeypatch.setattr("sys.stdin", stream)
    jobs = list_jobs(["-"], str(tmp_path / "out"))
    assert [job.source.name for job in jobs] == ["a b.png", "c.png"]


@pytest.mark.parametrize("colours", [["#010203"], ["#010203"] * 4])
def test_a_wrong_number_of_colours_is_refused(trained, colours):
    parsed = outputs.parse_colours(colours)
    message = f"has {len(colours)} colours, the model 3 classes: pet, b"
    with pytest.raises(UserError, match=message):
        outputs.replace_colours(trained.palette, trained.label_map.names, parsed)


def test_colours_replace_those_of_the_classes_alone(trained):
    names = trained.label_map.names
    colours = outputs.parse_colours(["#010203", "#0405ff", "#a0b0c0"])
    table = outputs.replace_colours(trained.palette, names, colours)
    assert table[:3].tolist() == [[1, 2, 3], [4, 5, 255], [160, 176, 192]]
    np.testing.assert_array_equal(table[3:], trained.palette[3:])
    np.testing.assert_array_equal(outputs.replace_colours(table, names, []), table)


@pytest.mark.parametrize("text", ["red", "#12345", "#12345g", ""])
def test_a_malformed_colour_is_refused(text):
    with pytest.raises(UserError, match="is not of the form #rrggbb"):
        outputs.parse_colours(["#000000", text])


def test_a_workdir_without_a_checkpoint_is_refused(run_dir, tmp_path):
    for name in ("config.json", "manifest.json"):
        (tmp_path / name).write_bytes((run_dir / name).read_bytes())
    with pytest.raises(UserError, match="holds no checkpoint; train first"):
        trained_model.load_trained_model(str(tmp_path))


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_picture_is_skipped_alone(predict, tmp_path, data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"]))
    content = bytearray(encoded(Image.fromarray(random_picture(24, 18)), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    (tmp_path / "bad.jpg").write_bytes(content)
    Image.new("RGB", (9, 7)).save(tmp_path / "good.png")
    output = tmp_path / "out"
    for path in output.glob("*"):
        path.unlink()
    paths = [tmp_path / "bad.jpg", tmp_path / "good.png"]
    failed = predict(paths, output, (outputs.CLASS_IDS,))
    assert failed in (0, 1)
    assert read(output / "good_mask.png").shape == (7, 9)
    assert (output / "bad_mask.png").exists() == (failed == 0)
    assert len(names_below(output)) == 2 - failed


def write_video(path: Path, frames: int, faststart: bool = True) -> None:
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 46, 34, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(random_picture(46, 34, index), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def frames_of(path: Path) -> list[np.ndarray]:
    return [frame.pixels for frame in video.frames(path)]


def test_a_video_is_predicted_frame_by_frame(predict, tmp_path):
    write_video(tmp_path / "clip.mp4", 7)
    kinds = (outputs.CLASS_IDS, outputs.OVERLAY, outputs.PROBABILITIES)
    assert predict([tmp_path / "clip.mp4"], tmp_path / "out", kinds) == 0
    originals = frames_of(tmp_path / "clip.mp4")
    assert names_below(tmp_path / "out") == sorted(
        ["clip_overlay.mp4"]
        + [f"clip_mask/{i:06d}.png" for i in range(7)]
        + [f"clip_probabilities/{i:06d}.npz" for i in range(7)]
    )
    assert len(frames_of(tmp_path / "out" / "clip_overlay.mp4")) == 7
    assert video.frame_rate(tmp_path / "out" / "clip_overlay.mp4") == RATE
    # The same as for the frames as pictures.
    for index, frame in enumerate(originals):
        Image.fromarray(frame).save(tmp_path / f"f{index}.png")
    stills = [tmp_path / f"f{index}.png" for index in range(7)]
    predict(stills, tmp_path / "stills", (outputs.CLASS_IDS,))
    for index in range(7):
        np.testing.assert_array_equal(
            read(tmp_path / "out" / "clip_mask" / f"{index:06d}.png"),
            read(tmp_path / "stills" / f"f{index}_mask.png"),
        )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_frames_of_a_video_that_ends_early_are_kept(predict, tmp_path, capfd, suffix):
    path = tmp_path / f"clip{suffix}"
    write_video(path, 20, faststart=suffix == ".mp4")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert predict([path], tmp_path / "out") == 1
    assert f"clip{suffix}: ends after " in capfd.readouterr().err
    kept = len(list((tmp_path / "out" / "clip_mask").iterdir()))
    assert 3 < kept < 20
    assert len(frames_of(tmp_path / "out" / "clip_overlay.mp4")) == kept
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_frames_of_an_earlier_video_are_replaced_but_other_files_are_not_lost(predict, tmp_path):
    folder = tmp_path / "out" / "clip_mask"
    for earlier in (folder, folder.with_name("clip_mask.tmp")):
        earlier.mkdir(parents=True)
        (earlier / "000099.png").write_bytes(b"of an earlier command")
    write_video(tmp_path / "clip.mp4", 3)
    assert predict([tmp_path / "clip.mp4"], tmp_path / "out") == 0
    assert names_below(folder) == [f"{index:06d}.png" for index in range(3)]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="clip_mask holds more than frames"):
        predict([tmp_path / "clip.mp4"], tmp_path / "out")
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_file_that_is_no_video_is_skipped_alone(predict, tmp_path, capfd):
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    Image.new("RGB", (9, 7)).save(tmp_path / "good.png")
    assert predict([tmp_path], tmp_path / "out") == 1
    assert "a.mp4: cannot be read" in capfd.readouterr().err
    assert names_below(tmp_path / "out") == ["good_mask.png", "good_overlay.jpg"]


def test_an_unknown_kind_of_output_is_one_line(run_dir):
    done = run_module(
        *(
            "-m",
            "petseg.predict",
            f"--workdir={run_dir}",
            "--output_dir=x",
            "--write=masks",
            "a.jpg",
        )
    )
    assert_one_line_error(done, 2, "--write: 'masks' is not one of class_ids, colours")
    assert not (ROOT / "x").exists()
