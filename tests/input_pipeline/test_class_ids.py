import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.data.label_map import UNKNOWN, parse_label_map
from petseg.input_pipeline.class_ids import to_class_ids
from petseg.registry import LABEL_MAPS

SPECS = [
    *LABEL_MAPS,
    "a=0; b=255; ignored=7",
    "a=9; b=1; c=200; d=17; e=3; f=44; g=2; ignored=0",
    "; ".join(f"c{i}={i}" for i in range(250)) + "; ignored=250,251,252,253,254,255",
]


@pytest.mark.parametrize("spec", SPECS)
def test_every_known_value_becomes_its_class(spec):
    table = parse_label_map(spec).class_ids()
    known = np.flatnonzero(table != UNKNOWN).astype(np.uint8)
    assert (to_class_ids(tf.constant(known), table).numpy() == table[known]).all()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 90, 255]), min_size=1))
def test_any_table_is_applied(ids):
    table = np.full(256, UNKNOWN, np.uint8)
    table[list(ids)] = list(ids.values())
    mask = np.array(list(ids), np.uint8)[:, None]
    assert (to_class_ids(tf.constant(mask), table).numpy()[:, 0] == list(ids.values())).all()
