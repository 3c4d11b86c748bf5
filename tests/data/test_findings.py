import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from testing.conversion import files_of

import petseg
from petseg.conversion import review
from petseg.data import findings, manifest, shard_hashes
from petseg.data.manifest import Finding, Shard
from petseg.errors import UserError

HASH = "0" * 64


def shard(index: int, rejected=(), repaired=()) -> Shard:
    return Shard(f"s{index}", 3, 300, HASH, HASH, {}, 3, 3, tuple(repaired), tuple(rejected))


def numbered(count: int, split: str) -> list[Finding]:
    return [Finding(f"{split} é {i}", split, f"reason {i}") for i in range(count)]


@pytest.mark.parametrize("most", [0, 3, 8, 9, 14, 100])
def test_few_stay_in_the_manifest_and_many_are_all_in_the_file(tmp_path, monkeypatch, most):
    monkeypatch.setattr(findings, "MOST_IN_MANIFEST", most)
    unplaced, bad, mended = numbered(4, ""), numbered(5, "train"), numbered(6, "test")
    shards = [shard(0, bad[:2]), shard(1, bad[2:], mended[:1]), shard(2), shard(3, (), mended[1:])]
    kept_unplaced, kept, file = findings.gather(str(tmp_path), iter(unplaced), iter(shards))
    path = tmp_path / findings.FILE_NAME
    assert bool(file) == path.exists() == (most < 15)
    if not file:
        assert (list(kept_unplaced), kept) == (unplaced, shards)
        return
    assert kept_unplaced == () and kept == [shard(i) for i in range(4)]
    assert (file.rejected, file.repaired) == (9, 6)
    assert file.sha256 == shard_hashes.sha256_of_file(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    whats = [line.pop("what") for line in lines]
    named = [Finding(**line) for line in lines]
    assert named == [*unplaced, *bad, *mended]
    assert whats == ["rejected"] * 9 + ["repaired"] * 6
    assert [p.name for p in tmp_path.iterdir()] == [findings.FILE_NAME]


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A data set with more findings than its manifest holds."""
    monkeypatch.setattr(findings, "MOST_IN_MANIFEST", 5)
    raw = draw_folders(tmp_path / "raw")
    out = str(tmp_path / "out")
    return raw, out, petseg.convert(raw, out, **ARGUMENTS)


ARGUMENTS = {"source": "folders", "workers": 1, "show_progress": False, "accept_losses": True}


def draw_folders(folder) -> str:
    """Nine pairs of which three are bad, and four images without a mask."""
    rng = np.random.default_rng(1)
    for side in ("images", "masks"):
        (folder / side).mkdir(parents=True)
    for i in range(13):
        Image.fromarray(rng.integers(0, 255, (8, 9, 3), np.uint8)).save(
            folder / "images" / f"{i}.png"
        )
        if i < 9:
            Image.fromarray(rng.integers(0, 2, (8, 9), np.uint8)).save(
                folder / "masks" / f"{i}.png"
            )
    for i in range(3):
        (folder / "masks" / f"{i}.png").write_bytes(b"")
    return str(folder)


def test_a_data_set_of_many_findings_is_reviewed_as_one_of_few(many, monkeypatch, tmp_path):
    raw, out, finished = many
    assert finished == manifest.read_manifest(out)
    assert finished.findings and not finished.rejected and not finished.repaired
    monkeypatch.setattr(findings, "MOST_IN_MANIFEST", 1000)
    few = petseg.convert(raw, str(tmp_path / "few"), **ARGUMENTS)
    assert few.findings is None
    assert list(findings.rejected(out, finished)) == list(few.rejected)
    assert list(findings.repaired(out, finished)) == list(few.repaired)
    assert findings.count(finished) == findings.count(few) == {"repaired": 6, "rejected": 7}
    assert review.losses(finished, out) == review.losses(few, "") != []
    assert "findings" not in json.loads((tmp_path / "few" / "manifest.json").read_text())


def test_it_is_recognized_when_converted_again_and_a_lost_shard_comes_back(many):
    raw, out, finished = many
    before = files_of(Path(out))
    (Path(out) / finished.splits["train"].shards[0].name).unlink()
    assert petseg.convert(raw, out, **ARGUMENTS) == finished
    assert files_of(Path(out)) == before


def test_a_damaged_file_of_findings_is_one_line(many):
    _, out, finished = many
    path = Path(out) / findings.FILE_NAME
    assert findings.fault(out, finished) is None
    path.write_text(path.read_text() + "{}\n")
    assert findings.fault(out, finished) == f"{path} differs from its manifest (SHA-256)"
    with pytest.raises(UserError, match=r"findings.jsonl, line \d+, is damaged: what: "):
        list(findings.rejected(out, finished))
    path.unlink()
    assert findings.fault(out, finished) == f"{path} is missing"
    with pytest.raises(UserError, match=r"findings.jsonl cannot be read: No such file"):
        list(findings.rejected(out, finished))
