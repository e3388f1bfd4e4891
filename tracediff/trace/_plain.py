"""Read rows of uncompressed chunks straight from their files, into memory that is there.

Zarr needs about a millisecond a chunk, during which no other thread does any work. Nothing is
mapped: where somebody shortens a file that is mapped, the process is killed.
"""

from __future__ import annotations

import os
from io import FileIO
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def read_rows(files: str, start: int, out: NDArray[Any], *, chunk_rows: int) -> bool:
    """Fill an array with rows of one chunk, and say whether that was possible.

    Args:
        files: How the files of the chunks are named, with a place for their number.
        start: The number of the first row.
        out: Where to put them; contiguous, of shape (rows, ...), one row at least.
        chunk_rows: How many rows a chunk has.

    Returns:
        False where the rows are of several chunks, or the file is not there or not of the size of
        a whole chunk. Part of ``out`` may be filled then.
    """
    chunk, first = divmod(start, chunk_rows)
    if first + len(out) > chunk_rows:
        return False
    left = out.reshape(-1).view(np.uint8).data
    size = out.nbytes // len(out)
    try:
        # A thread that opens files holds the interpreter lock: through `Path`, four times as long.
        with FileIO(files.format(chunk)) as file:
            if os.fstat(file.fileno()).st_size != chunk_rows * size:
                return False
            file.seek(first * size)
            while left:
                count = file.readinto(left)
                if not count:
                    return False
                left = left[count:]
    except OSError:
        return False
    return True
