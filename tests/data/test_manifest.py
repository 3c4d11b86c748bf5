import copy
import dataclasses
import hashlib
import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.data import manifest
from petseg.data.manifest import Finding, FindingsFile, Manifest, Shard, Split
from petseg.errors import UserError


def test_what_was_written_is_read_back(tmp_path, finished):
    assert manifest.read_manifest(str(tmp_path)) == finished


def test_a_manifest_shows_its_sums(finished):
    assert repr(finished) == "<Manifest of pets: images 7 train; 2 inputs repaired, 2 rejected>"
    many = dataclasses.replace(finished, findings=FindingsFile(5, 12_000, "0" * 64))
    assert repr(many).endswith("5 inputs repaired, 12,000 rejected>")


COUNTS = st.dictionaries(st.integers(0, 255), st.integers(1, 1 << 50), max_size=3)
FINDINGS = st.lists(st.builds(Finding, st.text(), st.text(), st.text()), max_size=2).map(tuple)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(COUNTS, FINDINGS, FINDINGS, st.text()), min_size=1, max_size=4),
    st.sampled_from([("encoded", 0), ("raw", 5)]),
)
def test_the_text_is_that_of_pythons_json(drawn, stored):
    store, encoded_bytes = stored
    shards = tuple(
        Shard(name, 1, 2, "ab" * 32, "cd" * 32, counts, 3, 4, repaired, rejected, encoded_bytes)
        for counts, repaired, rejected, name in drawn
    )
    split = Split(shards)
    unplaced = (Finding("a", "", "b"),)
    made = Manifest("é", {"by": "x"}, {1: "pet"}, {"train": split}, unplaced, store=store)
    content = {"version": manifest.VERSION, **dataclasses.asdict(made)}
    del content["findings"]
    if store == "encoded":  # as before there were others
        del content["store"]
        for shard in content["splits"]["train"]["shards"]:
            del shard["encoded_bytes"]
    content["splits"]["train"] = {
        "records": split.records,
        "pixels_per_label": split.pixels_per_label,
        "mean_height": split.mean_height,
        "mean_width": split.mean_width,
        **content["splits"]["train"],
    }
    assert manifest.to_json(made) == json.dumps(content, indent=1) + "\n"
    digest = hashlib.sha256(manifest.to_json(made).encode()).hexdigest()
    assert made.digest() == made.digest() == digest


def test_a_split_is_the_sum_of_its_shards(tmp_path, finished):
    split = finished.splits["train"]
    assert split.records == 7
    assert split.bytes == 7 * (16 + len(b"record 0"))
    assert split.pixels_per_label == {1: 80, 2: 60, 3: 60}
    assert split.mean_height == pytest.approx(2001 / 7)
    assert split.mean_width == pytest.approx(4000 / 7)
    assert [f.name for f in finished.repaired] == ["a0", "a1"]
    assert [f.name for f in finished.rejected] == ["b é", "c"]
    written = json.loads((tmp_path / "manifest.json").read_text())["splits"]["train"]
    assert written["records"] == 7
    assert written["pixels_per_label"] == {"1": 80, "2": 60, "3": 60}


def test_any_change_changes_the_digest(finished):
    shard = finished.splits["train"].shards[0]
    other = dataclasses.replace(shard, sha256="0" * 64)
    split = Split((other,))
    assert dataclasses.replace(finished, splits={"train": split}).digest() != finished.digest()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "damaged"),
        ("{}", "damaged"),
        ("[1]", "damaged"),
        ("[" * 100_000, "recursion limit"),
        ('{"version": ' * 100_000, "recursion limit"),
        ('{"version": 2', "EOF"),
        ('{"version": "2"}', "version: should be a valid integer, not '2'"),
        ('{"version": 99}', "version 99"),
        ('{"version": 2, "name": "x"}', "damaged"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path, text, reason):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=reason):
        manifest.read_manifest(str(tmp_path))


def test_a_folder_without_a_manifest_is_no_data_set(tmp_path):
    with pytest.raises(UserError, match=r"no manifest\.json"):
        manifest.read_manifest(str(tmp_path))
    with pytest.raises(UserError, match="no such data set"):
        manifest.read_manifest(str(tmp_path / "absent"))


def test_the_error_of_an_absent_split_names_the_existing_ones(finished):
    with pytest.raises(UserError, match="no split 'test': it has train"):
        finished.split("test", "DIR")


SHARD = ("splits", "train", "shards", 0)


def damaged(content: dict, path: tuple, value: object) -> dict:
    """A copy in which one value is replaced, or removed if the new one is `...`."""
    changed = copy.deepcopy(content)
    *parents, last = path
    inner = changed
    for part in parents:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return changed


def read(folder, content: dict):
    (folder / "manifest.json").write_text(json.dumps(content))
    return manifest.read_manifest(str(folder))


def content_of(folder) -> dict:
    return json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ((*SHARD, "name"), "../../etc/passwd", "splits.train.shards[0].name is '../../etc/passw"),
        ((*SHARD, "name"), "/etc/passwd", "it should be pets-train.tfrecord-00000-of-00002"),
        ((*SHARD, "name"), "pets-train.tfrecord-00001-of-00002", "shards[0].name is"),
        ((*SHARD, "records"), -5, "records: should be greater than or equal to 0, not -5"),
        ((*SHARD, "records"), 0, "splits.train.shards[0].records is 0, it should be 1 to 4"),
        ((*SHARD, "records"), 10**12, "records is 1000000000000, it should be 1 to 4"),
        ((*SHARD, "records"), 4, "splits.train.records is 7, it should be 8, by its shards"),
        ((*SHARD, "records"), "3", "records: should be a valid integer, not '3'"),
        ((*SHARD, "records"), 3.0, "records: should be a valid integer, not 3.0"),
        ((*SHARD, "records"), True, "records: should be a valid integer, not True"),
        ((*SHARD, "records"), None, "records: should be a valid integer, not None"),
        ((*SHARD, "bytes"), 2**63, "bytes: should be less than or equal to"),
        ((*SHARD, "bytes"), math.nan, "bytes: should be a valid integer, not nan"),
        ((*SHARD, "bytes"), ..., "bytes: Field required"),
        ((*SHARD, "sha256"), "0" * 63, "sha256: String should match"),
        ((*SHARD, "height_sum"), 2, "height_sum is 2, it should be 3 to"),
        ((*SHARD, "width_sum"), 10**9, "width_sum is 1000000000, it should be 3 to 196,605"),
        ((*SHARD, "pixels_per_label"), {"999": 5}, "should be less than or equal to 255"),
        ((*SHARD, "pixels_per_label"), {"7": 90}, "splits.train.pixels_per_label is"),
        ((*SHARD, "pixels_per_label", "1"), 10**9, "pixels_per_label is 1000000060"),
        ((*SHARD, "more"), 1, "more: Unexpected keyword argument"),
        ((*SHARD, "repaired", 0, "reason"), 5, "reason: should be a valid string, not 5"),
        ((*SHARD, "repaired", 0, "name"), "\ud800", "hex escape"),
        (("splits", "train", "mean_height"), math.nan, "mean_height: should be a finite number"),
        (("splits", "train", "mean_width"), 5.0, "mean_width is 5.0, it should be 571.4"),
        (("splits", "train", "records"), 8, "records is 8, it should be 7, by its shards"),
        (("splits", "train", "shards"), [], "shards: Tuple should have at least 1 item"),
        (("splits",), {}, "splits: Dictionary should have at least 1 item"),
        (("colours", "1"), [1, 2], "colours.1[2]: Field required"),
        (("colours", "1"), [1, 2, 256], "colours.1[2]: should be less than or equal to 255"),
        (("colours", "9"), [1, 2, 3], "colours: label 9 is not in raw_labels"),
        (("raw_labels", "2"), "pet", "raw_labels: 'pet' is the name of several labels"),
        (("raw_labels", "2"), "a;b=c", "raw_labels.2: String should match"),
        (("raw_labels", "2"), "\x1b[31m", "raw_labels.2: String should match"),
        (("raw_labels", "3"), ..., "counts label 3, which raw_labels lacks"),
        (("name",), "../pets", "name: String should match"),
        (("source", "validation_fraction"), math.inf, "validation_fraction"),
        (("source", "validation_fraction"), None, "validation_fraction"),
    ],
)
def test_what_no_manifest_can_hold_is_refused_with_its_place(tmp_path, finished, path, value, said):
    del finished
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        read(tmp_path, damaged(content_of(tmp_path), path, value))
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith(f"{tmp_path / 'manifest.json'} is damaged: ")
    assert str(caught.value).endswith("; convert the data set again")


def paths_in(value: object, path: tuple = ()) -> list[tuple]:
    items = enumerate(value) if isinstance(value, list) else getattr(value, "items", tuple)()
    return [path] * bool(path) + [p for key, one in items for p in paths_in(one, (*path, key))]


NASTY = st.one_of(
    st.sampled_from([..., None, True, -5, 0, 0.5, 255, 999, 2**63, 10**12, math.nan, math.inf]),
    st.sampled_from(["", "3", "\ud800", "a\nb", "\x1b[2J", "../x", "/etc/passwd", "0" * 64]),
    st.integers(),
    st.lists(st.integers(0, 9), max_size=3),
    st.dictionaries(st.sampled_from("19a"), st.integers(0, 9), max_size=2),
)


@settings(max_examples=150, deadline=None, print_blob=True)
@given(data=st.data())
def test_drawn_damage_is_one_line_or_is_read_as_it_stands(tmp_path_factory, data):
    folder = DAMAGED.setdefault("folder", tmp_path_factory.mktemp("drawn"))
    content = data.draw(st.just(small_content()))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(paths_in(content)))
        content = damaged(content, path, data.draw(NASTY))
        if not content:
            break
    try:
        found = read(folder, content)
    except UserError as error:
        assert str(error).isprintable()
        return
    # What a shard need not have is written as empty.
    for split in content["splits"].values():
        split["shards"] = [{"repaired": [], "rejected": [], **shard} for shard in split["shards"]]
    if content.get("findings", ...) is None:
        del content["findings"]
    assert json.loads(manifest.to_json(found)) == {"colours": {}, **content}


DAMAGED: dict = {}


def small_content() -> dict:
    shard = Shard("x-train.tfrecord-00000-of-00001", 2, 99, "0" * 64, "1" * 64, {1: 9}, 6, 6)
    made = Manifest("x", {"source": "s"}, {1: "a"}, {"train": Split((shard,))}, (), {1: (1, 2, 3)})
    return json.loads(manifest.to_json(made))


@settings(max_examples=100, deadline=None, print_blob=True)
@given(position=st.floats(0, 1), byte=st.binary(max_size=3), cut=st.booleans())
def test_drawn_bytes_are_one_line_or_are_read_as_they_stand(tmp_path_factory, position, byte, cut):
    folder = DAMAGED.setdefault("folder", tmp_path_factory.mktemp("drawn"))
    text = json.dumps(small_content()).encode()
    at = int(position * len(text))
    content = text[:at] + byte + (b"" if cut else text[at + 1 :])
    (folder / "manifest.json").write_bytes(content)
    try:
        found = manifest.read_manifest(str(folder))
    except UserError as error:
        assert str(error).isprintable()
        return
    assert json.loads(manifest.to_json(found)) == {"colours": {}, **json.loads(content)}


def test_a_manifest_that_is_no_regular_file_is_refused(tmp_path):
    (tmp_path / "manifest.json").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="it is a device, not a regular file"):
        manifest.read_manifest(str(tmp_path))


def test_a_manifest_of_before_colours_is_read(tmp_path, finished):
    content = content_of(tmp_path)
    del content["colours"]
    assert read(tmp_path, content) == dataclasses.replace(finished, colours={})


def test_metadata_of_a_shard_in_work_are_checked_likewise(finished):
    shard = finished.splits["train"].shards[0]
    text = manifest.shard_to_json(shard)
    assert manifest.shard_from_json(text) == shard
    for wrong in (text[:-9], "[" * 100_000, text.replace('"records": 3', '"records": -3')):
        with pytest.raises(ValueError, match=r"records|JSON"):
            manifest.shard_from_json(wrong)


def test_an_unknown_store_is_refused(tmp_path, finished):
    path = tmp_path / manifest.FILE_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "store": "webp"}))
    with pytest.raises(UserError, match=r"manifest\.json is damaged: .*store"):
        manifest.read_manifest(str(tmp_path))
