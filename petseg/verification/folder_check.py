"""Checks what lies beside the shards of a data set."""

import pydantic
from etils import epath

from petseg.data import json_file, label_map
from petseg.data.manifest import Manifest
from petseg.errors import UserError, shown

_TFDS_FILE = "dataset_info.json"


def unlisted_shards(data_dir: str, finished: Manifest) -> list[str]:
    """Returns a fault for each shard that is not in the manifest."""
    known = {shard.name for split in finished.splits.values() for shard in split.shards}
    return [
        f"{epath.Path(data_dir) / shown(path.name)} is in no manifest"
        for path in sorted(epath.Path(data_dir).iterdir())
        if ".tfrecord" in path.name and path.name not in known
    ]


def tfds_faults(data_dir: str, finished: Manifest) -> list[str]:
    """Compares TFDS's metadata, which its readers trust, with the manifest."""
    path = epath.Path(data_dir) / _TFDS_FILE
    try:
        splits = json_file.read(path, dict[str, pydantic.JsonValue])["splits"]
        lengths = {split["name"]: [int(n) for n in split["shardLengths"]] for split in splits}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{path} cannot be read: {shown(str(error))}"]
    expected = {n: [shard.records for shard in s.shards] for n, s in finished.splits.items()}
    return [] if lengths == expected else [f"{path} has other splits or counts than the manifest"]


def training_notes(data_dir: str, finished: Manifest) -> list[str]:
    """Returns what is no fault, but keeps a training with default settings from starting."""
    notes = []
    for check in (
        lambda: label_map.own_label_map(finished),
        lambda: finished.split("train", data_dir),
        lambda: finished.split("validation", data_dir),
    ):
        try:
            check()
        except UserError as error:
            notes.append(str(error))
    return notes
