"""Reads what a replay needs of a trace: states and batches, each held against its digest.

Follows docs/trace-format.md with the zarr of this environment; knows no framework and no alignment.
"""

import os
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np
import zarr

from tracediff_hooks.digest import ABSENT, digest_of
from tracediff_hooks.random_layers import draws
from tracediff_hooks.replay.refused import ReplayRefused
from tracediff_hooks.tensors import Key

FORMATS = (1,)
STATE_ROLES = ("weight", "slot")
BATCH_ROLES = ("input", "label", "sample_weight")


class RecordedTensor(NamedTuple):
    """A line of the table of tensors, as far as a replay needs it."""

    role: str
    name: str
    dtype: str
    shape: Optional[Tuple[int, ...]]
    layer: Optional[str]
    layout: str
    column: int
    path: Optional[str]
    trainable: Optional[bool]

    @property
    def key(self) -> Key:
        """Role and canonical name."""
        return self.role, self.name


class RecordedTrace:
    """A trace on disk, and the runs in it.

    Args:
        path: the trace, or a run in it: ``a.zarr/run-1``.

    Raises:
        ReplayRefused: there is no trace that this reader understands.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._root_path, self._first = _split(path)
        if "://" not in path and not os.path.isdir(self._root_path):
            raise ReplayRefused(
                f"there is no trace {path} to replay",
                hint="record the first run with tracediff-record -o TRACE",
            )
        try:
            self._root = zarr.open_group(self._root_path, mode="r")
            about = self._root.attrs.get("tracediff")
        except Exception as error:
            raise ReplayRefused(
                f"{path} cannot be opened as a trace ({type(error).__name__})",
                hint="a replay reads what tracediff-record wrote",
            ) from None
        if not isinstance(about, Mapping):
            raise ReplayRefused(f"{path} is not a trace of tracediff")
        if about.get("format") not in FORMATS:
            raise ReplayRefused(
                "{} was written with trace format {}; this recorder replays {}".format(
                    path, about.get("format"), ", ".join(map(str, FORMATS))
                ),
                hint="pip install -U tracediff-hooks",
            )

    @property
    def random_layers_off(self) -> bool:
        """Whether the run that is replayed first trained with its random layers switched off."""
        try:
            about: Any = self._root[f"run-{self._first}"].attrs["run"]
        except KeyError:
            return False
        found = (about.get("capture") or {}).get("random_layers")
        return isinstance(found, Mapping) and found.get("asked") == "off"

    def run(self, number: int) -> "RecordedRun":
        """A run, counted from the one that the path names (else from the first).

        Raises:
            ReplayRefused: the trace holds no such run, or no step of it is complete.
        """
        name = f"run-{self._first + number}"
        if name not in self._root:
            raise ReplayRefused(
                f"{self._root_path} holds no {name}, which this training would replay",
                hint="each run of the script replays the run of the same number",
            )
        found = RecordedRun(self._root[name], f"{self._root_path}/{name}")
        if found.steps == 0:
            raise ReplayRefused(f"{found.path} holds no complete step to replay")
        return found


def _split(path: str) -> Tuple[str, int]:
    head, slash, tail = path.rstrip("/").rpartition("/")
    if slash and tail.startswith("run-") and tail[4:].isdigit():
        return head, int(tail[4:])
    return path, 0


class RecordedRun:
    """One run of a trace."""

    def __init__(self, group: Any, path: str) -> None:
        self.path = path
        self._group = group
        self.about: Mapping[str, Any] = group.attrs["run"]
        self.steps = int(np.asarray(group["progress"][:])[0])
        self.tensors = [_tensor(line) for line in self.about.get("tensors", ())]
        self._by_key = {tensor.key: tensor for tensor in self.tensors}
        self._tables: Dict[str, Tuple[np.ndarray, np.ndarray]] = {}
        self._blocks: Dict[str, Tuple[int, np.ndarray]] = {}
        self._ragged: Dict[str, Tuple[np.ndarray, np.ndarray]] = {}
        self._changes: Optional[Dict[Tuple[int, int], Tuple[int, Tuple[int, int]]]] = None

    def of_roles(self, *roles: str) -> List[RecordedTensor]:
        """The tensors of some roles, in the order of the table."""
        return [tensor for tensor in self.tensors if tensor.role in roles]

    def find(self, key: Key) -> Optional[RecordedTensor]:
        """The tensor of a role and name, or None."""
        return self._by_key.get(key)

    def position(self, step: int) -> Tuple[int, int, int]:
        """Fit, epoch and batch of a step, each counted from 0."""
        columns = [self._column(name) for name in ("fit", "epoch", "batch")]
        return (int(columns[0][step]), int(columns[1][step]), int(columns[2][step]))

    def _column(self, name: str) -> np.ndarray:
        if name not in self._tables:
            column = np.asarray(self._group[f"steps/{name}"][: self.steps])
            self._tables[name] = (column, column)
        return self._tables[name][0]

    def before(self, tensor: RecordedTensor, step: int) -> Optional[np.ndarray]:
        """A state tensor as it was before a step; None where the run did not have it then.

        Raises:
            ReplayRefused: its value was not kept, or is damaged.
        """
        version, digest = self._before(tensor, step)
        return self._value(tensor, version, digest, step)

    def _before(self, tensor: RecordedTensor, step: int) -> Tuple[int, Tuple[int, int]]:
        change = self._external().get((step, tensor.column))
        return change if change is not None else self._cell("state", step, tensor.column)

    def observed(self, tensor: RecordedTensor, step: int) -> Optional[np.ndarray]:
        """A tensor of a batch as a step consumed it; None where it had none.

        Raises:
            ReplayRefused: its value was not kept, or is damaged.
        """
        version, digest = self._cell("observed", step, tensor.column)
        return self._value(tensor, version, digest, step)

    def fingerprint(self) -> str:
        """A digest of all digests: equal for runs that recorded the same.

        The XXH3 of the state table's digests followed by those of the observed table, as hex.
        """
        parts = [self._table(name)[1] for name in ("state", "observed")]
        low, high = digest_of(*parts)
        return f"{high:016x}{low:016x}"

    def _table(self, name: str) -> Tuple[np.ndarray, np.ndarray]:
        if name not in self._tables:
            rows = self.steps + (1 if name == "state" else 0)
            self._tables[name] = (
                np.asarray(self._group[f"{name}/version"][:rows]),
                np.ascontiguousarray(self._group[f"{name}/digest"][:rows]),
            )
        return self._tables[name]

    def _cell(self, name: str, row: int, column: int) -> Tuple[int, Tuple[int, int]]:
        version, digest = self._table(name)
        low, high = digest[row, column]
        return int(version[row, column]), (int(low), int(high))

    def _external(self) -> Dict[Tuple[int, int], Tuple[int, Tuple[int, int]]]:
        if self._changes is None:
            group = self._group["external"]
            columns = [np.asarray(group[name][:]) for name in ("step", "column", "version")]
            digests = np.asarray(group["digest"][:])
            self._changes = {
                (int(step), int(column)): (int(version), (int(digest[0]), int(digest[1])))
                for step, column, version, digest in zip(*columns, digests)
                if step >= 0
            }
        return self._changes

    def _value(
        self, tensor: RecordedTensor, version: int, digest: Tuple[int, int], step: int
    ) -> Optional[np.ndarray]:
        if digest == ABSENT:
            return None
        if version < 0 or tensor.path is None:
            raise ReplayRefused(
                "{} keeps no values of {} at step {} (level {}), so they cannot be replayed".format(
                    self.path, tensor.name, step, self.about.get("level")
                ),
                hint="record the first run again with level='full'",
            )
        try:
            value = self._read(tensor, version)
        except ReplayRefused:
            raise
        except Exception as error:
            raise ReplayRefused(
                f"{self.path}: {tensor.name} at step {step} cannot be read "
                f"({type(error).__name__}: {error})"
            ) from None
        if digest_of(value) != digest:
            raise ReplayRefused(
                f"{self.path}: {tensor.name} at step {step} is damaged: its bytes do not have the "
                "digest that was recorded"
            )
        return _true_dtype(value, tensor.dtype)

    def _read(self, tensor: RecordedTensor, version: int) -> np.ndarray:
        assert tensor.path is not None
        if tensor.layout == "fixed":
            array = self._group[tensor.path]
            rows = max(1, int(array.chunks[0]))
            start = version - version % rows
            held = self._blocks.get(tensor.path)
            if held is None or held[0] != start:
                # A chunk holds many steps: read it once and not for each of them.
                held = (start, np.asarray(array[start : start + rows]))
                self._blocks[tensor.path] = held
            return np.array(held[1][version - start], order="C")
        if tensor.path not in self._ragged:
            shapes = np.asarray(self._group[tensor.path + "/shape"][:])
            sizes = np.where(shapes >= 0, shapes, 1).prod(axis=1)
            self._ragged[tensor.path] = (shapes, np.concatenate([[0], np.cumsum(sizes)]))
        shapes, offsets = self._ragged[tensor.path]
        data = self._group[tensor.path + "/data"]
        flat = np.asarray(data[int(offsets[version]) : int(offsets[version + 1])])
        return flat.reshape([int(extent) for extent in shapes[version] if extent >= 0])

    def random_layers(self) -> Iterator[str]:
        """The names of the layers that draw random numbers at every step."""
        layers = (self.about.get("model") or {}).get("layers") or ()
        return (str(line.get("name")) for line in layers if draws(line))


def _tensor(line: Mapping[str, Any]) -> RecordedTensor:
    shape, column = line.get("shape"), line.get("column")
    return RecordedTensor(
        str(line["role"]),
        str(line["name"]),
        str(line["dtype"]),
        None if shape is None else tuple(int(extent) for extent in shape),
        line.get("layer"),
        str(line.get("layout")),
        -1 if column is None else int(column),
        line.get("path"),
        line.get("trainable"),
    )


def _true_dtype(value: np.ndarray, name: str) -> np.ndarray:
    """The value in the dtype that it had; as it is stored where numpy does not know that one."""
    try:
        dtype = np.dtype(name)
    except TypeError:
        return value
    return value if value.dtype == dtype else value.view(dtype)
