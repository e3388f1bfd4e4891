"""What a run says of itself: attributes in JSON, with the floats that JSON lacks."""

from __future__ import annotations

import math
from typing import Any

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
# Under these keys stand names, and someone may call a layer "nan".
_NAMES = frozenset({"name", "framework_name", "class", "inputs", "label", "message"})


def with_floats(value: Any, name: str = "") -> Any:
    """Return an attribute in which the strings that stand for floats are floats.

    Args:
        value: What JSON holds.
        name: The key under which it stands.

    Example:
        >>> with_floats({"name": "nan", "rate": "-inf"})
        {'name': 'nan', 'rate': -inf}
    """
    if isinstance(value, dict):
        return {key: with_floats(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [with_floats(item, name) for item in value]
    if isinstance(value, str) and name not in _NAMES:
        return _NOT_FINITE.get(value, value)
    return value
