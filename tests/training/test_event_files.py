import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing import plugin_event_accumulator

from petseg.training import event_files


def write(folder, steps, tags=("a", "b"), scale=1.0, start=None):
    writer = tf.summary.create_file_writer(str(folder))
    if start is not None:
        event_files.log_start(writer, start)
    for step in steps:
        for tag in tags:
            with writer.as_default(step):
                tf.summary.scalar(tag, scale * step)
    writer.close()


def logged(folder):
    return sorted(
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for path in folder.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    )


def test_unwanted_summaries_are_removed_and_others_keep_their_bytes(tmp_path):
    write(tmp_path, range(10))
    before = logged(tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    assert event_files.drop_events(str(tmp_path), lambda step, tag: True) == 0
    assert path.read_bytes() == content
    assert event_files.drop_events(str(tmp_path), lambda step, tag: step < 6 or tag == "b") == 4
    assert logged(tmp_path) == [row for row in before if row[0] < 6 or row[1] == "b"]


def test_a_graph_is_removed_like_a_summary(tmp_path):
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default(0), tf.Graph().as_default() as graph:
        tf.constant(1)
    with writer.as_default(0):
        tf.summary.graph(graph)
    writer.close()
    assert event_files.drop_events(str(tmp_path), lambda step, tag: tag == event_files.GRAPH) == 0
    assert len(list(tmp_path.iterdir())) == 1
    assert event_files.drop_events(str(tmp_path), lambda step, tag: False) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_keeps_its_intact_events(tmp_path):
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    write(tmp_path, range(10))
    (path,) = tmp_path.iterdir()
    whole, before = path.read_bytes(), logged(tmp_path)
    for _ in range(20):
        path.write_bytes(whole[: rng.integers(200, len(whole))])
        event_files.drop_events(str(tmp_path), lambda step, tag: step < 8)
        kept = logged(tmp_path)  # which raises if a record is cut
        assert kept == before[: len(kept)]


def test_a_file_without_summaries_is_deleted_but_a_foreign_file_is_not(tmp_path):
    write(tmp_path, range(3))
    (tmp_path / "notes.txt").write_text("mine")
    assert event_files.drop_events(str(tmp_path), lambda step, tag: False) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert event_files.drop_events(str(tmp_path / "absent"), lambda step, tag: False) == 0


def read_scalars(accumulator):
    """(step, value) of tag 'a', read the way TensorBoard reads; a second call reads what is new."""
    events = accumulator.Reload().Tensors("a")
    return [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events]


def test_a_resumed_run_is_read_once_by_a_new_and_by_a_running_tensorboard(tmp_path):
    running = plugin_event_accumulator.EventAccumulator(str(tmp_path))
    write(tmp_path, range(1, 21), start=1)
    assert read_scalars(running) == [(step, step) for step in range(1, 21)]
    for resumed, scale in ((11, 2.0), (6, 3.0)):
        before = [row for row in read_scalars(running) if row[0] < resumed]
        event_files.drop_events(str(tmp_path), lambda step, tag, first=resumed: step < first)
        write(tmp_path, range(resumed, 16), scale=scale, start=resumed)
        expected = before + [(step, scale * step) for step in range(resumed, 16)]
        assert read_scalars(running) == expected
        new = plugin_event_accumulator.EventAccumulator(str(tmp_path))
        assert read_scalars(new) == expected
        assert [row[::2] for row in logged(tmp_path) if row[1] == "a"] == expected


def test_a_clock_that_was_set_back_loses_no_step(tmp_path):
    write(tmp_path, range(1, 21), start=1)
    (old,) = tmp_path.iterdir()
    event_files.drop_events(str(tmp_path), lambda step, tag: step < 11)
    write(tmp_path, range(11, 16), scale=2.0, start=11)
    old.rename(old.with_name("events.out.tfevents.9999999999.host.1.0.v2"))
    new = plugin_event_accumulator.EventAccumulator(str(tmp_path))
    expected = [(s, s) for s in range(1, 11)] + [(s, 2.0 * s) for s in range(11, 16)]
    assert sorted(read_scalars(new)) == expected


def test_a_file_with_nothing_but_a_start_is_deleted(tmp_path):
    write(tmp_path, (), start=3)
    assert len(list(tmp_path.iterdir())) == 1
    assert event_files.drop_events(str(tmp_path), lambda step, tag: True) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_silent_writer_logs_no_start():
    event_files.log_start(tf.summary.create_noop_writer(), 0)
