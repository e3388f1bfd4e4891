"""What hook and recorder say about tensors: names, the table's lines, values, storable dtypes."""

from typing import NamedTuple, Optional, Tuple, Union
from urllib.parse import quote

import numpy as np

from tracediff_hooks.digest import Digest, digest_of

Key = Tuple[str, str]
"""Role and canonical name: unique within a run."""


class SparseRows(NamedTuple):
    """A gradient that came as indexed slices: some rows of a dense tensor.

    Rows that come repeatedly are to be added.
    """

    values: np.ndarray
    rows: np.ndarray


Value = Union[np.ndarray, SparseRows]

ScaledBy = Union[str, float]
"""What a gradient is multiplied by: the name of the slot that holds it, or the number."""


class TensorSpec(NamedTuple):
    """A line of the table of tensors, as the hook knows it."""

    name: str
    role: str
    dtype: str
    shape: Optional[Tuple[int, ...]] = None
    layer: Optional[str] = None
    order: int = 0
    trainable: Optional[bool] = None
    same_as: Optional[str] = None
    framework_name: Optional[str] = None
    ragged: bool = False
    sparse: bool = False
    scaled_by: Optional[ScaledBy] = None

    @property
    def layout(self) -> str:
        """How its values are stored: ``fixed``, ``ragged`` or ``sparse``."""
        if self.sparse:
            return "sparse"
        return "ragged" if self.ragged else "fixed"


def parts(value: Value) -> Tuple[np.ndarray, Optional[np.ndarray]]:
    """A value's numbers, in C order, and, for a sparse one, the int64 row numbers of the rows.

    Both are in this machine's order of bytes, in whichever order a script had them.
    """
    if isinstance(value, SparseRows):
        return _plain(value.values), np.asarray(value.rows, np.int64, order="C")
    return _plain(value), None


def _plain(value: np.ndarray) -> np.ndarray:
    """The numbers in C order and in this machine's order of bytes."""
    array = np.asarray(value, order="C")
    return array if array.dtype.isnative else array.astype(array.dtype.type)


def size_of(value: Value) -> int:
    """What a value takes in memory, in bytes."""
    if isinstance(value, SparseRows):
        return int(value.values.nbytes + value.rows.nbytes)
    return int(np.asarray(value).nbytes)


def same_value(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays hold the same bytes, at once where they share them."""
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not (one.flags.c_contiguous and other.flags.c_contiguous):
        return one.tobytes() == other.tobytes()
    if one.__array_interface__["data"][0] == other.__array_interface__["data"][0]:
        return True
    word = np.uint8 if one.nbytes % 8 else np.uint64
    return bool((one.reshape(-1).view(word) == other.reshape(-1).view(word)).all())


def digest_value(value: np.ndarray, rows: Optional[np.ndarray]) -> Digest:
    """The digest of a value, see docs/trace-format.md."""
    return digest_of(value) if rows is None else digest_of(value, rows)


def storable(value: np.ndarray) -> np.ndarray:
    """The value in a dtype that every numpy reads.

    What is not plain numpy, such as bfloat16, becomes integers of its width.
    """
    if plain_numpy(value.dtype):
        return value
    return value.view(np.dtype(f"u{value.dtype.itemsize}"))


def plain_numpy(dtype: np.dtype) -> bool:
    """Whether every numpy knows a dtype, also one without ml_dtypes."""
    # Neither 0 nor 1 is what packages besides numpy have registered; 0 are such as were given
    # another order of bytes, be it this machine's.
    return dtype.kind in "biufc" and dtype.isbuiltin != 2 and dtype.isnative


def recordable(value: np.ndarray) -> bool:
    """Whether an array holds numbers; texts and objects do not fit into a trace."""
    return value.dtype.kind in "biufc" or (value.dtype.kind == "V" and value.dtype.names is None)


def storage_dtype(name: str) -> str:
    """The dtype in which values of a dtype, given by its name, are stored; see `storable`."""
    try:
        dtype = np.dtype(name)
    except TypeError:
        return {"bfloat16": "u2"}.get(name, "u1")
    return name if plain_numpy(dtype) else f"u{dtype.itemsize}"


def stored_at(family: str, role: str, name: str) -> str:
    """Where the values, the sketches or the row digests of a tensor stand in its run."""
    return "/".join([family, role, *map(_segment, name.split("/"))])


def _segment(part: str) -> str:
    """A part of a name as a folder, of which none is hidden, above this one, or nameless."""
    quoted = quote(part, safe="-_.")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted or "%"
