import re

import pytest
from testing import toy_shapes
from testing.annotations import coco, draw_images, flat_box, write_json
from testing.commands import run_module
from testing.conversion import convert

from petseg.conversion import dry_run
from petseg.conversion.convert import ConvertOptions
from petseg.conversion.sources.base import hash_order
from petseg.errors import UserError


@pytest.fixture
def shapes(tmp_path):
    toy_shapes.draw_folders(tmp_path / "raw", count=24, seed=0)
    return tmp_path / "raw"


def look(raw, **changes):
    options = {
        **{"output_dir": f"{raw.parent}/out", "source": "folders", "raw_dir": str(raw)},
        **{"classes": f"{raw}/classes.csv", "workers": 1, "validation_fraction": 0.25, **changes},
    }
    return dry_run.look(ConvertOptions(**options), sample=8, show_progress=False)


def test_a_look_finds_what_conversion_finds_and_writes_nothing(shapes):
    (shapes / "images" / "shape_0001.jpg").unlink()
    before = sorted(shapes.parent.rglob("*"))
    found = look(shapes)
    assert sorted(shapes.parent.rglob("*")) == before
    finished = convert(
        shapes, shapes.parent / "out", source="folders", classes=f"{shapes}/classes.csv"
    )
    assert found.images_per_split == {
        split: finished.splits[split].records if split in finished.splits else 0
        for split in ("train", "validation", "test")
    }
    assert found.split_by == finished.source["split_by"]
    assert tuple(found.not_listed) == finished.unplaced
    assert found.records == 8
    assert found.sampled.raw_labels == finished.raw_labels
    names = sorted(
        (p.stem for p in (shapes / "images").iterdir()), key=lambda n: hash_order(f"sample {n}")
    )
    assert found.pairs == tuple(
        (n, f"{shapes}/images/{n}.jpg", f"{shapes}/masks/{n}.png") for n in names[:3]
    )


def test_a_look_names_what_is_bad_in_the_sample(shapes, capsys):
    for path in (shapes / "masks").iterdir():
        path.write_bytes(path.read_bytes()[:60])
    found = look(shapes)
    assert found.records == 0
    assert len(found.rejected) == 8
    assert {f.reason for f in found.rejected} == {
        f.reason for f in found.rejected if "mask" in f.reason
    }


def test_a_look_reads_no_picture_for_splits(shapes):
    found = look(shapes, keep_together=("near_duplicates", r"\d$"), stratify="presence")
    assert len([w for w in found.warnings if "which this look does not" in w]) == 2
    assert "group of --keep_together (10 groups, 0 images alone)" in found.split_by


def test_a_wrong_option_is_refused_as_in_conversion(shapes):
    with pytest.raises(UserError, match="--several_masks is of --source=folders"):
        look(shapes, source="oxford_iiit_pet", classes="", several_masks=True)


def test_the_command_prints_itself_and_leaves_no_folder(shapes):
    out = shapes.parent / "new" / "out"
    flags = ["--source=folders", f"--raw_dir={shapes}", f"--classes={shapes}/classes.csv"]
    done = run_module("-m", "petseg.convert", *flags, "--dry_run", f"--output_dir={out}")
    assert done.returncode == 0, done.stderr
    assert not out.parent.exists()
    assert f"to convert: petseg-convert {' '.join(flags)} --output_dir={out}\n" in done.stdout
    assert "sample          24 of 24, 24 of them good" in done.stdout


def test_a_look_names_the_file_of_an_annotation_and_of_a_record(shapes, tmp_path):
    names = ["a.jpg", "b.jpg", "c.jpg"]
    folder = draw_images(tmp_path / "coco", names)
    square = {"category_id": 1, "segmentation": [flat_box(1, 1, 9, 9)]}
    content = coco(dict(enumerate(names)), [{**square, "image_id": i} for i in range(3)], {1: "x"})
    path = write_json(folder / "a.json", content)
    found = look(folder, source="coco", classes="")
    assert {(image, mask) for _, image, mask in found.pairs} == {
        (f"{folder}/{name}", f"drawn from {path}") for name in names
    }
    convert(shapes, tmp_path / "records", source="folders", classes=f"{shapes}/classes.csv")
    for _, _, mask in look(tmp_path / "records", source="tfrecord", classes="").pairs:
        assert re.fullmatch(rf"in {tmp_path}/records/data-.*-of-\d{{5}}", mask)
