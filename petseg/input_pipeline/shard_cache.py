"""Shards in memory or on a local disk, for data sets that are slow to read."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import tensorflow as tf

from petseg import free_memory, locks
from petseg.data import tfrecord
from petseg.data.manifest import Shard, Split
from petseg.errors import FaultFound, UserError
from petseg.input_pipeline.verified_shards import VerifiedShards
from petseg.progress import Progress

_MIB = 1 << 20
_CHUNK_BYTES = 8 << 20
_MEMORY_ROOT = "ram://petseg"  # TensorFlow's file system in this process's memory
_LOCK, _SILENT_S = "lock", 1.0
_SHARE_OF_FREE_MEMORY = 0.8  # shuffling and training need some too


def cache_shards(data_dir: str, splits: Iterable[Split], digest: str, cache: str) -> str:
    """Copies shards to where they can be read fast; copies from before are kept.

    What is copied is compared with the manifest. A copy gets its final name when it is
    complete, so an interrupted copy is made again. Commands that share a folder copy one after
    the other, and each uses what is there: see verified_copies.

    Args:
      data_dir: The data set.
      splits: The splits whose shards are copied.
      digest: Digest of the manifest; it names the folder of the copies.
      cache: 'memory' or a folder.

    Returns:
      The folder that now holds the shards, to be used in place of data_dir.

    Raises:
      UserError: There is not enough space, or the folder cannot be written.
      FaultFound: A copy differs from the manifest.
    """
    folder = f"{_MEMORY_ROOT if cache == 'memory' else cache}/{digest[:16]}"
    shards = [shard for split in splits for shard in split.shards]
    with _in_one_line(cache):
        tf.io.gfile.makedirs(folder)
        if missing := _not_copied(folder, shards):
            with _only_writer(folder, cache):
                _copy_all(data_dir, folder, _not_copied(folder, missing), cache)
    return folder


def verified_copies(
    data_dir: str,
    splits: Iterable[Split],
    folder: str,
    cache: str,
    *,
    hashes: bool = True,
    check_masks: Callable[[str], None] | None = None,
) -> VerifiedShards | None:
    """Compares a copy with the manifest before it is first read; a damaged one is made again.

    Args:
      data_dir: The data set.
      splits: The splits whose shards were copied.
      folder: What cache_shards returned.
      cache: 'memory', for which there is nothing to compare: this process copied them; or a
        folder.
      hashes: See VerifiedShards.
      check_masks: See VerifiedShards.
    """
    hashes = hashes and cache != "memory"
    if not (hashes or check_masks):
        return None

    def copy_again(shard: Shard) -> None:
        with _in_one_line(cache), _only_writer(folder, cache):
            if not _is_whole(f"{folder}/{shard.name}", shard):
                _copy_all(data_dir, folder, [shard], cache, is_silent=True)

    return VerifiedShards(
        folder,
        splits,
        "config.data.cache",
        "delete it",
        copy_again,
        hashes=hashes,
        check_masks=check_masks,
    )


def _not_copied(folder: str, shards: Sequence[Shard]) -> list[Shard]:
    return [shard for shard in shards if not _is_copied(f"{folder}/{shard.name}", shard)]


@contextlib.contextmanager
def _in_one_line(cache: str) -> Iterator[None]:
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise UserError(f"config.data.cache={cache}: {reason}") from error


def _only_writer(folder: str, cache: str) -> contextlib.AbstractContextManager[None]:
    """Keeps other commands from copying to a local folder meanwhile; waits for one that does."""
    if "://" in folder:  # neither memory nor object stores have locks
        return contextlib.nullcontext()
    is_busy = f"config.data.cache={cache}: another command copies shards to {folder}"
    return locks.only_writer(f"{folder}/{_LOCK}", _SILENT_S, is_busy, is_patient=True)


def _copy_all(
    data_dir: str, folder: str, shards: Sequence[Shard], cache: str, *, is_silent: bool = False
) -> None:
    total = sum(shard.bytes for shard in shards)
    _check_space(total, cache)
    title = "copy to the cache"
    with Progress(0, total / _MIB, title=title, unit="MiB", is_silent=is_silent) as progress:
        for shard in shards:
            _copy(f"{data_dir}/{shard.name}", f"{folder}/{shard.name}", shard, progress)


def _is_copied(path: str, shard: Shard) -> bool:
    return tf.io.gfile.exists(path) and tf.io.gfile.stat(path).length == shard.bytes


def _is_whole(path: str, shard: Shard) -> bool:
    return _is_copied(path, shard) and _sha256(path) == shard.sha256


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with tf.io.gfile.GFile(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _check_space(needed_bytes: int, cache: str) -> None:
    if cache == "memory":
        free_bytes = int(_SHARE_OF_FREE_MEMORY * free_memory.available_bytes())
    elif "://" in cache:
        return
    else:
        free_bytes = shutil.disk_usage(Path(cache)).free
    if needed_bytes > free_bytes:
        raise UserError(
            f"config.data.cache={cache}: the shards take {needed_bytes >> 20:,} MiB, "
            f"{free_bytes >> 20:,} MiB are free; take another folder or 'none'"
        )


def _copy(source: str, target: str, shard: Shard, progress: Progress) -> None:
    temporary, digest, frames = f"{target}.tmp", hashlib.sha256(), tfrecord.FrameCounter()
    with tf.io.gfile.GFile(source, "rb") as file, tf.io.gfile.GFile(temporary, "wb") as copy:
        while chunk := file.read(_CHUNK_BYTES):
            copy.write(chunk)
            digest.update(chunk)
            frames.add(chunk)
            progress.advance(len(chunk) / _MIB)
    if digest.hexdigest() != shard.sha256:
        fault = "differs from its manifest (SHA-256)"
    elif frames.records != shard.records:
        fault = f"holds {frames.records:,} records, its manifest says {shard.records:,}"
    else:
        tf.io.gfile.rename(temporary, target, overwrite=True)
        return
    tf.io.gfile.remove(temporary)
    raise FaultFound(f"{source} {fault}; convert it again")
