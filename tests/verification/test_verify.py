import dataclasses
import itertools
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from testing.commands import assert_one_line_error, run_module
from testing.configs import make_tiny_config
from testing.conversion import convert

from petseg.data import manifest, record, shard_hashes, tfrecord
from petseg.errors import UserError
from petseg.training.data import open_data_set
from petseg.verification import contact_sheet, folder_check, near_duplicates, shard_check


@pytest.fixture
def data(data_dir, tmp_path):
    return shutil.copytree(data_dir, tmp_path / "data")


def verify(data, *flags):
    done = run_module("-m", "petseg.cli.verify", f"--data_dir={data}", "--workers=1", *flags)
    return done, json.loads(done.stdout.splitlines()[-1])


def check(data) -> list[str]:
    """Every shard's faults, in this process."""
    finished = manifest.read_manifest(str(data))
    return [
        fault
        for split in finished.splits.values()
        for path, shard in zip(manifest.shard_paths(str(data), split), split.shards, strict=True)
        for fault in shard_check.check_shard(
            shard_check.ShardTask(path, shard, finished.raw_labels), lambda: None
        ).faults
    ]


@pytest.mark.parametrize("kind", ["FIFO", "device"])
def test_a_shard_that_is_no_regular_file_is_named_at_once(data, kind):
    first = next(iter(manifest.read_manifest(str(data)).splits.values())).shards[0]
    path = data / first.name
    path.unlink()
    os.mkfifo(path) if kind == "FIFO" else path.symlink_to("/dev/zero")
    assert check(data) == [f"{path} cannot be read: it is a {kind}, not a regular file"]


def frames_of(path) -> list[tfrecord.Frame]:
    with path.open("rb") as file:
        return list(tfrecord.read_frames(file))


def test_a_complete_data_set_passes(data, tmp_path):
    assert check(data) == []
    for flags in ((f"--contact_sheet={tmp_path / 'sheet.png'}",), ("--quick",)):
        done, summary = verify(data, *flags)
        assert done.returncode == 0, done.stderr
        assert summary["ok"] is True
        assert summary["faults"] == 0
        assert summary["records"] == {"train": 20, "validation": 8, "test": 4}
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 1000


def test_every_flipped_bit_is_found_and_its_record_reported(data):
    path = sorted(data.glob("*train*"))[0]
    whole = path.read_bytes()
    rng = np.random.default_rng()
    frames = frames_of(path)
    for _ in range(30):
        position, bit = int(rng.integers(len(whole))), int(rng.integers(8))
        print("position", position, "bit", bit)
        content = bytearray(whole)
        content[position] ^= 1 << bit
        path.write_bytes(content)
        faults = check(data)
        index = sum(frame.offset + len(frame.data) + 4 <= position for frame in frames)
        assert any(f"{path.name}, record {index}" in fault for fault in faults)
        # A damaged length hides the number of records, but never the damage.
        assert any("SHA-256" in fault or "records" in fault for fault in faults)


def test_a_cut_at_a_record_boundary_is_found(data):
    path = sorted(data.glob("*train*"))[0]
    last = frames_of(path)[-1]
    path.write_bytes(path.read_bytes()[: last.offset - 12])
    records = len(frames_of(path))
    assert any(
        f"{path.name} holds {records} records, its manifest says {records + 1}" in fault
        for fault in check(data)
    )


@pytest.mark.parametrize("flags", [(), ("--quick",)])
@pytest.mark.parametrize("damage", ["bit", "cut", "emptied", "deleted", "another run", "unlisted"])
def test_the_command_finds_each_damage_and_ends_with_status_1(
    data, raw_pets, tmp_path, damage, flags
):
    path = sorted(data.glob("*train*"))[0]
    if damage == "bit":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: frames_of(path)[-1].offset - 12])
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "deleted":
        path.unlink()
    elif damage == "another run":
        convert(raw_pets, tmp_path / "other", validation_fraction=0.5)
        other = sorted((tmp_path / "other").glob("*train*"))[0]
        shutil.copy(other, path)
    else:
        shutil.copy(path, data / "pets-train.tfrecord-00009-of-00009")
        path = data / "pets-train.tfrecord-00009-of-00009"
    done, summary = verify(data, *flags)
    assert done.returncode == 1
    assert summary["ok"] is False
    assert summary["faults"] >= 1
    assert path.name in done.stdout
    assert "Traceback" not in done.stderr


def test_tfds_metadata_that_does_not_fit_is_a_fault(data):
    path = data / "dataset_info.json"
    content = json.loads(path.read_text())
    content["splits"][0]["shardLengths"][0] = "1"
    path.write_text(json.dumps(content))
    done, _ = verify(data, "--quick")
    assert done.returncode == 1
    assert "dataset_info.json has other splits or counts" in done.stdout


def test_no_data_set_is_status_2(tmp_path):
    done = run_module("-m", "petseg.cli.verify", f"--data_dir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("image", b"no jpeg", "its image is damaged: it cannot be decoded"),
        ("mask", b"no png", "its mask is no 8-bit PNG"),
        ("height", 3, "its image is "),
    ],
)
def test_a_record_that_is_intact_but_wrong_is_reported(data, field, value, reason):
    path = sorted(data.glob("*train*"))[0]
    frames = [frame.data for frame in frames_of(path)]
    features = tf.train.Example.FromString(frames[1]).features.feature
    made = record.Record(
        name="wrong",
        filename="wrong.jpg",
        image=features[record.IMAGE].bytes_list.value[0],
        mask=features[record.MASK].bytes_list.value[0],
        height=features[record.HEIGHT].int64_list.value[0],
        width=features[record.WIDTH].int64_list.value[0],
        class_label=0,
        class_text="x",
    )
    frames[1] = record.encode_record(dataclasses.replace(made, **{field: value}))
    path.write_bytes(b"".join(map(tfrecord.frame, frames)))
    assert any(f"{path.name}, record 1 (wrong): {reason}" in fault for fault in check(data))


def distance(a, b) -> int:
    return sum((int(x) ^ int(y)).bit_count() for x, y in zip(a, b, strict=True))


def test_near_duplicates_are_those_that_a_plain_search_finds():
    rng = np.random.default_rng(5)
    base = rng.integers(0, 1 << 63, (40, 2), np.uint64)
    prints = {"train": base, "test": base[:20].copy(), "validation": base[10:30].copy()}
    for split in ("test", "validation"):
        for row in prints[split]:
            for _ in range(rng.integers(0, 9)):
                row[rng.integers(2)] ^= np.uint64(1) << np.uint64(rng.integers(64))
    names = {s: [f"{s}{i}" for i in range(len(p))] for s, p in prints.items()}
    expected = {
        frozenset((names[s][i], names[t][j])): distance(prints[s][i], prints[t][j])
        for s in prints
        for t in prints
        if s != t
        for i in range(len(prints[s]))
        for j in range(len(prints[t]))
        if distance(prints[s][i], prints[t][j]) <= near_duplicates.MAX_DISTANCE
    }
    found = near_duplicates.find_near_duplicates(prints, names)
    assert {frozenset((p.first, p.second)): p.distance for p in found} == expected
    assert 10 < len(expected) < 60
    assert [p.distance for p in found] == sorted(p.distance for p in found)


def test_a_picture_compressed_again_keeps_its_fingerprint(raw_pets, tmp_path):
    paths = sorted((raw_pets / "images").iterdir())
    prints = []
    for path in paths:
        with Image.open(path) as picture:
            grey = picture.convert("L")
            picture.resize((picture.width * 2, picture.height * 2)).save(
                tmp_path / "again.jpg", quality=60
            )
        again = np.asarray(Image.open(tmp_path / "again.jpg").convert("L"))
        ours = shard_check.fingerprint(np.asarray(grey))
        assert distance(ours, shard_check.fingerprint(again)) <= near_duplicates.MAX_DISTANCE
        prints.append(ours)
    apart = [distance(a, b) for i, a in enumerate(prints) for b in prints[:i]]
    assert min(apart) > near_duplicates.MAX_DISTANCE


def test_a_leak_across_splits_is_listed(pets, tmp_path):
    shutil.copy(pets / "images" / "Slate_1.jpg", pets / "images" / "Slate_8.jpg")
    shutil.copy(
        pets / "annotations" / "trimaps" / "Slate_1.png",
        pets / "annotations" / "trimaps" / "Slate_8.png",
    )
    finished = convert(pets, tmp_path / "data")
    assert finished.rejected == ()
    _, summary = verify(tmp_path / "data")
    pairs = summary["near_duplicate_pairs"]
    assert [(p["first"], p["second"], p["distance"]) for p in pairs] in (
        [("Slate_1", "Slate_8", 0)],
        [("Slate_8", "Slate_1", 0)],
    )


def test_the_sheet_shows_every_class_in_its_colour(data_dir):
    finished = manifest.read_manifest(str(data_dir))
    sheet = np.asarray(contact_sheet.draw_contact_sheet(str(data_dir), finished))
    colours = {tuple(pixel) for row in sheet[::2, ::2].tolist() for pixel in row}
    assert {(230, 159, 0), (0, 114, 178), (240, 228, 66)} <= colours


def test_the_sheet_of_very_many_classes_stays_on_a_screen(data_dir):
    finished = manifest.read_manifest(str(data_dir))
    names = {value: f"value_{value}" for value in range(256)}
    many = dataclasses.replace(finished, raw_labels=names)
    few = contact_sheet.draw_contact_sheet(str(data_dir), finished)
    sheet = contact_sheet.draw_contact_sheet(str(data_dir), many)
    assert sheet.height < few.height + 3600  # it was 13,000 px
    labels = contact_sheet._most_frequent(many, sorted(names))
    assert len(labels) == 40 and labels[:4] == [0, 1, 2, 3]


@pytest.mark.parametrize("bands", list(itertools.combinations(range(8), 5)))
def test_five_bits_apart_are_found_wherever_they_lie(bands):
    base = np.random.default_rng(1).integers(0, 1 << 63, (1, 2), np.uint64)
    other = base.copy()
    for band in bands:
        other[0, band // 4] ^= np.uint64(1) << np.uint64(16 * (band % 4) + 7)
    found = near_duplicates.find_near_duplicates(
        {"train": base, "test": other}, {"train": ["a"], "test": ["b"]}
    )
    assert [(p.first, p.second, p.distance) for p in found] == [("a", "b", 5)]


def changed(data, **fields) -> list[str]:
    """The faults of a data set whose first shard has other metadata."""
    finished = manifest.read_manifest(str(data))
    first = finished.splits["train"].shards[0]
    task = shard_check.ShardTask(
        str(data / first.name), dataclasses.replace(first, **fields), finished.raw_labels
    )
    return list(shard_check.check_shard(task, lambda: None).faults)


@pytest.mark.parametrize("field", ["height_sum", "width_sum"])
def test_other_sides_than_the_manifests_are_a_fault(data_dir, field):
    shard = manifest.read_manifest(str(data_dir)).splits["train"].shards[0]
    found = getattr(shard, field)
    assert changed(data_dir, **{field: found + 1}) == [
        f"{data_dir / shard.name} has {field} {found:,}, its manifest says {found + 1:,}"
    ]


def test_other_pixels_than_the_manifests_are_a_fault(data_dir):
    shard = manifest.read_manifest(str(data_dir)).splits["train"].shards[0]
    label = min(shard.pixels_per_label)
    counts = {**shard.pixels_per_label, label: shard.pixels_per_label[label] + 1}
    (fault,) = changed(data_dir, pixels_per_label=counts)
    assert fault.endswith("holds other numbers of pixels than its manifest says")


@pytest.mark.parametrize(("kind", "said"), [("device", "a device"), ("fifo", "a FIFO")])
def test_a_shard_that_is_no_regular_file_is_a_fault(data, kind, said):
    path = sorted(data.glob("*train*"))[0]
    path.unlink()
    if kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    assert check(data) == [f"{path} cannot be read: it is {said}, not a regular file"]


def test_no_name_moves_the_terminal(data):
    """Neither that of a record, nor that of a file beside the shards."""
    path = sorted(data.glob("*train*"))[0]
    frames = [frame.data for frame in frames_of(path)]
    example = tf.train.Example.FromString(frames[0])
    feature = example.features.feature
    feature[record.SOURCE_ID].bytes_list.value[0] = b"\x1b[2Ja\nb"
    feature[record.IMAGE].bytes_list.value[0] = b"no jpeg"
    frames[0] = example.SerializeToString()
    path.write_bytes(b"".join(map(tfrecord.frame, frames)))
    (data / "x.tfrecord-\x1b[2J\n-of-1").touch()
    faults = check(data)
    assert any("record 0 ('\\x1b[2Ja\\nb'): its image is damaged" in fault for fault in faults)
    faults += folder_check.unlisted_shards(str(data), manifest.read_manifest(str(data)))
    assert faults[-1] == f"{data}/'x.tfrecord-\\x1b[2J\\n-of-1' is in no manifest"
    assert all(fault.isprintable() for fault in faults)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"splits": [1]}', '{"splits": [{"name": "train"}]}', "null", ""]
)
def test_damaged_tfds_metadata_are_a_fault_in_one_line(data, text):
    (data / "dataset_info.json").write_text(text)
    (fault,) = folder_check.tfds_faults(str(data), manifest.read_manifest(str(data)))
    assert "dataset_info.json cannot be read: " in fault
    assert fault.isprintable()


@pytest.mark.parametrize("key", [record.IMAGE, record.SOURCE_ID, record.HEIGHT])
@pytest.mark.parametrize("change", ["twice", "missing"])
def test_a_feature_that_training_cannot_parse_is_a_fault(data, key, change):
    path = sorted(data.glob("*train*"))[0]
    frames = [frame.data for frame in frames_of(path)]
    example = tf.train.Example.FromString(frames[0])
    feature = example.features.feature[key]
    values = (feature.bytes_list if key != record.HEIGHT else feature.int64_list).value
    if change == "twice":
        values.append(values[0])
    else:
        del values[:]
    frames[0] = example.SerializeToString()
    with pytest.raises(tf.errors.InvalidArgumentError):
        record.parse_record([frames[0]])
    path.write_bytes(b"".join(map(tfrecord.frame, frames)))
    assert f"{path}, record 0: it is no example with an image, a mask, a name and a size" in (
        check(data)
    )


def test_notes_name_what_a_default_training_lacks(data_dir):
    finished = manifest.read_manifest(str(data_dir))
    assert folder_check.training_notes(str(data_dir), finished) == []
    bare = dataclasses.replace(
        finished, raw_labels={}, splits={"test": finished.splits["test"]}, colours={}
    )
    notes = folder_check.training_notes("DIR", bare)
    assert [note.partition(":")[0] for note in notes[1:]] == [
        "DIR has no split 'train'",
        "DIR has no split 'validation'",
    ]
    assert "names 0 classes" in notes[0]


CHANGES = st.sampled_from(
    [..., None, 0, 1, -1, 0.5, 2**63, 10**12, 999, "x", "", [], [1, 2], {}, {"1": 2}, "a;b=c"]
)


def paths_in(value: object, path: tuple = ()) -> list[tuple]:
    items = enumerate(value) if isinstance(value, list) else getattr(value, "items", tuple)()
    return [path] * bool(path) + [p for key, one in items for p in paths_in(one, (*path, key))]


@settings(max_examples=150, deadline=None, print_blob=True)
@given(drawn=st.data())
def test_what_verify_calls_well_is_what_training_opens(tmp_path_factory, data_dir, drawn):
    """Quick or full, for drawn changes of the manifest; the shards stay whole."""
    if "folder" not in COPY:
        COPY["folder"] = tmp_path_factory.mktemp("agree") / "data"
        shutil.copytree(data_dir, COPY["folder"])
        COPY["text"] = (data_dir / "manifest.json").read_text()
    folder, content = COPY["folder"], json.loads(COPY["text"])
    config = make_tiny_config(folder)
    config.data.label_map = ""  # the data set's own
    *parents, last = drawn.draw(st.sampled_from(paths_in(content)))
    inner = content
    for part in parents:
        inner = inner[part]
    if (value := drawn.draw(CHANGES)) is ...:
        del inner[last]
    elif isinstance(value, int) and type(inner[last]) is int and abs(value) <= 1:
        inner[last] += value
    else:
        inner[last] = value
    (folder / "manifest.json").write_text(json.dumps(content))
    try:
        finished = manifest.read_manifest(str(folder))
    except UserError as error:
        assert str(error).isprintable()
        with pytest.raises(UserError):
            open_data_set(config)
        return
    faults = shard_hashes.check_shards(str(folder), finished.splits.values(), hashes=True)
    if faults or folder_check.training_notes(str(folder), finished):
        return
    assert open_data_set(config).train.records == 20


COPY: dict = {}


def test_a_contact_sheet_that_cannot_be_saved_costs_nothing_else(data, tmp_path):
    new = tmp_path / "new" / "folder" / "sheet.png"
    done, summary = verify(data, f"--contact_sheet={new}")
    assert (done.returncode, summary["ok"]) == (0, True), done.stderr
    with Image.open(new) as sheet:
        assert sheet.width > 1000
    (tmp_path / "folder.png").mkdir()
    done, summary = verify(data, f"--contact_sheet={tmp_path / 'folder.png'}")
    assert summary["ok"] is True
    assert_one_line_error(done, 1, "--contact_sheet: ", "folder.png cannot be written")


def test_a_contact_sheet_whose_folder_cannot_be_made_is_refused_at_once(data):
    sheet = data / "manifest.json" / "sheet.png"
    flags = (f"--data_dir={data}", f"--contact_sheet={sheet}")
    done = run_module("-m", "petseg.cli.verify", *flags)
    assert_one_line_error(done, 2, f"--contact_sheet={sheet}: ")
    assert done.stdout == ""
