"""Writes shards with the processes of this machine."""

import collections
import concurrent.futures
from collections.abc import Sequence

from petseg import processes
from petseg.conversion import shards
from petseg.conversion.prepare import Settings
from petseg.conversion.shards import ShardTask, WrittenPart
from petseg.data.manifest import Shard

_JOIN = -1  # in the place of a part's index
_PARTS_PER_WORKER = 3  # enough that all end at nearly the same time


def write_locally(
    tasks: Sequence[ShardTask],
    settings: Settings,
    output_dir: str,
    *,
    fail_on_bad: bool,
    workers: int,
    show_progress: bool,
) -> list[Shard]:
    """Has processes write shards; on the last ones several work together.

    Args:
      tasks: the shards.
      settings: what decides over the records.
      output_dir: the data set's folder, with WORK_DIR in it.
      fail_on_bad: stop at the first example that cannot be converted.
      workers: how many processes.
      show_progress: draw a bar on standard error.

    Raises:
      FaultFound: as shards.write_part; also where a worker was killed.
    """
    if not tasks:
        return []
    # Without decoding, writing is the work, and joining parts would write twice.
    parts = _parts(tasks, workers if settings.validate == "full" else 1)
    pictures = sum(len(task.examples) for task in tasks)
    with processes.open_workers(
        workers, what="convert", pictures=pictures, show_progress=show_progress
    ) as pool:
        to_prepare = collections.deque((n, i) for n in parts for i in range(len(parts[n])))
        prepared: dict[str, dict[int, WrittenPart]] = {task.name: {} for task in tasks}
        accounts: dict[str, Shard] = {}
        running: dict[concurrent.futures.Future, tuple[str, int]] = {}
        while to_prepare or running:
            # Few at a time, so that a shard is joined as soon as its parts are there.
            while to_prepare and len(running) < 2 * workers:
                name, index = to_prepare.popleft()
                future = pool.submit(
                    shards.write_part, parts[name][index], settings, output_dir, fail_on_bad
                )
                running[future] = name, index
            for future in pool.first_done(set(running)):
                name, index = running.pop(future)
                if index == _JOIN:
                    accounts[name] = future.result()
                    continue
                prepared[name][index] = future.result()
                if len(prepared[name]) == len(parts[name]):
                    in_order = [prepared[name][i] for i in range(len(parts[name]))]
                    join = pool.submit(shards.join_parts, in_order, settings, output_dir)
                    running[join] = name, _JOIN
        return [accounts[task.name] for task in tasks]


def _parts(tasks: Sequence[ShardTask], workers: int) -> dict[str, list[ShardTask]]:
    """Each shard's parts: one, but for those that would leave workers without work."""
    whole = len(tasks) // workers * workers
    parts = {task.name: [task] for task in tasks[:whole]}
    each = -(-_PARTS_PER_WORKER * workers // max(len(tasks) - whole, 1))
    return parts | {task.name: shards.parts_of(task, each) for task in tasks[whole:]}
