"""Reads the text files that a user gives: lists of names and class files of any editor."""

import codecs

from etils import epath


def read_lines(path: str, errors: str = "surrogateescape") -> list[str]:
    """Reads the lines of a text file; see to_lines. Raises OSError and UnicodeDecodeError."""
    return to_lines(epath.Path(path).read_bytes(), errors)


def to_lines(content: bytes, errors: str = "surrogateescape") -> list[str]:
    """Decodes a text's lines, whatever ends them: LF, CRLF or CR.

    Args:
      content: UTF-8, with a byte order mark or without, or UTF-16 with one.
      errors: What becomes of bytes that are no UTF-8: 'surrogateescape' keeps them as
        os.fsdecode does, so that they still name their file; 'strict' raises.

    Raises:
      UnicodeDecodeError: It begins as UTF-16 and is none, or errors is 'strict'.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16")
    else:
        text = content.removeprefix(codecs.BOM_UTF8).decode(errors=errors)
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
