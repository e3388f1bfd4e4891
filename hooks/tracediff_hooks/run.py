"""A run as the writer knows it: its tensors, which values are stored, what comes next."""

import math
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from tracediff_hooks.digest import ABSENT, Digest
from tracediff_hooks.levels import Levels
from tracediff_hooks.moments import Statistics
from tracediff_hooks.sketch import WIDTH
from tracediff_hooks.tensors import Key, TensorSpec, storable, storage_dtype, stored_at
from tracediff_hooks.values import RAGGED_DIMENSIONS, ragged_extent

STATE_ROLES = ("weight", "slot")
KNOWN_VERSIONS = 1024
"""How many distinct values of a tensor are remembered, to point to one that comes again."""


class Summary:
    """What is kept of a value that is not kept in full. The writer fills it in.

    Attributes:
        statistics: see `moments.FIELDS`; None until they were computed.
        sketch: the position of its sketch among those of its tensor, -1 without one.
        rows: the position of its row digests, -1 without them.
        sketched: whether a sketch was asked for.
    """

    __slots__ = ("rows", "sketch", "sketched", "statistics")

    def __init__(self) -> None:
        self.statistics: Optional[Statistics] = None
        self.sketch = -1
        self.rows = -1
        self.sketched = False


class _Known:
    """Where a value that came before is kept."""

    __slots__ = ("summary", "version")

    def __init__(self) -> None:
        self.version = -1
        self.summary: Optional[Summary] = None


class Placed(NamedTuple):
    """What becomes of a value: its version, or a summary, and whether that is new."""

    version: int
    summary: Optional[Summary]
    new: bool


class Column:
    """A tensor's place in its table, and the values of it that are already stored.

    Attributes:
        renewed: whether the last value was none that had come before.
    """

    def __init__(self, spec: TensorSpec, table: str, *, number: int, level: str) -> None:
        self.spec = spec
        self.table = table
        self.number = number
        self.level = level
        self.path = stored_at("values", spec.role, spec.name) if level == "full" else None
        self.last: Digest = ABSENT
        self.summarized = 0
        self.renewed = True
        self.misfit_said = False
        self._elements = 0
        self._extent = 0
        self._sketched = 0
        self.dtype = np.dtype(storage_dtype(spec.dtype))
        self._known: Dict[Tuple[Digest, Tuple[int, ...]], _Known] = {}
        self._next = 0

    @property
    def version(self) -> int:
        """The version that the next new value will have."""
        return self._next

    def fill_chunks(self, size: int, itemsize: int, run: "Run") -> int:
        """What new chunks take, in bytes, that a ragged value of ``size`` elements begins."""
        if not self._extent:
            self._extent = ragged_extent(size, itemsize, run.expected, run.chunk_bytes)
        chunks = -(-(self._elements + size) // self._extent) - -(-self._elements // self._extent)
        return chunks * self._extent * itemsize

    def sketch_chunks(self, size: int, run: "Run") -> int:
        """What new chunks take, in bytes, that a sketch of ``size`` elements begins."""
        numbers = min(WIDTH, size)
        extent = ragged_extent(numbers, 8, run.expected, run.chunk_bytes)
        chunks = -(-(self._sketched + numbers) // extent) - -(-self._sketched // extent)
        return chunks * extent * 8

    def misfit(self, value: np.ndarray) -> Optional[str]:
        """Why a value cannot be stored where the others are, or None."""
        if value.dtype == self.dtype and value.shape == self.spec.shape and not self.spec.ragged:
            return None
        if storable(value).dtype != self.dtype:
            return f"of dtype {value.dtype.name}, {self.spec.dtype} expected"
        if self.spec.layout == "fixed" and value.shape != self.spec.shape:
            return f"of shape {value.shape}, {self.spec.shape} expected"
        if value.ndim > RAGGED_DIMENSIONS and self.spec.layout != "fixed":
            return f"of {value.ndim} dimensions, at most {RAGGED_DIMENSIONS} can be stored"
        return None

    def is_new(self, content: Tuple[Digest, Tuple[int, ...]], level: str) -> bool:
        """Whether a value is not kept yet as a level wants it."""
        known = self._known.get(content)
        if known is None:
            return True
        if known.version >= 0:
            return False
        if level == "full" or known.summary is None:
            return True
        return level == "sketch" and not known.summary.sketched

    def place(
        self, content: Tuple[Digest, Tuple[int, ...]], level: str, *, size: int = 0
    ) -> Placed:
        """Decides where a value goes.

        Args:
            content: its digest and its shape: zeros of shapes (2, 6) and (3, 4) have one digest and
                are not one value.
            level: how much of it is to be kept.
            size: how many elements it has; where no element is kept, of a sparse one also those
                of the rows that are not given.
        """
        self.renewed = new = self.is_new(content, level)
        known = self._known.get(content)
        if known is None:
            if len(self._known) >= KNOWN_VERSIONS:
                self._known.pop(next(iter(self._known)))
            known = self._known[content] = _Known()
        if not new:
            return Placed(known.version, None if known.version >= 0 else known.summary, new=False)
        if level == "full":
            known.version = self._next
            self._next += 1
            self._elements += size
            return Placed(known.version, None, new=True)
        known.summary = Summary()
        known.summary.sketched = level == "sketch"
        if known.summary.sketched:
            self._sketched += min(WIDTH, size)
        self.summarized += 1
        return Placed(-1, known.summary, new=True)


def _finite_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_json(item) for item in value]
    if isinstance(value, (np.integer, np.bool_)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isnan(number):
            return "nan"
        if number in (float("inf"), float("-inf")):
            return "inf" if number > 0 else "-inf"
        return number
    if isinstance(value, np.ndarray):
        return _finite_json(value.tolist())
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return repr(value)


class Run:
    """What is known of a run: which values are stored, which row comes next."""

    def __init__(self, about: Mapping[str, Any], levels: Levels) -> None:
        self.about = dict(about)
        self.levels = levels
        self.ceiling = "full"
        self.expected = 1
        self.chunk_bytes = 1
        self.columns: Dict[Key, Column] = {}
        self.aliases: List[TensorSpec] = []
        self.counts = {"state": 0, "observed": 0}
        self.fits: List[Dict[str, Any]] = []
        self.events: List[Dict[str, Any]] = []
        self.steps = 0
        self.status = "recording"
        self.started = time.time()
        self.attributes_changed = True

    def declare(self, spec: TensorSpec) -> Optional[Column]:
        """Adds a line to the table of tensors; None where it is there already or is an alias."""
        self.attributes_changed = True
        if spec.same_as is not None:
            self.aliases.append(spec)
            return None
        table = "state" if spec.role in STATE_ROLES else "observed"
        level = self.levels.of(spec)
        column = Column(spec, table, number=self.counts[table], level=level)
        self.counts[table] += 1
        self.columns[spec.role, spec.name] = column
        return column

    def note(self, step: int, kind: str, message: str) -> None:
        """Adds an event."""
        self.events.append({"step": step, "kind": kind, "message": message})
        self.attributes_changed = True

    def attributes(self) -> Dict[str, Any]:
        """The run as its attributes tell it, see docs/trace-format.md."""
        tensors = [
            self._line(column.spec, column.table, column.number, column.path)
            for column in self.columns.values()
        ]
        for spec in self.aliases:
            target = self.columns.get((str(spec.same_as), spec.name))
            path = target.path if target else None
            tensors.append(self._line(spec, "observed", None, path))
        described = self.levels.described(self.ceiling)
        result = dict(self.about, level=described.pop("level"))
        result.update(
            status=self.status,
            schedule=described,
            fits=self.fits,
            tensors=tensors,
            events=list(self.events),
            started=self.started,
        )
        return dict(_finite_json(result))

    @staticmethod
    def _line(
        spec: TensorSpec, table: str, number: Optional[int], path: Optional[str]
    ) -> Dict[str, Any]:
        return {
            "name": spec.name,
            "role": spec.role,
            "table": table,
            "column": number,
            "layer": spec.layer,
            "order": spec.order,
            "dtype": spec.dtype,
            "shape": None if spec.ragged else list(spec.shape or ()),
            "layout": spec.layout,
            "path": path,
            "trainable": spec.trainable,
            "same_as": spec.same_as,
            "framework_name": spec.framework_name,
            "scaled_by": spec.scaled_by,
        }
