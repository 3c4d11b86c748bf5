"""Shards that are compared with their manifest the first time that they are read.

Hashing a whole data set before the first step would take hours where it is large, and a run
may never read all of it. So each shard is hashed by the input pipeline itself, in the thread
that is about to open it: no record of a shard is used before the shard is known to be the one
that was converted, and a shard that is never opened is never read. Hashing runs ahead of the
training step like the rest of the input (128 MiB take 0.1 s, and hold back no other thread).

The workers of a tf.data service are other processes, into which no Python function goes. With
a service a thread of the training process hashes the shards meanwhile, and the batches that
the service sends pass a gate that stops the run once a shard was found to differ.
"""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator

import tensorflow as tf

from petseg.data import manifest
from petseg.data.manifest import Shard, Split
from petseg.errors import FaultFound, UserError


class ShardFault(Exception):
    """A shard differs from its manifest; TensorFlow passes its text on within an error's."""

    def __init__(self, line: str):
        """`line`: what the user is told."""
        super().__init__(json.dumps(line))


_FAULT = re.compile(rf"\b{ShardFault.__name__}: (?=\")")


class VerifiedShards:
    """Compares SHA-256 and record count of each shard with the manifest, once in a process."""

    def __init__(
        self,
        folder: str,
        splits: Iterable[Split],
        setting: str,
        remedy: str,
        repair: Callable[[Shard], None] | None = None,
    ):
        """Reads nothing yet.

        Args:
          folder: Where the shards lie.
          splits: The splits that may be read.
          setting: The setting that names the folder, for the user.
          remedy: What to do about a shard that differs.
          repair: Replaces a shard that differs, or raises UserError; None if nothing can.
        """
        self._folder, self._setting, self._remedy, self._repair = folder, setting, remedy, repair
        self._shards = {shard.name: shard for split in splits for shard in split.shards}
        # Several pipelines may open a shard at the same time; one of them reads it.
        self._locks = {name: threading.Lock() for name in self._shards}
        self._verified: set[str] = set()
        self._fault = ""  # found by the thread of verify_meanwhile
        self._thread: threading.Thread | None = None

    def verify(self, path: str) -> None:
        """Compares a shard if it was not compared before.

        Raises:
          ShardFault: It differs, and cannot be repaired.
        """
        name = path.rsplit("/", 1)[-1]
        with self._locks[name]:
            if name in self._verified:
                return
            shard = self._shards[name]
            faults = manifest.check_shards(self._folder, [Split((shard,))], hashes=True)
            if faults and not self._repair:
                raise ShardFault(f"{self._setting}: {faults[0]}; {self._remedy}")
            if faults:
                try:
                    self._repair(shard)
                except UserError as error:
                    raise ShardFault(str(error)) from error
            self._verified.add(name)

    def verify_meanwhile(self, paths: Iterable[str]) -> None:
        """Compares shards in a thread; `gated` batches end with an error once one differs."""
        if self._thread and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._verify_all, args=(list(paths),), daemon=True)
        self._thread.start()

    def _verify_all(self, paths: list[str]) -> None:
        try:
            for path in paths:
                self.verify(path)
        except ShardFault as fault:
            self._fault = json.loads(str(fault))

    @tf.autograph.experimental.do_not_convert
    def verified(self, path: tf.Tensor) -> tf.Tensor:
        """A shard's path, string []; computing it fails if the shard differs."""

        @tf.autograph.experimental.do_not_convert
        def check(path: bytes) -> bytes:
            self.verify(path.decode())
            return path

        return tf.ensure_shape(tf.numpy_function(check, [path], tf.string), [])

    @tf.autograph.experimental.do_not_convert
    def gated(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same elements, until verify_meanwhile finds a shard that differs."""

        @tf.autograph.experimental.do_not_convert
        def check() -> bool:
            if self._fault:
                raise ShardFault(self._fault)
            return True

        @tf.autograph.experimental.do_not_convert
        def pass_on(element: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            with tf.control_dependencies([tf.numpy_function(check, [], tf.bool)]):
                return tf.nest.map_structure(tf.identity, element)

        return dataset.map(pass_on)


@contextlib.contextmanager
def faults_in_one_line() -> Iterator[None]:
    """Turns TensorFlow's error for a shard that differs into FaultFound with the shard's name."""
    try:
        yield
    except tf.errors.OpError as error:
        if found := _FAULT.search(error.message):
            line, _ = json.JSONDecoder().raw_decode(error.message, found.end())
            raise FaultFound(line) from error
        raise
