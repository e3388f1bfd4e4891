"""A run as the training thread knows it: its tensors, which values are stored, what comes next."""

import math
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from tracediff_hooks.digest import ABSENT, Digest
from tracediff_hooks.store import values_path
from tracediff_hooks.tensors import Key, TensorSpec

STATE_ROLES = ("weight", "slot")
KNOWN_VERSIONS = 1024
"""How many distinct values of a tensor are remembered, to point to one that comes again."""


class Column:
    """A tensor's place in its table, and the values of it that are already stored."""

    def __init__(self, spec: TensorSpec, table: str, *, number: int, keep: bool) -> None:
        self.spec = spec
        self.table = table
        self.number = number
        self.keep = keep
        self.path = values_path(spec.role, spec.name) if keep else None
        self.last: Digest = ABSENT
        self._versions: Dict[Tuple[Digest, Tuple[int, ...]], int] = {}
        self._next = 0

    def version_of(self, digest: Digest, shape: Tuple[int, ...]) -> Tuple[int, bool]:
        """The version that holds a value, and whether it is a new one."""
        if not self.keep:
            return -1, False
        # Zeros of shapes (2, 6) and (3, 4) have one digest and are not one value.
        content = (digest, shape)
        known = self._versions.get(content)
        if known is not None:
            return known, False
        if len(self._versions) >= KNOWN_VERSIONS:
            self._versions.pop(next(iter(self._versions)))
        version = self._next
        self._versions[content] = version
        self._next += 1
        return version, True


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
    """The main thread's half of a run: which values are known, which row comes next."""

    def __init__(self, about: Mapping[str, Any], level: str) -> None:
        self.about = dict(about)
        self.level = level
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
        # Scalars cost nothing and carry the run's story: they are kept at every level.
        keep = self.level == "full" or spec.shape == ()
        column = Column(spec, table, number=self.counts[table], keep=keep)
        self.counts[table] += 1
        self.columns[spec.role, spec.name] = column
        return column

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
        result = dict(self.about)
        result.update(
            status=self.status,
            level=self.level,
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
        }
