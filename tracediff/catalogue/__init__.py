"""The catalogue: what each cause code means, and which changes between versions are known.

Entries are data, in two tables beside this file; nothing here looks at a run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from tracediff.errors import UnknownName, did_you_mean
from tracediff.model import CAUSES

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "v1": "tf.compat.v1.train",
        "keras-2.3": "Keras 2.3 on TensorFlow 1.15",
        "tf.keras-1": "tf.keras of TensorFlow 1.15",
        "tf.keras-2": "tf.keras of TensorFlow 2.0 to 2.10, and legacy optimizers",
        "tf.keras-2.11": "tf.keras from TensorFlow 2.11",
        "keras-3": "Keras 3",
    }
)
"""Families of versions that compute alike, each with what it is called."""


@dataclass(frozen=True, slots=True)
class Change:
    """One known change between versions.

    Attributes:
        id: Its name in the catalogue.
        title: It in one line.
        what: What changed.
        old: Families before it.
        new: Families after it.
        code: The cause under which it shows.
        subject: Pattern (``*`` for anything) of what the finding is about.
        configuration: How it shows in the recorded configurations.
        numbers: How it shows in the numbers.
        source: Where it stands in the sources.
        remedy: What restores the old behaviour.
        optimizer: Optimizer classes that it concerns; empty where it is none's.
        values: What the old and the new family show, or None.
        layer: What must stand in both configurations for the change to be asked for: keys, of
            layers of some classes where it says so, and their value, or any where it gives none.
    """

    id: str
    title: str
    what: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    code: str
    subject: str
    configuration: str
    numbers: str
    source: str
    remedy: str
    optimizer: tuple[str, ...] = ()
    values: tuple[Any, Any] | None = None
    layer: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """One cause code.

    Attributes:
        code: As reports spell it.
        means: What it stands for.
        asserted: When a finding of it is made.
    """

    code: str
    means: str
    asserted: str


@cache
def changes() -> tuple[Change, ...]:
    """Return every known change, in the order of the catalogue."""
    return tuple(map(_change, _table("changes.toml")["change"]))


def _change(entry: dict[str, Any]) -> Change:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    return Change(**values)


@cache
def codes() -> tuple[Code, ...]:
    """Return every cause code."""
    asserted = _table("codes.toml")["asserted"]
    return tuple(Code(code, means, asserted[code]) for code, means in CAUSES.items())


def find(name: str) -> Code | Change:
    """Return the entry of a cause code or of a known change.

    Raises:
        UnknownName: Neither is called so; the hint names the nearest.
    """
    entries: dict[str, Code | Change] = {one.code: one for one in codes()}
    entries |= {one.id: one for one in changes()}
    found = entries.get(name) or entries.get(name.lower())
    if found is None:
        of_group = [code for code in CAUSES if code.startswith(f"{name.rstrip('.')}.")]
        hint = did_you_mean(name.lower(), entries)
        if of_group:
            hint = f"there are {', '.join(of_group)}"
        raise UnknownName(
            f"{name} is neither a cause code nor a known change",
            hint=hint or "tracediff explain lists all",
        )
    return found


def _table(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__name__).joinpath(name).read_text("utf-8"))
