"""A JSON file is read piece by piece."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petseg.conversion import json_stream
from petseg.conversion.json_stream import BrokenJson, read_pieces

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(content=st.dictionaries(st.text(), VALUES, max_size=6), chunk=st.integers(1, 9))
def test_pieces_put_together_are_the_file(tmp_path_factory, content, chunk):
    path = tmp_path_factory.mktemp("json") / "a.json"
    text = json.dumps(content, ensure_ascii=False, indent=chunk % 3).encode(errors="surrogatepass")
    path.write_bytes(text)
    read = {key: [] for key, value in content.items() if isinstance(value, list)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK_BYTES", chunk)
        for piece in read_pieces(str(path)):
            assert text[piece.offset : piece.offset + len(piece.content)] == piece.content
            value = json.loads(piece.content.decode(errors="surrogatepass"))
            if piece.index is None:
                read[piece.key] = value
            else:
                assert piece.index == len(read[piece.key])
                read[piece.key].append(value)
    assert read == content


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "byte 0: an object"),
        ("[1]", "byte 0: an object"),
        ('{"a": [1, 2}', "byte 11"),
        ('{"a": [1, 2', "byte 11"),
        ('{"a": {"b": tru}}', "byte 12"),
        ('{"a": 1} x', "byte 9: something follows"),
        ("{1: 2}", "byte 2: a key"),
        ('{"a" 2}', "byte 5: ':'"),
        ('{"a": ' + '{"b": ' * 100_000, "nested too deeply"),
        ("\x00" * 30, "byte 0"),
    ],
)
def test_broken_json_is_told_by_its_place(tmp_path, text, where):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BrokenJson, match=where):
        list(read_pieces(str(path)))


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": [1]}')
    (piece,) = read_pieces(str(tmp_path / "a.json"))
    assert (piece.offset, piece.content) == (10, b"1")
