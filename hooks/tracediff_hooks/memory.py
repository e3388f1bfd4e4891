"""Keeps memory that is freed each step from being given back to the system each step."""

import numpy as np

_LARGEST = (32 << 20) - (8 << 10)
"""A little less than the largest block that glibc learns from (`DEFAULT_MMAP_THRESHOLD_MAX`)."""


def keep_freed_memory() -> None:
    """Lets glibc keep blocks as large as a step's values for the next step.

    It gives large blocks back when they are freed, and the system clears their pages anew at every
    step, until it has seen a block of some size freed: smaller ones are kept from then on ("dynamic
    mmap threshold" in mallopt(3) of Linux). One block that nobody writes to teaches it that. Other
    C libraries are not impressed.
    """
    np.empty(_LARGEST, np.uint8)
