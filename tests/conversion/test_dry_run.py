import pytest
from testing import toy_shapes
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
