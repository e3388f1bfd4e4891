"""Takes results too small for full precision as zero: for a while, and in the calling thread only.

Processors need a hundred times as long for a product that is such a number as for any other. The
second moments of Adam, squared, are full of them. Done where the C library is known to keep the
switch where it is looked for, which is Linux on x86-64; elsewhere nothing happens.
"""

import contextlib
import ctypes
import platform
import sys
from typing import Any, Iterator

_FLUSH_TO_ZERO = 1 << 15
"""Bit of MXCSR (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, 10.2.3)."""
_MXCSR = 7
"""Its place in `fenv_t`, counted in words, after the state of the x87 (fenv.h of glibc, musl)."""


def _library() -> Any:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        library = ctypes.CDLL(None)
        if not hasattr(library, "fesetenv"):
            library = ctypes.CDLL("libm.so.6")
        return library if hasattr(library, "fegetenv") else None
    except (OSError, TypeError):
        return None


_LIBRARY = _library()


@contextlib.contextmanager
def flushed() -> Iterator[bool]:
    """Flushes such results in this thread until the block ends; yields whether that is so."""
    before = (ctypes.c_uint32 * 16)()
    if _LIBRARY is None or _LIBRARY.fegetenv(before):
        yield False
        return
    within = type(before)(*before)
    within[_MXCSR] |= _FLUSH_TO_ZERO
    flushes = not _LIBRARY.fesetenv(within)
    try:
        yield flushes
    finally:
        _LIBRARY.fesetenv(before)
