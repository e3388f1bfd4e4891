"""Brings values to the host, whatever framework they are of and whatever device holds them."""

import sys
from typing import Any

import numpy as np


def on_host(value: Any) -> np.ndarray:
    """A value as an array, in memory that may be the value's own."""
    if hasattr(value, "detach"):
        return _of_torch(value.detach())
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _of_torch(tensor: Any) -> np.ndarray:
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    tensor = tensor.cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        # numpy knows this dtype only from a package that Keras 3 needs, too.
        integers = tensor.view(sys.modules["torch"].int16).numpy()
        return np.asarray(integers.view(sys.modules["ml_dtypes"].bfloat16))
    return np.asarray(tensor.numpy())
