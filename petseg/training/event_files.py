"""TensorBoard's event files, cut back to what a resumed run has not forgotten."""

from collections.abc import Callable, Iterator

import tensorflow as tf
from etils import epath

from petseg.data import tfrecord

GRAPH = "graph"  # stands for the tag of a graph, which has none


def drop_events(folder: str, is_kept: Callable[[int, str], bool]) -> int:
    """Takes summaries out of every event file of a folder.

    A run that was killed has told of steps after its last checkpoint, and will tell of them
    again. A record that was cut short by the kill goes too, and a file without summaries.

    Args:
      folder: of one writer; need not exist.
      is_kept: (step, tag) -> whether that summary, or graph, stays.

    Returns:
      How many summaries went.
    """
    root, dropped = epath.Path(folder), 0
    if not root.is_dir():
        return 0
    for path in sorted(root.iterdir()):
        if ".tfevents." not in path.name or path.name.endswith(".tmp"):
            continue
        kept, lost, whole = _sift(path, is_kept)
        dropped += lost
        if not any(map(_tells, kept)):
            path.unlink()
        elif lost or not whole:
            temporary = path.with_name(path.name + ".tmp")
            temporary.write_bytes(b"".join(map(tfrecord.frame, kept)))
            temporary.replace(path)
    return dropped


def _tells(data: bytes) -> bool:
    event = tf.compat.v1.Event.FromString(data)
    return event.HasField("summary") or bool(event.graph_def)


def _sift(path: epath.Path, is_kept: Callable[[int, str], bool]) -> tuple[list[bytes], int, bool]:
    """The events that stay, how many summaries go, and whether the file was whole."""
    kept, lost = [], 0
    for data in _records(path):
        if data is None:
            return kept, lost, False
        event = tf.compat.v1.Event.FromString(data)
        if event.graph_def and not is_kept(event.step, GRAPH):
            lost += 1
            continue
        values = list(event.summary.value)
        staying = [value for value in values if is_kept(event.step, value.tag)]
        if len(staying) == len(values):
            kept.append(data)
            continue
        lost += len(values) - len(staying)
        if staying:
            del event.summary.value[:]
            event.summary.value.extend(staying)
            kept.append(event.SerializeToString())
    return kept, lost, True


def _records(path: epath.Path) -> Iterator[bytes | None]:
    """The records of a file; None stands where the rest is damaged."""
    with path.open("rb") as file:
        try:
            for frame in tfrecord.read_frames(file):
                if not frame.intact:
                    yield None
                    return
                yield frame.data
        except tfrecord.DamagedFrame:
            yield None
