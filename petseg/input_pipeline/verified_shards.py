"""Shards that are checked the first time that they are read.

Hashing a whole data set before the first step would take hours where it is large, and a run
may never read all of it. So each shard is hashed by the input pipeline itself, in the thread
that is about to open it: no record of a shard is used before the shard is known to be the one
that was converted, and a shard that is never opened is never read. The first group that a
pipeline reads is waited for, and hashed on all cores; each later group is hashed while the one
before it is used (128 MiB take 0.1 s of one core), and leaves the other cores to decoding. Masks
that were never decoded (--validate=header) are decoded once at the same time: a value without a
class must not reach training.

The workers of a tf.data service are other processes, into which no Python function goes. With
a service a thread of the training process hashes the shards meanwhile, and the batches that
the service sends pass a gate that stops the run once a shard was found to differ.
"""

import concurrent.futures
import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from petseg.cores import usable_cores
from petseg.data import shard_hashes
from petseg.data.manifest import Shard, Split
from petseg.errors import FaultFound, UserError


class ShardFault(Exception):
    """A shard must not be used; TensorFlow passes the text on within an error's."""

    def __init__(self, error: UserError):
        """`error`: what the user is told."""
        super().__init__(json.dumps([isinstance(error, FaultFound), str(error)]))


_FAULT = re.compile(rf"\b{ShardFault.__name__}: (?=\[)")


class VerifiedShards:
    """Compares each shard's SHA-256 and record count with the manifest, once in a process."""

    def __init__(
        self,
        folder: str,
        splits: Iterable[Split],
        setting: str,
        remedy: str,
        repair: Callable[[Shard], None] | None = None,
        *,
        hashes: bool = True,
        check_masks: Callable[[str], None] | None = None,
    ):
        """Reads nothing yet.

        Args:
          folder: Where the shards lie.
          splits: The splits that may be read.
          setting: The setting that names the folder, for the user.
          remedy: What to do about a shard that differs.
          repair: Replaces a shard if it differs, or raises UserError; None if nothing can.
          hashes: Compare with the manifest; otherwise masks alone are checked.
          check_masks: Takes the path of a shard whose masks were never decoded, and raises
            UserError if one must not be used; None asks nothing of them.
        """
        self._folder, self._setting, self._remedy, self._repair = folder, setting, remedy, repair
        self._hashes, self._check_mask = hashes, check_masks
        self._shards = {shard.name: shard for split in splits for shard in split.shards}
        self._lock = threading.Lock()
        self._verified: set[str] = set()
        self._fault: ShardFault | None = None  # found by the thread of verify_meanwhile
        self._thread: threading.Thread | None = None

    def verify(self, paths: Iterable[str], is_awaited: bool = False) -> None:
        """Checks those of some shards that were not checked before.

        Args:
          paths: The shards.
          is_awaited: Whether nothing else can go on meanwhile; then all cores are used.

        Raises:
          UserError: One differs, and cannot be repaired, or has a mask that must not be used.
        """
        names = [path.rsplit("/", 1)[-1] for path in paths]
        # What comes first is not held up by what is opened ahead: one call after the other.
        with self._lock:
            shards = tuple(self._shards[name] for name in names if name not in self._verified)
            if self._hashes:
                self._compare(shards, len(shards) if is_awaited else 1)
            if self._check_mask:
                undecoded = [s.name for s in shards if not s.pixels_per_label]
                self._check_masks(undecoded, usable_cores() if is_awaited else 1)
            self._verified.update(names)

    def _compare(self, shards: tuple[Shard, ...], at_once: int) -> None:
        if faults := self._differences(shards, at_once):
            if not self._repair:
                raise FaultFound(f"{self._setting}: {faults[0]}; {self._remedy}")
            for shard in shards:
                self._repair(shard)

    def _differences(self, shards: tuple[Shard, ...], at_once: int) -> list[str]:
        for first in range(0, len(shards), max(at_once, 1)):
            some = Split(shards[first : first + at_once])
            if faults := shard_hashes.check_shards(self._folder, [some], hashes=True):
                return faults
        return []

    def _check_masks(self, names: list[str], at_once: int) -> None:
        paths = [f"{self._folder}/{name}" for name in names]
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            for _ in pool.map(self._check_mask, paths):
                pass

    def verify_meanwhile(self, paths: Iterable[str]) -> None:
        """Checks shards in a thread; `gated` batches end with an error once one has a fault."""
        if self._thread and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._verify_all, args=(list(paths),), daemon=True)
        self._thread.start()

    def _verify_all(self, paths: list[str]) -> None:
        try:
            for path in paths:
                self.verify([path])
        except UserError as error:
            self._fault = ShardFault(error)

    @tf.autograph.experimental.do_not_convert
    def verified(self, paths: tf.Tensor, is_awaited: tf.Tensor | bool = False) -> tf.Tensor:
        """Paths of shards, strings of any shape; computing them fails at a fault. See verify."""

        @tf.autograph.experimental.do_not_convert
        def check(paths: bytes | np.ndarray, is_awaited: np.bool) -> bytes | np.ndarray:
            try:
                self.verify([path.decode() for path in np.ravel(paths)], bool(is_awaited))
            except UserError as error:
                raise ShardFault(error) from error
            return paths

        checked = tf.numpy_function(check, [paths, is_awaited], tf.string)
        return tf.ensure_shape(checked, paths.shape)

    @tf.autograph.experimental.do_not_convert
    def gated(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same elements, until verify_meanwhile finds a fault."""

        @tf.autograph.experimental.do_not_convert
        def check() -> bool:
            if self._fault:
                raise self._fault
            return True

        @tf.autograph.experimental.do_not_convert
        def pass_on(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            with tf.control_dependencies([tf.numpy_function(check, [], tf.bool)]):
                return tf.nest.map_structure(tf.identity, element)

        return dataset.map(pass_on)


@contextlib.contextmanager
def faults_in_one_line() -> Iterator[None]:
    """Turns TensorFlow's error for a ShardFault into the error that it stands for."""
    try:
        yield
    except tf.errors.OpError as error:
        if found := _FAULT.search(error.message):
            (is_fault, line), _ = json.JSONDecoder().raw_decode(error.message, found.end())
            raise (FaultFound if is_fault else UserError)(line) from error
        raise
