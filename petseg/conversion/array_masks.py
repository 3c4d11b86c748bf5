"""Masks as arrays: .npy files and MATLAB's .mat files, and values of more than 8 bits."""

import io
import math
import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from petseg.data.picture_file import MAX_PIXELS, BadFile, check_size

_NPY, _MAT = b"\x93NUMPY", b"MATLAB 5.0 MAT-file"
_MAT_HDF5 = b"MATLAB 7.3 MAT-file"
_MAT_HEADER_BYTES, _MAT_COMPRESSED = 128, 15
_MAX_BYTES = 8 * MAX_PIXELS  # of everything in a .mat file
_CHUNK_BYTES = 1 << 20  # 1 MiB
# Path of the labels in files with more than one array: that of the Semantic Boundaries Dataset.
_KNOWN = (("GTcls", "Segmentation"),)
_NAMED = 8  # values or variables, in a reason


def kind_of(content: bytes) -> str | None:
    """Returns 'NumPy' or 'MATLAB' by a file's first bytes; None if it is neither."""
    if content.startswith(_NPY):
        return "NumPy"
    return "MATLAB" if content.startswith((_MAT, _MAT_HDF5)) else None


def read_array(content: bytes) -> np.ndarray:
    """Reads the labels of a .npy or .mat file; never runs what a pickle holds.

    Of a .mat file the labels are the only matrix of whole numbers, or GTcls.Segmentation.

    Returns:
      Integers or booleans, [height, width].

    Raises:
      BadFile: It is damaged, or holds no such array, or several.
    """
    kind = kind_of(content)
    if content.startswith(_MAT_HDF5):
        raise BadFile("mask is a MATLAB file of version 7.3; save it with -v7, or as .npy or PNG")
    try:
        array = _read_npy(content) if kind == "NumPy" else _read_mat(content)
    except BadFile:
        raise
    # Damaged headers make the readers raise anything, and ask for any memory.
    except Exception as error:
        raise BadFile(f"mask is a damaged or unreadable {kind} file") from error
    check_size(*array.shape, "mask")
    return array


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Returns integers [height, width] as uint8; raises BadFile for values that are none."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8)
    outside = (values < 0) | (values > 255)
    if outside.any():
        found, counts = np.unique(values[outside], return_counts=True)
        named = zip(found[:_NAMED].tolist(), counts[:_NAMED].tolist(), strict=True)
        shown = ", ".join(f"{value} ({count:,} px)" for value, count in named)
        if len(found) > _NAMED:
            shown += f" and {len(found) - _NAMED:,} more values"
        raise BadFile(f"mask holds values that are not from 0 to 255, as labels are: {shown}")
    return values.astype(np.uint8)


def _read_npy(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.kind not in "iub":
        raise BadFile(f"mask is an array of {dtype}; save labels as whole numbers, uint8 say")
    if len(shape) != 2:
        raise BadFile(f"mask is an array of {len(shape)} dimensions, {shape}; 2 are needed")
    check_size(*shape, "mask")
    if len(content) - file.tell() != math.prod(shape) * dtype.itemsize:
        raise BadFile("mask is a damaged or unreadable NumPy file")
    file.seek(0)
    return np.load(file, allow_pickle=False)


def _read_mat(content: bytes) -> np.ndarray:
    try:
        import scipy.io  # an extra
    except ImportError as error:
        raise BadFile("mask is a MATLAB file, which needs: pip install 'petseg[mat]'") from error
    _check_mat_size(content)
    variables = scipy.io.loadmat(io.BytesIO(content))
    variables = {name: value for name, value in variables.items() if not name.startswith("__")}
    for path in _KNOWN:
        if (found := _at(variables, path)) is not None:
            return found
    matrices = {name: value for name, value in variables.items() if _is_label_matrix(value)}
    if len(matrices) != 1:
        held = ", ".join(sorted(variables)[:_NAMED]) or "nothing"
        raise BadFile(
            f"mask is a MATLAB file with {len(matrices)} matrices of whole numbers, one is "
            f"needed; it holds: {held}"
        )
    (matrix,) = matrices.values()
    return matrix if matrix.dtype.kind in "iub" else matrix.astype(np.int64)


def _check_mat_size(content: bytes) -> None:
    """Raises BadFile if a file unpacks to more than any mask needs."""
    order = "little" if content[126:128] == b"IM" else "big"
    position, total = _MAT_HEADER_BYTES, 0
    while position + 8 <= len(content):
        kind = int.from_bytes(content[position : position + 4], order)
        size = int.from_bytes(content[position + 4 : position + 8], order)
        if kind == _MAT_COMPRESSED:
            for part in _unpacked(content[position + 8 : position + 8 + size]):
                total += part
                if total > _MAX_BYTES:
                    raise BadFile("mask is a MATLAB file that unpacks to more than a mask needs")
        position += 8 + size


def _unpacked(packed: bytes) -> Iterator[int]:
    """Yields how many bytes each step of unpacking gives."""
    unpack = zlib.decompressobj()
    while packed and not unpack.eof:
        yield len(unpack.decompress(packed, _CHUNK_BYTES))
        packed = unpack.unconsumed_tail


def _at(variables: Mapping[str, object], path: tuple[str, ...]) -> np.ndarray | None:
    """Returns a matrix within structs, if it is there."""
    value = variables.get(path[0])
    for name in path[1:]:
        while isinstance(value, np.ndarray) and value.dtype.names is None and value.size == 1:
            value = value.item()
        if not isinstance(value, np.ndarray | np.void) or name not in (value.dtype.names or ()):
            return None
        value = value[name]
        if isinstance(value, np.ndarray) and value.dtype == object:
            value = value.item()
    return value if _is_label_matrix(value) else None


def _is_label_matrix(value: object) -> bool:
    """Whether it is a matrix of whole numbers; MATLAB keeps them as real ones by default."""
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.size < 2:
        return False
    if value.dtype.kind == "f":
        return bool(np.isfinite(value).all() and (value == np.floor(value)).all())
    return value.dtype.kind in "iub"
