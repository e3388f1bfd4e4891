"""Sketches by the words of docs/trace-format.md."""

import numpy as np


def by_the_page(values):
    """The sketch as docs/trace-format.md defines it, one element at a time."""
    mask = (1 << 64) - 1

    def mixed(n):
        z = (n + 1) * 0x9E3779B97F4A7C15 & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        return z ^ z >> 31

    result = [0.0] * 509
    for i, x in enumerate(values.reshape(-1).tolist()):
        block, inside = divmod(i, 32 * 509)
        sign = 1 - 2 * (mixed(mixed(block + (1 << 32)) % (32 * 509) + inside) >> 63)
        row = block // 32 * 32 + inside // 509
        turn = mixed(row + (1 << 33)) % 509 if row else 0
        result[(inside % 509 + turn) % 509] += sign * x
    return np.array(result[: min(509, values.size)])
