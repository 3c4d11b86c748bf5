import pytest
from PIL import Image
from testing.conversion import convert

from petseg.data import manifest
from petseg.errors import FaultFound
from petseg.input_pipeline.raw_values import raw_values


def test_masks_that_were_never_decoded_are_decoded(raw_pets, tmp_path, capsys):
    finished = convert(raw_pets, tmp_path / "out", validate="header")
    for split in finished.splits.values():
        assert split.pixels_per_label == {}
        assert raw_values(str(tmp_path / "out"), split) == {1, 2, 3}
    assert "never decoded" in capsys.readouterr().err


def test_counts_of_the_manifest_are_used(data_dir, capsys):
    split = manifest.read_manifest(str(data_dir)).splits["train"]
    assert raw_values("/absent", split) == {1, 2, 3}
    assert capsys.readouterr().err == ""


def test_a_value_that_no_label_map_covers_is_reported(pets, tmp_path):
    path = pets / "annotations" / "trimaps" / "Slate_1.png"
    with Image.open(path) as mask:
        mask.putpixel((0, 0), 77)
        mask.save(path)
    finished = convert(pets, tmp_path / "out", validate="header", validation_fraction=0)
    assert raw_values(str(tmp_path / "out"), finished.splits["train"]) == {1, 2, 3, 77}


def test_a_damaged_mask_is_one_line(pets, tmp_path):
    path = pets / "annotations" / "trimaps" / "Slate_1.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    finished = convert(pets, tmp_path / "out", validate="header", validation_fraction=0)
    with pytest.raises(FaultFound, match="cannot be decoded"):
        raw_values(str(tmp_path / "out"), finished.splits["train"])
