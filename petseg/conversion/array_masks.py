"""Masks as arrays: .npy files and MATLAB's .mat files, and values of more than 8 bits."""

import io
import math

import numpy as np

from petseg.conversion import mat_file
from petseg.data.picture_file import MAX_PIXELS, BadFile, check_size
from petseg.errors import shown

_NPY, _MAT = b"\x93NUMPY", b"MATLAB 5.0 MAT-file"
_MAT_HDF5 = b"MATLAB 7.3 MAT-file"
_MAX_BYTES = 8 * MAX_PIXELS  # of everything in a .mat file
_CHUNK_BYTES = 1 << 20  # 1 MiB
# Path of the labels in files with more than one array: that of the Semantic Boundaries Dataset.
_KNOWN = (("GTcls", "Segmentation"),)
_MAX_WHOLE = 1 << 53  # above, real numbers do not tell whole ones apart
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
        raise BadFile(
            "mask holds values that are not from 0 to 255, as labels are; if they number objects, "
            f"--binary makes one class of them: {shown}"
        )
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
        found = mat_file.read_matrices(content, _MAX_BYTES)
    except mat_file.DamagedMat as error:
        reason = f": it {error}" if str(error) else ""
        raise BadFile(f"mask is a damaged or unreadable MATLAB file{reason}") from error
    for path in _KNOWN:
        if path in found:
            return _whole(found[path])
    matrices = [value for value in found.values() if _is_label_matrix(value)]
    if len(matrices) != 1:
        held = ", ".join(".".join(path) for path in sorted(found)[:_NAMED]) or "none"
        raise BadFile(
            f"mask is a MATLAB file with {len(matrices)} matrices of whole numbers, one is "
            f"needed; its matrices: {shown(held)}"
        )
    return _whole(matrices[0])


def _whole(matrix: np.ndarray) -> np.ndarray:
    """Returns whole numbers as such; MATLAB keeps them as real ones by default."""
    if not _is_label_matrix(matrix):
        raise BadFile("mask is a MATLAB file whose labels are no whole numbers")
    return matrix.astype(np.int64) if matrix.dtype.kind == "f" else matrix


def _is_label_matrix(matrix: np.ndarray) -> bool:
    if matrix.size < 2 or matrix.dtype.kind in "iu":
        return matrix.size >= 2
    is_small = np.abs(matrix) < _MAX_WHOLE  # false for what is no number
    return bool((is_small & (matrix == np.floor(matrix))).all())
