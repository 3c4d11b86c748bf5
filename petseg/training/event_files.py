"""TensorBoard's event files of a resumed run: no step is duplicated.

A run that was killed has logged steps after its last checkpoint, and logs them again when it
resumes. `drop_events` removes them from the files, for every reader that opens the files
later; `log_start` makes a TensorBoard that is already running drop them too.
"""

import time
from collections.abc import Callable, Iterator

import tensorflow as tf
from etils import epath

# Once tf.contrib.summary.import_event; no public function writes an event that is no summary.
from tensorflow.python.ops import summary_ops_v2

from petseg.data import tfrecord

GRAPH = "graph"  # used as the tag of a graph, which has none


def log_start(writer: tf.summary.SummaryWriter, step: int) -> None:
    """Logs that a run starts or resumes; call it before anything else is logged.

    TensorBoard takes the first of these events in a folder as the start of the run. At a later
    one it forgets what it has read of that step and of later steps.

    Args:
      writer: The writer of one folder; may be silent.
      step: The first step that will be logged.
    """
    session_log = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
    event = tf.compat.v1.Event(step=step, wall_time=time.time(), session_log=session_log)
    with writer.as_default(step):
        if not tf.summary.should_record_summaries():  # a silent writer
            return
        summary_ops_v2.import_event(event.SerializeToString())


def drop_events(folder: str, is_kept: Callable[[int, str], bool]) -> int:
    """Removes summaries from every event file of a folder.

    A record that was cut short when a process was killed is removed too, and so is a file
    without summaries. So are start events: where a clock was set back, file names are out of
    order, and an older start event would discard the newer steps.

    Args:
      folder: The folder of one writer; need not exist.
      is_kept: (step, tag) -> whether that summary, or graph, stays.

    Returns:
      The number of removed summaries.
    """
    root, dropped = epath.Path(folder), 0
    if not root.is_dir():
        return 0
    for path in sorted(root.iterdir()):
        if ".tfevents." not in path.name or path.name.endswith(".tmp"):
            continue
        kept, removed, is_changed = _filter(path, is_kept)
        dropped += removed
        if not any(map(_has_summary, kept)):
            path.unlink()
        elif is_changed:
            temporary = path.with_name(path.name + ".tmp")
            temporary.write_bytes(b"".join(map(tfrecord.frame, kept)))
            temporary.replace(path)
    return dropped


def _has_summary(data: bytes) -> bool:
    event = tf.compat.v1.Event.FromString(data)
    return event.HasField("summary") or bool(event.graph_def)


def _filter(path: epath.Path, is_kept: Callable[[int, str], bool]) -> tuple[list[bytes], int, bool]:
    """Returns the events to keep, the number of removed summaries and if the file must change."""
    kept, removed, is_changed = [], 0, False
    for data in _records(path):
        if data is None:
            return kept, removed, True
        event = tf.compat.v1.Event.FromString(data)
        if event.HasField("session_log"):
            is_changed = True
            continue
        if event.graph_def and not is_kept(event.step, GRAPH):
            removed += 1
            continue
        values = list(event.summary.value)
        remaining = [value for value in values if is_kept(event.step, value.tag)]
        if len(remaining) == len(values):
            kept.append(data)
            continue
        removed += len(values) - len(remaining)
        if remaining:
            del event.summary.value[:]
            event.summary.value.extend(remaining)
            kept.append(event.SerializeToString())
    return kept, removed, is_changed or removed > 0


def _records(path: epath.Path) -> Iterator[bytes | None]:
    """Yields the records of a file, then None if the rest is damaged."""
    with path.open("rb") as file:
        try:
            for frame in tfrecord.read_frames(file):
                if not frame.intact:
                    yield None
                    return
                yield frame.data
        except tfrecord.DamagedFrame:
            yield None
