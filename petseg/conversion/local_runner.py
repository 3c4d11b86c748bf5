"""The local runner: writes shards with several processes of this machine."""

import collections
import concurrent.futures
from collections.abc import Sequence

from petseg import processes
from petseg.conversion import shards
from petseg.conversion.prepare import RecordOptions
from petseg.conversion.shards import ShardTask, WrittenPart
from petseg.data.manifest import Shard

_JOIN = -1  # stands for joining in place of a part's index
_PARTS_PER_WORKER = 3  # enough that all workers end at nearly the same time


def write_locally(
    tasks: Sequence[ShardTask],
    options: RecordOptions,
    output_dir: str,
    *,
    fail_on_bad: bool,
    workers: int,
    show_progress: bool,
) -> list[Shard]:
    """Writes shards in parallel; several workers share each of the last ones.

    Args:
      tasks: The shards.
      options: What decides over the records' bytes.
      output_dir: The data set's folder, with WORK_DIR in it.
      fail_on_bad: Stop at the first example that cannot be converted.
      workers: Number of processes.
      show_progress: Draw a progress bar on standard error.

    Returns:
      The metadata of each shard.

    Raises:
      FaultFound: A shard cannot be written, an example is bad and fail_on_bad is set, or a
        worker was killed.
    """
    if not tasks:
        return []
    # Without decoding, writing takes the time, and joining parts would write twice.
    parts = _parts(tasks, workers if options.validate == "full" else 1)
    pictures = sum(len(task.examples) for task in tasks)
    with processes.open_workers(
        workers, what="convert", pictures=pictures, show_progress=show_progress
    ) as pool:
        to_prepare = collections.deque((n, i) for n in parts for i in range(len(parts[n])))
        prepared: dict[str, dict[int, WrittenPart]] = {task.name: {} for task in tasks}
        written: dict[str, Shard] = {}
        running: dict[concurrent.futures.Future, tuple[str, int]] = {}
        while to_prepare or running:
            # Few at a time, so that a shard is joined as soon as its parts are written.
            while to_prepare and len(running) < 2 * workers:
                name, index = to_prepare.popleft()
                future = pool.submit(
                    shards.write_part, parts[name][index], options, output_dir, fail_on_bad
                )
                running[future] = name, index
            for future in pool.first_done(set(running)):
                name, index = running.pop(future)
                if index == _JOIN:
                    written[name] = future.result()
                    continue
                prepared[name][index] = future.result()
                if len(prepared[name]) == len(parts[name]):
                    in_order = [prepared[name][i] for i in range(len(parts[name]))]
                    join = pool.submit(shards.join_parts, in_order, options, output_dir)
                    running[join] = name, _JOIN
        return [written[task.name] for task in tasks]


def _parts(tasks: Sequence[ShardTask], workers: int) -> dict[str, list[ShardTask]]:
    """Splits the last shards, which alone would leave workers idle, into several parts."""
    whole = len(tasks) // workers * workers
    parts = {task.name: [task] for task in tasks[:whole]}
    each = -(-_PARTS_PER_WORKER * workers // max(len(tasks) - whole, 1))
    return parts | {task.name: shards.parts_of(task, each) for task in tasks[whole:]}
