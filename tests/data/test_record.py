import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from petseg.data import record

RECORDS = st.builds(
    record.Record,
    name=st.text(),
    filename=st.text(),
    image=st.binary(),
    mask=st.binary(),
    height=st.integers(1, 2**31),
    width=st.integers(1, 2**31),
    class_label=st.integers(0, 2**31),
    class_text=st.text(),
)


@given(RECORDS)
def test_every_key_of_the_contract_holds_its_value(item):
    example = tf.train.Example.FromString(record.encode_record(item))
    found = {
        key: (list(value.bytes_list.value) or list(value.int64_list.value))[0]
        for key, value in example.features.feature.items()
    }
    assert found == {
        "image/encoded": item.image,
        "image/format": b"jpeg",
        "image/filename": item.filename.encode(),
        "image/height": item.height,
        "image/width": item.width,
        "image/source_id": item.name.encode(),
        "image/segmentation/class/encoded": item.mask,
        "image/segmentation/class/format": b"png",
        "image/class/label": item.class_label,
        "image/class/text": item.class_text.encode(),
    }


@given(RECORDS)
def test_parsing_gives_back_what_training_needs(item):
    fields = {key: value.numpy() for key, value in record.parse_record(
        tf.constant(record.encode_record(item))).items()}  # fmt: skip
    assert fields == {
        record.IMAGE: item.image,
        record.MASK: item.mask,
        record.SOURCE_ID: item.name.encode(),
        record.HEIGHT: item.height,
        record.WIDTH: item.width,
        record.CLASS_LABEL: item.class_label,
    }


@given(RECORDS)
def test_the_same_record_gives_the_same_bytes(item):
    assert record.encode_record(item) == record.encode_record(item)


def test_decoding_gives_rgb_and_raw_labels():
    labels = np.random.default_rng(0).integers(0, 256, (5, 7, 1), np.uint8)
    image = np.full((5, 7, 3), (200, 30, 30), np.uint8)
    decoded = record.decode_image(tf.io.encode_jpeg(image, quality=100)).numpy()
    assert decoded.shape == (5, 7, 3)
    assert np.abs(decoded.astype(int) - image).max() < 8
    assert (record.decode_mask(tf.io.encode_png(labels)).numpy() == labels).all()
