"""Values as strict JSON has them: a number that is not finite is null."""

from __future__ import annotations

import math
from typing import Any


def strict(value: Any) -> Any:
    """Return a value whose floats are all finite or None, with lists in place of tuples.

    Example:
        >>> strict({"gap": float("nan"), "from": (0.5, float("inf"))})
        {'gap': None, 'from': [0.5, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value
