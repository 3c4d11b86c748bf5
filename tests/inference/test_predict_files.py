"""Predict: pictures, folders, videos, what is written, and input of every bad kind."""

import dataclasses
import io
import json
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.autograph import autograph_forbidden
from testing.command_processes import ROOT
from testing.commands import assert_one_line_error, run_module, run_python
from testing.conversion import encoded

from petseg.conversion import masks
from petseg.conversion.sources.base import MaskRules
from petseg.data import picture_file, record
from petseg.data.image_range import parse_image_range
from petseg.errors import UserError
from petseg.inference import output_files, output_kinds, outputs, picture_pipeline, video
from petseg.inference import predictor as predictor_module
from petseg.inference.jobs import plan_jobs
from petseg.inference.outputs import OutputOptions
from petseg.inference.predict_files import predict_files
from petseg.inference.predictor import make_predictor
from petseg.inference.tta import TtaOptions
from petseg.run_dir import trained_model
from petseg.visualization import pictures

RATE = 10
ALL = output_kinds.OF_EACH


@pytest.fixture(scope="module")
def trained(run_dir):
    return trained_model.load_trained_model(str(run_dir))


@pytest.fixture(scope="module")
def predict(trained):
    """A function that predicts files and gives the number of failures."""
    predictor = make_predictor(trained, TtaOptions(), 3)

    def predict(paths, output, kinds=(outputs.CLASS_IDS, outputs.OVERLAY)):
        jobs = plan_jobs([str(path) for path in paths], str(output), kinds).jobs
        options = OutputOptions(kinds, trained.label_map.names, trained.palette)
        with autograph_forbidden():
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


def names_and_contents(folder):
    return {name: (folder / name).read_bytes() for name in names_below(folder)}


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
    assert f"skipped 1 (no picture or video by their suffix): {folder}/notes.txt" in done.stderr
    assert "broken.jpg: cannot be read" in done.stderr
    assert "empty.png: cannot be read" in done.stderr
    assert names_below(output) == sorted(
        f"{name.rpartition('.')[0]}_{kind}" for name in good for kind in ("mask.png", "overlay.jpg")
    )
    for name, size in good.items():
        stem = output / name.rpartition(".")[0]
        with Image.open(f"{stem}_mask.png") as mask, Image.open(f"{stem}_overlay.jpg") as overlay:
            assert mask.size == overlay.size == size
            assert mask.mode == "P"
            assert set(np.unique(mask)) <= {0, 1, 2}


def test_ground_truth_beside_the_images_is_never_replaced(tmp_path):
    for name in ("x.jpg", "x_mask.png", "sub/x.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(random_picture(20, 10)).save(tmp_path / name)
    kept = names_and_contents(tmp_path)
    with pytest.raises(UserError, match=r"x_mask\.png is there already, and petseg-predict did no"):
        plan_jobs([str(tmp_path)], str(tmp_path), ALL)
    assert names_and_contents(tmp_path) == kept
    # An unknown file in a place that is only known when it is written.
    with (
        pytest.raises(UserError, match="did not make; name another folder"),
        output_files.writing(tmp_path / "x_mask.png"),
    ):
        pytest.fail("it was opened")
    assert names_and_contents(tmp_path) == kept


@pytest.mark.parametrize("output", [".", "sub", "sub/out"])
def test_a_second_run_replaces_its_own_outputs_and_reads_none(predict, tmp_path, output):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.jpg"):
        Image.fromarray(random_picture(20, 10)).save(tmp_path / name)
    write_video(tmp_path / "clip.mp4", 2)
    assert predict([tmp_path], tmp_path / output, ALL) == 0
    first = names_and_contents(tmp_path)
    (tmp_path / output / "a_mask.png").write_bytes(output_files.MARK)  # of an older petseg-predict
    plan = plan_jobs([str(tmp_path)], str(tmp_path / output), ALL)
    assert sorted(job.source.name for job in plan.jobs) == ["a.png", "b.jpg", "clip.mp4"]
    # Masks, colours and overlays of three inputs, a frame more; npz files are no pictures.
    assert any(note.startswith("skipped 10 (made by petseg-predict): ") for note in plan.notes)
    assert predict([tmp_path], tmp_path / output, ALL) == 0
    again = names_and_contents(tmp_path)
    assert again.keys() == first.keys()
    videos = {name for name in first if name.endswith(".mp4")}
    assert {n: c for n, c in again.items() if n not in videos} == {
        n: c for n, c in first.items() if n not in videos
    }


def test_an_own_output_that_was_moved_or_is_named_is_not_predicted(predict, tmp_path):
    Image.fromarray(random_picture(20, 10)).save(tmp_path / "a.png")
    assert predict([tmp_path / "a.png"], tmp_path / "out") == 0
    for name in ("a_mask.png", "a_overlay.jpg"):
        with pytest.raises(UserError, match=rf"no picture .*made by petseg-predict\): .*{name}"):
            plan_jobs([str(tmp_path / "out" / name)], str(tmp_path / "more"), ALL)


def test_a_mask_holds_class_ids_that_other_programs_show_in_the_classes_colours(
    predict, trained, tmp_path
):
    Image.fromarray(random_picture(45, 33)).save(tmp_path / "a.png")
    assert predict([tmp_path / "a.png"], tmp_path / "out", (*ALL[:2], outputs.PROBABILITIES)) == 0
    content = (tmp_path / "out" / "a_mask.png").read_bytes()
    probabilities = np.load(tmp_path / "out" / "a_probabilities.npz")["probabilities"]
    class_ids = read(tmp_path / "out" / "a_mask.png")
    likely = np.take_along_axis(probabilities, class_ids[..., None].astype(int), -1)[..., 0]
    np.testing.assert_array_equal(likely, probabilities.max(-1))
    assert content[24:26] == bytes([8, 3])  # 8 bits a pixel, with a palette
    np.testing.assert_array_equal(  # another decoder, which resolves the palette
        tf.io.decode_png(content, channels=3).numpy(), read(tmp_path / "out" / "a_colours.png")
    )
    # As masks of a new data set they have the same ids.
    checked = masks.check_mask(content, MaskRules(None))
    np.testing.assert_array_equal(record.decode_mask(checked.encoded)[..., 0], class_ids)
    of_colours = {tuple(c): i for i, c in enumerate(trained.palette[:3].tolist())}
    checked = masks.check_mask(content, MaskRules({0: "a", 1: "b", 2: "c"}, of_colours))
    np.testing.assert_array_equal(record.decode_mask(checked.encoded)[..., 0], class_ids)


def test_a_picture_of_many_bits_is_scaled_by_the_range_of_the_data_set(trained, tmp_path):
    grey = random_picture(45, 33)[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(grey.astype(np.uint16) * 16 + 100).save(tmp_path / "deep.png")
    Image.fromarray(grey.astype(np.float32) * 16 + 100).save(tmp_path / "real.tif")
    ranged = dataclasses.replace(trained, image_range=parse_image_range("100,4180"))
    files = [str(tmp_path / name) for name in ("a.png", "deep.png", "real.tif")]
    kinds = (outputs.PROBABILITIES,)
    jobs = plan_jobs(files, str(tmp_path / "out"), kinds).jobs
    options = OutputOptions(kinds, trained.label_map.names, trained.palette)
    assert predict_files(make_predictor(ranged, TtaOptions(), 3), jobs, options) == 0
    found = [
        np.load(tmp_path / "out" / f"{name}_probabilities.npz")["probabilities"]
        for name in ("a", "deep", "real")
    ]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_range_is_that_of_the_runs_own_manifest(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    path = tmp_path / "run" / "manifest.json"
    assert trained_model.load_trained_model(str(run_dir)).image_range is None
    content = json.loads(path.read_text())
    content["source"]["image_range"] = "1%,99%"
    path.write_text(json.dumps(content))
    found = trained_model.load_trained_model(str(tmp_path / "run")).image_range
    assert found == parse_image_range("1%,99%")


def test_two_files_of_one_name_keep_their_suffixes(predict, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.tif", "a.png.jpg", "b.png"):
        Image.fromarray(random_picture(9, 7)).save(tmp_path / "in" / name)
    plan = plan_jobs([str(tmp_path / "in")], str(tmp_path / "out"), ALL)
    (note,) = plan.notes
    assert "outputs of files with one name keep the suffix: " in note
    assert all(f"in/{name}" in note for name in ("a.png", "a.tif", "a.png.jpg"))
    assert predict([tmp_path / "in"], tmp_path / "out", (outputs.CLASS_IDS,)) == 0
    assert names_below(tmp_path / "out") == [
        "a.png.jpg_mask.png",
        "a.png_mask.png",
        "a.tif_mask.png",
        "b_mask.png",
    ]


def test_what_a_folder_holds_besides_pictures_is_named(tmp_path):
    folder = tmp_path / "in"
    for name in (".cache/a.png", "real/b.png"):
        (folder / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    Image.new("RGB", (8, 8)).save(folder / "c.jfif", "JPEG")
    (folder / "d.avif").write_bytes(b"")
    (folder / "._c.jpg").write_bytes(b"of macOS")
    (folder / "linked").symlink_to(tmp_path)
    plan = plan_jobs([str(folder)], str(tmp_path / "out"), ALL)
    assert sorted(job.source.name for job in plan.jobs) == ["b.png", "c.jfif"]
    assert sorted(plan.notes) == [
        f"skipped 1 (in hidden folders): {folder}/.cache",
        f"skipped 1 (links to folders): {folder}/linked",
        f"skipped 1 (no picture or video by their suffix): {folder}/d.avif",
    ]


@pytest.mark.parametrize("suffix", [".png", ".mp4"])
def test_what_is_no_regular_file_fails_alone_and_at_once(predict, tmp_path, capfd, suffix):
    os.mkfifo(tmp_path / f"fifo{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    Image.new("RGB", (9, 7)).save(tmp_path / "good.png")
    assert predict([tmp_path], tmp_path / "out", (outputs.CLASS_IDS,)) == 2
    told = capfd.readouterr().err
    assert f"fifo{suffix}: cannot be read: it is a FIFO, not a regular file" in told
    assert f"zero{suffix}: cannot be read: it is a device, not a regular file" in told
    assert names_below(tmp_path / "out") == ["good_mask.png"]


def test_a_picture_that_no_overlay_can_hold_fails_alone(predict, tmp_path, capfd):
    Image.new("RGB", (65_501, 2)).save(tmp_path / "long.png")
    Image.new("RGB", (9, 7)).save(tmp_path / "good.png")
    assert predict([tmp_path], tmp_path / "out", (outputs.OVERLAY,)) == 1
    assert "long.png: cannot be written: an overlay is a JPEG, of at" in capfd.readouterr().err
    assert names_below(tmp_path / "out") == ["good_overlay.jpg"]


def test_deep_and_transparent_pictures_are_predicted_as_what_they_show(predict, tmp_path):
    grey = np.array(Image.fromarray(random_picture(9, 7)).convert("L").resize((45, 33)))
    Image.fromarray(grey).save(tmp_path / "shallow.png")
    for kind in ("png", "tif"):
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / f"deep_{kind}.{kind}")
    clear = np.zeros((33, 45, 4), np.uint8)
    clear[:9] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.new("RGB", (45, 33), "white").save(tmp_path / "white.png")
    assert predict([tmp_path], tmp_path / "out", (outputs.PROBABILITIES,)) == 0

    def found(name):
        return np.load(tmp_path / "out" / f"{name}_probabilities.npz")["probabilities"]

    for name, same in (("deep_png", "shallow"), ("deep_tif", "shallow"), ("clear", "white")):
        np.testing.assert_allclose(found(name), found(same), atol=1e-3)


def test_a_large_picture_is_predicted_in_strips_as_a_whole(predict, tmp_path, monkeypatch):
    Image.fromarray(random_picture(90, 70)).save(tmp_path / "a.png")
    assert predict([tmp_path], tmp_path / "whole", ALL) == 0
    monkeypatch.setattr(predictor_module, "_STRIP_VALUES", 1000)
    monkeypatch.setattr(outputs, "_DRAWN_PIXELS", 500)
    monkeypatch.setattr(picture_pipeline, "_BYTES_IN_FLIGHT", 1)
    assert predict([tmp_path / "a.png"], tmp_path / "strips", ALL) == 0
    assert names_and_contents(tmp_path / "strips") == names_and_contents(tmp_path / "whole")


def test_all_kinds_of_output_agree(predict, trained, tmp_path):
    smooth = np.tile(np.linspace(0, 255, 45).astype(np.uint8)[None, :, None], (33, 1, 3))
    Image.fromarray(smooth).save(tmp_path / "a.png")
    assert predict([tmp_path / "a.png"], tmp_path / "out", ALL) == 0
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
    drawn = pictures.overlay(smooth, class_ids, trained.palette, [0, 2])
    assert np.abs(overlay - drawn).mean() < 8  # a small JPEG


def test_a_picture_is_turned_as_its_exif_tag_says(predict, tmp_path):
    picture = Image.fromarray(random_picture(40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    (tmp_path / "turned.jpg").write_bytes(encoded(picture, "JPEG", exif=exif))
    assert predict([tmp_path / "turned.jpg"], tmp_path / "out") == 0
    assert read(tmp_path / "out" / "turned_mask.png").shape == (40, 20)


def test_pictures_with_the_same_output_in_two_folders_are_refused(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a.jpg")
    with pytest.raises(UserError, match=r"one/a\.jpg and .*two/a\.jpg would both write"):
        plan_jobs([str(tmp_path / "one"), str(tmp_path / "two")], str(tmp_path / "out"), ALL)


@pytest.mark.parametrize(
    ("path", "message"),
    [("absent.jpg", "no such file"), (".", "no picture or video in")],
)
def test_paths_without_a_picture_are_refused(tmp_path, path, message):
    with pytest.raises(UserError, match=message):
        plan_jobs([str(tmp_path / path)], str(tmp_path / "out"), ALL)


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
    jobs = plan_jobs(["-"], str(tmp_path / "out"), ALL).jobs
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


def test_frames_past_the_limit_of_pictures_are_not_decoded(predict, tmp_path, capfd, monkeypatch):
    write_video(tmp_path / "clip.mp4", 2)
    monkeypatch.setattr(picture_file, "MAX_PIXELS", 46 * 34 - 1)
    assert predict([tmp_path / "clip.mp4"], tmp_path / "out") == 1
    assert "clip.mp4: cannot be read: it claims frames of 46x34 px" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


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
    write_video(tmp_path / "clip.mp4", 5)
    assert predict([tmp_path / "clip.mp4"], tmp_path / "out") == 0
    write_video(tmp_path / "clip.mp4", 3)
    assert predict([tmp_path / "clip.mp4"], tmp_path / "out") == 0
    assert names_below(folder) == [f"{index:06d}.png" for index in range(3)]
    Image.new("L", (4, 4)).save(folder / "000099.png")  # a frame of the user's
    kept = names_and_contents(tmp_path / "out")
    with pytest.raises(UserError, match="clip_mask holds files that petseg-predict did not make"):
        predict([tmp_path / "clip.mp4"], tmp_path / "out")
    assert names_and_contents(tmp_path / "out") == kept


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


PEAK_MEMORY = """
import resource, sys
from petseg.inference import jobs, outputs, predict_files, predictor, tta
from petseg.run_dir import trained_model

run_dir, folder, output = sys.argv[1:]
trained = trained_model.load_trained_model(run_dir)
options = outputs.OutputOptions((outputs.CLASS_IDS,), trained.label_map.names, trained.palette)
plan = jobs.plan_jobs([folder], output, options.kinds)
predict = predictor.make_predictor(trained, tta.TtaOptions(), 8)
assert predict_files.predict_files(predict, plan.jobs, options) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
def test_memory_is_bounded_by_what_is_under_way(run_dir, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (6000, 4000)).save(tmp_path / "in" / "0.png")
    for index in range(1, 12):
        shutil.copy(tmp_path / "in" / "0.png", tmp_path / "in" / f"{index}.png")
    done = run_python("-c", PEAK_MEMORY, run_dir, tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    peak_bytes = int(done.stdout) * 1024
    # TensorFlow, what is under way, and as much again; a picture has 0.3 GiB of probabilities.
    assert peak_bytes < 2 << 30
