import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from petseg.conversion import near_duplicates
from petseg.conversion.files import stored_file
from petseg.conversion.sources.base import FilePair, MaskRules, SourceExample

SEED = 7


def photograph(seed, side=192):
    """A smooth random picture, as photographs are at the size of thumbnails."""
    cells = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)
    return Image.fromarray(cells).resize((side * 5 // 4, side), Image.Resampling.BICUBIC)


def encoded(picture, kind="JPEG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


ALTERED = {
    "re-encoded": lambda p: encoded(p, quality=30),
    "lossless": lambda p: encoded(p, "PNG"),
    "halved": lambda p: encoded(p.resize((p.width // 2, p.height // 2)), quality=90),
    "brighter": lambda p: encoded(ImageEnhance.Brightness(p).enhance(1.2)),
    "cropped": lambda p: encoded(p.crop((3, 2, p.width - 2, p.height - 2)), quality=80),
    "grey": lambda p: encoded(p.convert("L")),
    "palette": lambda p: encoded(p.convert("P"), "PNG"),
}


def write(folder, images, masks=None):
    """One example for each image's bytes, in order; its mask is 16x16 px of one value."""
    examples = []
    for index, content in enumerate(images):
        image, mask = folder / f"{index}.jpg", folder / f"{index}.png"
        image.write_bytes(content)
        labels = np.full((16, 16), masks[index] if masks else 0, np.uint8)
        mask.write_bytes(encoded(Image.fromarray(labels), "PNG"))
        pair = FilePair(stored_file(str(image)), stored_file(str(mask)))
        examples.append(SourceExample(f"n{index}", "train", pair))
    return examples


def find(examples, workers=1):
    return near_duplicates.find(examples, workers=workers, show_progress=False)


@pytest.mark.parametrize("kind", ALTERED)
def test_an_altered_copy_is_found_among_others(tmp_path, kind):
    others = [photograph([SEED, index]) for index in range(20)]
    images = [*(encoded(p, quality=95) for p in others), ALTERED[kind](others[4])]
    assert find(write(tmp_path, images)) == [(4, 20)]


def test_pictures_of_one_colour_and_damaged_ones_look_like_none(tmp_path):
    flat = [encoded(Image.new("RGB", (40, 30), colour)) for colour in ("black", "black", "white")]
    images = [*flat, b"", b"none", encoded(photograph(1))[:200], encoded(photograph(1))]
    assert find(write(tmp_path, images)) == []


def test_workers_and_order_do_not_matter(tmp_path):
    pictures = [photograph([SEED, index % 9]) for index in range(30)]
    images = [encoded(p, quality=50 + i) for i, p in enumerate(pictures)]
    examples = write(tmp_path, images)
    expected = [(i, j) for i in range(30) for j in range(i + 1, 30) if (j - i) % 9 == 0]
    assert find(examples) == find(examples, workers=2) == expected
    turned = [(29 - j, 29 - i) for i, j in find(examples[::-1])]
    assert sorted(turned) == expected


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 40), rows=st.integers(1, 17))
def test_all_pairs_are_compared_whatever_the_blocks(seed, count, rows):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2, (3, 512), np.uint8)
    flips = rng.random((count, 512)) < rng.choice([0.02, 0.1, 0.25], (count, 1))
    bits = base[rng.integers(0, 3, count)] ^ flips
    greys = rng.integers(0, 256, (2, 256), np.uint8)[rng.integers(0, 2, count)]
    packed = np.packbits(bits, axis=1).view(np.uint64)
    expected = [
        (i, j)
        for i in range(count)
        for j in range(i + 1, count)
        if (bits[i] != bits[j]).sum() <= 100 and np.corrcoef(greys[i], greys[j])[0, 1] >= 0.9 - 1e-9
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_ROWS_AT_ONCE", rows)
        starts = range(0, count, rows)
        found = near_duplicates._compare(packed, greys, starts, lambda: None)
    assert sorted(map(tuple, found.tolist())) == expected


def test_look_alikes_whose_masks_disagree_are_named_the_worst_first(tmp_path):
    picture = encoded(photograph(1))
    examples = write(tmp_path, [picture] * 3, masks=[1, 1, 2])
    half = np.repeat(np.uint8([[1] * 8 + [2] * 8]), 16, 0)
    (tmp_path / "1.png").write_bytes(encoded(Image.fromarray(half), "PNG"))
    links = find(examples)
    assert links == [(0, 1), (0, 2), (1, 2)]
    found = near_duplicates.disagreements(
        examples, links, MaskRules(None), workers=1, show_progress=False
    )
    assert [(of.names, of.agreement) for of in found] == [
        (("n0", "n2"), 0.0),
        (("n0", "n1"), 0.5),
        (("n1", "n2"), 0.5),
    ]
    (tmp_path / "2.png").write_bytes(b"")
    found = near_duplicates.disagreements(
        examples, links, MaskRules(None), workers=1, show_progress=False
    )
    assert [of.names for of in found] == [("n0", "n1")]


def test_all_columns_are_compared_a_block_at_a_time(monkeypatch):
    rng = np.random.default_rng(SEED)
    bits = rng.integers(0, 2**63, (60, 8), dtype=np.uint64)
    greys = rng.integers(0, 255, (60, 256), dtype=np.uint8)
    for one, other in ((3, 41), (20, 21), (0, 59)):
        bits[other], greys[other] = bits[one], greys[one]
    monkeypatch.setattr(near_duplicates, "_COLUMNS_AT_ONCE", 7)
    found = near_duplicates._compare_block(bits, greys, 0)
    assert sorted(found.tolist()) == [[0, 59], [3, 41], [20, 21]]
    assert near_duplicates._compare_block(bits, greys, 20).tolist() == [[20, 21]]
