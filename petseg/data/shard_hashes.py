"""Compares the bytes of shards with what their manifest says."""

import concurrent.futures
import hashlib
import os
from collections.abc import Iterable
from typing import BinaryIO

from etils import epath

from petseg.data import regular_file, tfrecord
from petseg.data.manifest import Shard, Split

_CHUNK_BYTES = 8 << 20  # 8 MiB
_HASH_THREADS = 8


def check_shards(data_dir: str, splits: Iterable[Split], hashes: bool) -> list[str]:
    """Compares shards with the manifest.

    Args:
      data_dir: The folder of the data set.
      splits: The splits whose shards are checked.
      hashes: Read every byte and compare SHA-256, not only existence and size.

    Returns:
      One line for each shard that differs.
    """

    def check(shard: Shard) -> str | None:
        path = epath.Path(data_dir) / shard.name
        try:
            with open_shard(path) as file:
                size = file.seek(0, os.SEEK_END)
                if size != shard.bytes:
                    return f"{path} has {size:,} bytes, its manifest says {shard.bytes:,}"
                if hashes:
                    file.seek(0)
                    return _compare_content(path, file, shard)
        except FileNotFoundError:
            return f"{path} is missing"
        except OSError as error:
            return f"{path} cannot be read: {error.strerror or error}"
        return None

    shards = [shard for split in splits for shard in split.shards]
    if len(shards) == 1:  # of an input pipeline, whose threads are many already
        return [fault for fault in map(check, shards) if fault]
    with concurrent.futures.ThreadPoolExecutor(_HASH_THREADS) as pool:
        return [fault for fault in pool.map(check, shards) if fault]


def open_shard(path: epath.PathLike) -> BinaryIO:
    """Opens a shard; raises OSError if it does not exist or is no regular file."""
    if "://" in str(path):
        return epath.Path(path).open("rb")
    return regular_file.open_regular(str(path), None)


def sha256_of_file(path: epath.PathLike) -> str:
    """Returns a file's SHA-256 as 64 hexadecimal digits; reads it in chunks."""
    digest = hashlib.sha256()
    with open_shard(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _compare_content(path: epath.Path, file: BinaryIO, shard: Shard) -> str | None:
    digest, frames = hashlib.sha256(), tfrecord.FrameCounter()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        frames.add(chunk)
    if digest.hexdigest() != shard.sha256:
        return f"{path} differs from its manifest (SHA-256)"
    if frames.records != shard.records:
        return f"{path} holds {frames.records:,} records, its manifest says {shard.records:,}"
    return None
