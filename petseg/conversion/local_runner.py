"""The local runner: writes shards with several processes of this machine."""

import collections
import concurrent.futures
from collections.abc import Collection, Sequence

from petseg import processes
from petseg.conversion import shards
from petseg.conversion.plan import ShardTask
from petseg.conversion.prepare import RecordOptions
from petseg.conversion.shards import WrittenPart

_JOINED = -1  # in place of a part's index
_PARTS_PER_WORKER = 3  # enough that all workers end at nearly the same time


def write_locally(
    tasks: Sequence[ShardTask],
    options: RecordOptions,
    output_dir: str,
    *,
    begun: Collection[str],
    fail_on_bad: bool,
    workers: int,
    show_progress: bool,
) -> None:
    """Writes shards in parallel; several workers share each of the last ones.

    The metadata of each are in the work folder afterwards.

    Args:
      tasks: The shards.
      options: What decides over the records' bytes.
      output_dir: The data set's folder, with WORK_DIR in it.
      begun: Names of the shards that an interrupted conversion may have left.
      fail_on_bad: Stop at the first example that cannot be converted.
      workers: Number of processes.
      show_progress: Draw a progress bar on standard error.

    Raises:
      FaultFound: A shard cannot be written, an example is bad and fail_on_bad is set, or a
        worker was killed.
    """
    if not tasks:
        return
    # Without decoding, writing takes the time, and joining parts would write twice.
    parts = _parts(tasks, begun, workers if options.validate == "full" else 1)
    pictures = sum(task.records for task in tasks)
    with processes.open_workers(
        workers, what="convert", pictures=pictures, show_progress=show_progress
    ) as pool:
        to_prepare = collections.deque((n, i) for n in parts for i in range(len(parts[n])))
        prepared: dict[str, dict[int, WrittenPart]] = {}
        running: dict[concurrent.futures.Future, tuple[str, int]] = {}
        while to_prepare or running:
            # Few at a time, so that a shard is joined as soon as its parts are written.
            while to_prepare and len(running) < 2 * workers:
                name, index = to_prepare.popleft()
                is_whole = len(parts[name]) == 1
                future = pool.submit(
                    shards.keep_or_write_shard if is_whole else shards.write_part,
                    *(parts[name][index], options, output_dir, fail_on_bad),
                )
                running[future] = name, _JOINED if is_whole else index
            for future in pool.first_done(set(running)):
                name, index = running.pop(future)
                if index == _JOINED:
                    continue
                prepared.setdefault(name, {})[index] = future.result()
                if len(prepared[name]) == len(parts[name]):
                    in_order = [part for _, part in sorted(prepared.pop(name).items())]
                    join = pool.submit(shards.join_parts, in_order, options, output_dir)
                    running[join] = name, _JOINED


def _parts(
    tasks: Sequence[ShardTask], begun: Collection[str], workers: int
) -> dict[str, list[ShardTask]]:
    """Splits the last shards, which alone would leave workers idle, into several parts."""
    whole = len(tasks) // workers * workers
    each = -(-_PARTS_PER_WORKER * workers // max(len(tasks) - whole, 1))
    return {
        task.name: [task] if index < whole or task.name in begun else task.parts(each)
        for index, task in enumerate(tasks)
    }
