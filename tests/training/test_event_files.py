import numpy as np
import tensorflow as tf

from petseg.training import event_files


def write(folder, steps, tags=("a", "b")):
    writer = tf.summary.create_file_writer(str(folder))
    for step in steps:
        for tag in tags:
            with writer.as_default(step):
                tf.summary.scalar(tag, step)
    writer.close()


def told(folder):
    return sorted(
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for path in folder.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    )


def test_what_is_not_kept_goes_and_the_rest_stays_byte_by_byte(tmp_path):
    write(tmp_path, range(10))
    before = told(tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    assert event_files.drop_events(str(tmp_path), lambda step, tag: True) == 0
    assert path.read_bytes() == content
    assert event_files.drop_events(str(tmp_path), lambda step, tag: step < 6 or tag == "b") == 4
    assert told(tmp_path) == [row for row in before if row[0] < 6 or row[1] == "b"]


def test_a_graph_goes_as_a_summary_does(tmp_path):
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


def test_a_file_cut_anywhere_keeps_its_whole_events(tmp_path):
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print("seed", seed)
    rng = np.random.default_rng(seed)
    write(tmp_path, range(10))
    (path,) = tmp_path.iterdir()
    whole, before = path.read_bytes(), told(tmp_path)
    for _ in range(20):
        path.write_bytes(whole[: rng.integers(200, len(whole))])
        event_files.drop_events(str(tmp_path), lambda step, tag: step < 8)
        kept = told(tmp_path)  # which raises if a record is cut
        assert kept == before[: len(kept)]


def test_a_file_without_summaries_and_one_of_nobody_are_told_apart(tmp_path):
    write(tmp_path, range(3))
    (tmp_path / "notes.txt").write_text("mine")
    assert event_files.drop_events(str(tmp_path), lambda step, tag: False) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert event_files.drop_events(str(tmp_path / "absent"), lambda step, tag: False) == 0
