"""A limit to what a trace takes on disk, which lowers the level and never stops a training."""

import numbers
import re
import shutil
from pathlib import Path
from typing import Any, Optional, Union

DEFAULT_BYTES = 10 << 30
"""What a trace takes at most where nobody has said anything."""
SMALLEST = 4 << 20
"""No budget may be smaller: the description of a run takes some hundred kilobytes."""
RESERVE = 1 << 20
"""Kept free for what cannot be told beforehand: attributes, and files that replace others."""
SHARES = {"full": 0.75, "sketch": 0.95, "digest": 1.0}
"""How much of a budget may be used up at which level, so that the lower ones find some left."""

_UNITS = {"": 1, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?(?:e\d{1,3})?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def parse_size(size: Union[float, str]) -> int:
    """A number of bytes: 5000000, 5e6, ``"5e6"``, ``"500 MB"`` or ``"2GiB"``.

    Raises:
        ValueError: something else, or less than `SMALLEST`.
    """
    number = int(size) if _is_whole(size) else _parsed(size)
    if number < SMALLEST:
        raise ValueError(f"budget must be at least {shown(SMALLEST)}, not {size!r}")
    return number


def _is_whole(size: Any) -> bool:
    """Whether it is a whole number, of Python or of numpy."""
    return isinstance(size, numbers.Real) and not isinstance(size, bool) and size == size // 1


def _parsed(size: Union[float, str]) -> int:
    match = _SIZE.fullmatch(size.strip()) if isinstance(size, str) else None
    if match is None:
        raise ValueError(f"budget must be a number of bytes or a text such as '2GB', not {size!r}")
    number, unit, binary = match.groups()
    size = float(number) * ((1024 if binary else 1000) ** _UNITS[unit.lower()] if unit else 1)
    if size == float("inf"):
        raise ValueError(f"budget must be a number of bytes, and {match.group()!r} is none")
    return int(size)


def shown(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


class Budget:
    """What a trace may take on disk.

    Args:
        limit: in bytes, or None for `DEFAULT_BYTES` or what the disk has left, if that is less.
        path: where the trace will be.
    """

    def __init__(self, limit: Union[float, str, None], path: str) -> None:
        self.given = limit is not None
        self._path = path
        self.limit = DEFAULT_BYTES if limit is None else parse_size(limit)

    def settle(self) -> None:
        """Takes the disk into account, for a budget that nobody gave."""
        free = self.free()
        if not self.given and free is not None:
            self.limit = max(SMALLEST, min(DEFAULT_BYTES, int(0.9 * free)))

    def free(self) -> Optional[int]:
        """What the disk has left, or None where that cannot be told."""
        if "://" in self._path:
            return None
        for folder in [Path(self._path), *Path(self._path).absolute().parents]:
            try:
                return shutil.disk_usage(str(folder)).free
            except OSError:  # it is not there yet, or what is there cannot be asked
                continue
        return None

    def allows(self, level: str, used: int) -> bool:
        """Whether a trace that has come to ``used`` bytes stays inside at a level."""
        return used + RESERVE <= self.limit * SHARES[level]
