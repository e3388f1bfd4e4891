"""How findings write numbers and values: one form everywhere."""

from __future__ import annotations

import json
from typing import Any

import numpy as np


def short(value: float) -> str:
    """Return a number in at most a handful of digits.

    Example:
        >>> short(0.00123456), short(1e-08), short(3.0)
        ('0.001235', '1e-08', '3')
    """
    return f"{float(value):.4g}"


def plain(value: Any) -> Any:
    """Return a value as JSON allows it; what JSON lacks as its text.

    Example:
        >>> plain(np.float32(0.5)), plain(None), plain((3, 3))
        (0.5, None, [3, 3])
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def shown(value: Any) -> str:
    """Return a setting as a sentence shows it: numbers short, text in quotes.

    Example:
        >>> shown(0.8999999761581421), shown("relu"), shown(None)
        ('0.9', '"relu"', 'not set')
    """
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        named = value.get("class_name")
        inner = {k: v for k, v in (value.get("config") or {}).items() if v is not None}
        if named:
            arguments = ", ".join(f"{key}={shown(item)}" for key, item in inner.items())
            return f"{named}({arguments})"[:120]
    return json.dumps(plain(value))[:120]


def spelled(value: object) -> str:
    """Return a value as a line of code has it: a float in the fewest digits that float32 keeps.

    Example:
        >>> spelled(0.009999999776482582), spelled(0.1), spelled("relu"), spelled((3, 3))
        ('0.01', '0.1', "'relu'", '(3, 3)')
    """
    if isinstance(value, float) and float(np.float32(value)) == value:
        return str(np.float32(value))
    return repr(value)


def listed(names: list[str], *, limit: int = 4) -> str:
    """Return names in a sentence, the first few only.

    Example:
        >>> listed(["a", "b"]), listed(["a", "b", "c"], limit=2)
        ('a, b', 'a, b and 1 more')
    """
    shown_names = ", ".join(names[:limit])
    return shown_names if len(names) <= limit else f"{shown_names} and {len(names) - limit} more"
