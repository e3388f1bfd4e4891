"""The plain arrays that a ragged or a sparse tensor of a batch is recorded as.

A ragged tensor is recorded as what defines it. A sparse one stands for a dense one, which some
frameworks make of it before they train and others do not: it is recorded dense, so that runs of
both kinds can be compared, unless its rows are too wide for that.
"""

from typing import Any, Callable, Dict, Iterable

import numpy as np

from tracediff_hooks.tensors import Key

ROW_BYTES = 128 << 10
"""What a row of a sparse tensor may take as a dense one: 64 MiB in a batch of 512."""


def plain_arrays(key: Key, value: Any, read: Callable[[Any], Any]) -> Dict[Key, np.ndarray]:
    """The arrays of a tensor, by role and name.

    Args:
        key: the tensor's.
        value: a tensor or array of any kind, outside of a trace.
        read: gives a plain tensor as an array.

    Returns:
        Of a ragged tensor ``<name>/row_lengths`` (and ``row_lengths_1`` ... of the ragged axes
        inside) and ``<name>/values``. Of a sparse one the dense one, or, where a row of that takes
        more than `ROW_BYTES`, ``<name>/indices``, ``<name>/values`` and ``<name>/dense_shape``. Of
        any other the array itself.
    """
    role, name = key
    if hasattr(value, "nested_row_splits"):
        found: Dict[Key, np.ndarray] = {}
        for axis, splits in enumerate(value.nested_row_splits):
            lengths = f"{name}/row_lengths" + (f"_{axis}" if axis else "")
            found[role, lengths] = np.diff(np.asarray(read(splits)))
        found[role, f"{name}/values"] = np.asarray(read(value.flat_values))
        return found
    if all(hasattr(value, part) for part in ("indices", "values", "dense_shape")):
        parts = [np.asarray(read(part)) for part in (value.indices, value.values)]
        return _sparse(key, *parts, shape=np.asarray(read(value.dense_shape)))
    if hasattr(value, "tocoo"):  # scipy
        entries = value.tocoo()
        indices = np.stack([entries.row, entries.col], axis=1)
        return _sparse(key, indices, np.asarray(entries.data), shape=entries.shape)
    if type(value).__name__ == "BCOO":  # jax.experimental.sparse
        parts = [np.asarray(read(part)) for part in (value.indices, value.data)]
        return _sparse(key, *parts, shape=value.shape)
    return {key: np.asarray(read(value))}


def is_composite(value: Any) -> bool:
    """Whether a tensor is ragged or sparse."""
    return any(hasattr(value, name) for name in ("nested_row_splits", "dense_shape", "tocoo")) or (
        type(value).__name__ == "BCOO"
    )


def _sparse(
    key: Key, indices: np.ndarray, values: np.ndarray, *, shape: Iterable[int]
) -> Dict[Key, np.ndarray]:
    if values.dtype.kind not in "biufcV":
        return {key: values}  # texts, which are not recorded
    extents = [int(extent) for extent in shape]
    if int(np.prod(extents[1:], dtype=np.int64)) * values.dtype.itemsize > ROW_BYTES:
        role, name = key
        return {
            (role, f"{name}/indices"): indices.astype(np.int64),
            (role, f"{name}/values"): values,
            (role, f"{name}/dense_shape"): np.array(extents, np.int64),
        }
    dense = np.zeros(extents, values.dtype)
    np.add.at(dense, tuple(indices.T), values)  # entries that come repeatedly are added
    return {key: dense}
