"""A view as data: what a screen shows, for writing it as text, markdown, JSON or arrays."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.errors import UsageError
from tracediff.report.terminal import table

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("txt", "json", "md", "svg", "npz")
"""What a view can be exported as, by the suffix of the file."""


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """What a screen shows.

    Attributes:
        title: What it is.
        facts: Lines above the table.
        header: Titles of the columns.
        rows: The table, as shown.
        data: The same for programs, numbers in full.
        arrays: The same as arrays.
    """

    title: str
    facts: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def text(self) -> str:
        """Return it as plain text."""
        lines = [self.title, *self.facts, ""]
        lines += table(self.rows, header=self.header or None)
        return "\n".join(lines) + "\n"

    def markdown(self) -> str:
        """Return it as markdown."""
        lines = [f"## {self.title}", "", *(f"- {fact}" for fact in self.facts), ""]
        if self.header:
            lines += [_row(self.header), _row(["---"] * len(self.header))]
        lines += [_row(row) for row in self.rows]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """Return it as strict JSON, with a number that is not finite as null."""
        found = {"title": self.title, "facts": list(self.facts), **_strict(dict(self.data))}
        return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def npz(self) -> bytes:
        """Return its arrays as a numpy archive."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self.arrays)  # type: ignore[arg-type] # a stub without names
        return buffer.getvalue()


def write(sheet: Sheet, path: Path, *, svg: str) -> Path:
    """Write a view; the suffix of the file says as what.

    Args:
        sheet: The view.
        path: The file, which must not exist.
        svg: The screen as it looks now.

    Raises:
        UsageError: The suffix is unknown, there is such a file, or it cannot be written.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise UsageError(f"{path.name} is to be one of .{', .'.join(FORMATS)}")
    if kind == "npz" and not sheet.arrays:
        raise UsageError("this view has no arrays; export it as .json")
    content: bytes = {
        "txt": lambda: sheet.text().encode(),
        "md": lambda: sheet.markdown().encode(),
        "json": lambda: sheet.json().encode(),
        "svg": svg.encode,
        "npz": sheet.npz,
    }[kind]()
    target = path.expanduser()
    try:
        with target.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise UsageError(f"{target} is there already") from None
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from None
    return target


def _row(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _strict(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic):
        return _strict(value.item())
    return value if isinstance(value, str | int | bool) or value is None else str(value)
