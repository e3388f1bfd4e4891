"""Write a tree of our own frozen dataclasses to a file and read it back, arrays mapped in place.

Knows nothing of what the dataclasses mean, and makes nothing but those, plain values and arrays.
"""

from __future__ import annotations

import dataclasses
import io
import json
import mmap
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC = b"tracediff comparison 1\n"
_ALIGN = 64
_PLAIN = (bool, int, float, str, type(None))


class NotCacheable(Exception):
    """The tree holds something that cannot be written."""


def encode(tree: Any, *, preface: Any, known: Mapping[str, Any]) -> memoryview:
    """Return a tree as bytes.

    Args:
        tree: Dataclasses, tuples, lists, sets, mappings, arrays, plain values.
        preface: Another tree, which is read before ``known`` has to be there again.
        known: What is not written but named: `decode` is given it again.

    Raises:
        NotCacheable: Something else is in the tree.
    """
    writer = _Writer(known)
    roots = [writer.value(preface), writer.value(tree)]
    header = json.dumps(
        {"roots": roots, "objects": writer.objects, "arrays": writer.table}
    ).encode()
    file = io.BytesIO()
    file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
    file.write(b"\0" * (-file.tell() % _ALIGN))
    for array in writer.arrays:
        file.write(array.view(np.uint8).data if array.size else b"")
        file.write(b"\0" * (-file.tell() % _ALIGN))
    file.write(xxhash.xxh3_128_digest(file.getbuffer()))
    # No copy: an examination of many steps is most of the memory that there is.
    return file.getbuffer()


def decode(path: Path, *, known: Callable[[Any], Mapping[str, Any]]) -> Any:
    """Return the tree that a file holds.

    Args:
        path: The file.
        known: Returns, given the preface, what `encode` was given as known.

    Raises:
        Exception: Of any kind, where the file is not one that `encode` wrote, or is damaged.
    """
    with path.open("rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if xxhash.xxh3_128_digest(whole[:-16]) != bytes(whole[-16:]):
        raise ValueError(f"{path} is damaged")
    start = len(_MAGIC) + 8
    if bytes(whole[: len(_MAGIC)]) != _MAGIC:
        raise ValueError(f"{path} is of another kind")
    size = int.from_bytes(whole[len(_MAGIC) : start], "little")
    header = json.loads(bytes(whole[start : start + size]))
    first = start + size + (-(start + size) % _ALIGN)
    reader = _Reader(header, whole[first:])
    preface, tree = header["roots"]
    reader.known = known(reader.value(preface))
    return reader.value(tree)


class _Writer:
    """Collects what a tree consists of; what stands in it twice is written once."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = {id(value): name for name, value in known.items()}
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []
        self._offset = 0
        self.objects: list[Any] = []
        self.arrays: list[NDArray[Any]] = []
        self.table: list[Any] = []

    def value(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return value
        if id(value) in self._known:
            return {"known": self._known[id(value)]}
        if isinstance(value, np.generic) and value.dtype.names is None:
            return self.value(value.item())
        if isinstance(value, np.ndarray):
            return self._view(value)
        if isinstance(value, tuple | list | frozenset | set):
            kind = next(k for k in (tuple, list, frozenset, set) if isinstance(value, k))
            return {kind.__name__: [self.value(item) for item in value]}
        if isinstance(value, Mapping):
            return {"map": [[self.value(k), self.value(v)] for k, v in value.items()]}
        if dataclasses.is_dataclass(value) and type(value).__module__.startswith("tracediff."):
            return {"object": self._object(value)}
        raise NotCacheable(f"{type(value)} cannot be written")

    def _object(self, value: Any) -> int:
        number = self._seen.get(id(value))
        if number is None:
            self._kept.append(value)  # Its id stays its own as long as it lives.
            number = self._seen[id(value)] = len(self.objects)
            self.objects.append(None)
            kind = type(value)
            fields = {
                field.name: self.value(getattr(value, field.name))
                for field in dataclasses.fields(value)
            }
            self.objects[number] = [kind.__module__, kind.__qualname__, fields]
        return number

    def _view(self, array: NDArray[Any]) -> Any:
        base = array.base
        if (
            isinstance(base, np.ndarray)
            and array.ndim == base.ndim == 1
            and array.dtype == base.dtype
            and base.flags.c_contiguous
            and array.strides[0] >= base.itemsize
            and base.size <= 4 * max(1, array.size)
        ):
            ends = (one.__array_interface__["data"][0] for one in (array, base))
            first = (next(ends) - next(ends)) // base.itemsize
            stride = array.strides[0] // base.itemsize
            return {"array": self._array(base), "view": [first, stride, len(array)]}
        return {"array": self._array(array)}

    def _array(self, array: NDArray[Any]) -> int:
        number = self._seen.get(id(array))
        if number is None:
            if array.dtype.hasobject:
                raise NotCacheable("an array of objects cannot be written")
            self._kept.append(array)
            number = self._seen[id(array)] = len(self.arrays)
            flat = np.ascontiguousarray(array).reshape(-1)
            names = array.dtype.names is not None
            dtype = _description(array.dtype) if names else array.dtype.str
            self.table.append([self._offset, dtype, list(array.shape)])
            self.arrays.append(flat)
            self._offset += flat.nbytes + (-flat.nbytes % _ALIGN)
        return number


def _description(dtype: np.dtype[Any]) -> list[Any]:
    return [[name, *rest] for name, *rest in dtype.descr]


class _Reader:
    """Makes a tree again."""

    def __init__(self, header: Any, body: memoryview) -> None:
        self.known: Mapping[str, Any] = {}
        self._header = header
        self._made: dict[int, Any] = {}
        self._arrays = [self._array(body, *entry) for entry in header["arrays"]]

    def _array(
        self, body: memoryview, offset: int, described: Any, shape: list[int]
    ) -> NDArray[Any]:
        if isinstance(described, list):
            fields = [(one[0], one[1], *(tuple(x) for x in one[2:])) for one in described]
            dtype = np.dtype(fields)
        else:
            dtype = np.dtype(described)
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(body, dtype, count, offset).reshape(shape)

    def value(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return value
        (kind, content), *rest = value.items()
        if kind == "known":
            return self.known[content]
        if kind == "array":
            array = self._arrays[content]
            if rest:
                first, stride, count = rest[0][1]
                array = array[first::stride][:count]
            return array
        if kind == "map":
            return MappingProxyType({self.value(k): self.value(v) for k, v in content})
        if kind == "object":
            return self._object(content)
        make: Any = {"tuple": tuple, "list": list, "frozenset": frozenset, "set": set}[kind]
        return make(self.value(item) for item in content)

    def _object(self, number: int) -> Any:
        if number not in self._made:
            module, name, fields = self._header["objects"][number]
            if not module.startswith("tracediff."):
                raise ValueError(f"{module} is none of ours")
            kind = getattr(import_module(module), name)
            if not dataclasses.is_dataclass(kind):
                raise ValueError(f"{name} is no dataclass")
            made: Any = kind
            self._made[number] = made(**{key: self.value(item) for key, item in fields.items()})
        return self._made[number]
