"""Layout adapters: the same numbers stored otherwise, brought into one layout and back.

An adapter is a pure function of an array, with an inverse where it has one. How it is written down
says `tracediff.align.notation`. Nothing here decides which tensor needs which.

| op | fields | does |
|---|---|---|
| ``transpose`` | ``axes`` | numpy's transpose |
| ``reorder`` | ``axis``, ``blocks`` | cuts an axis into equal blocks (gates), reorders them |
| ``reshape`` | ``shape`` | numpy's reshape, in C order |
| ``take`` | ``axis``, ``start``, ``stop`` | a part of a fused tensor |
| ``sum`` | ``axis`` | adds up along an axis |
| ``insert`` | ``axis``, ``count``, ``at`` | makes an axis: values at one place, else zeros |
| ``add`` | ``value`` | adds a number: a counter that began elsewhere |
| ``each`` | ``axis``, ``count``, ``do`` | cuts an axis into equal blocks and adapts each |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from tracediff.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape: TypeAlias = tuple[int, ...]
Layout: TypeAlias = "tuple[Adapter, ...]"
"""Adapters, applied one after the other; none leaves values as they are."""


class LayoutError(UsageError):
    """An adapter that does not fit the shape it is put to, or is no adapter at all."""


class Adapter(Protocol):
    """A change of layout."""

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values in the other layout; the argument is left alone."""

    def shape(self, shape: Shape) -> Shape:
        """Return the shape that values of ``shape`` come out with.

        Raises:
            LayoutError: The adapter does not fit that shape.
        """

    def inverse(self, shape: Shape) -> Adapter | None:
        """Return what leads back for values of ``shape``, or None where something is lost."""

    def describe(self) -> dict[str, Any]:
        """Return the adapter as JSON holds it."""


@dataclass(frozen=True, slots=True)
class Transpose:
    """Exchanges axes: ``axes`` as for numpy."""

    axes: tuple[int, ...]

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the transposed values."""
        self.shape(values.shape)
        return np.ascontiguousarray(values.transpose(self.axes))

    def shape(self, shape: Shape) -> Shape:
        """Return the transposed shape."""
        if sorted(self.axes) != list(range(len(shape))):
            raise LayoutError(f"transpose to axes {list(self.axes)} does not fit shape {shape}")
        return tuple(shape[axis] for axis in self.axes)

    def inverse(self, shape: Shape) -> Adapter:  # noqa: ARG002 - the axes say it all
        """Return the transposition back."""
        return Transpose(tuple(int(axis) for axis in np.argsort(self.axes)))

    def describe(self) -> dict[str, Any]:
        """Return the adapter as JSON holds it."""
        return {"op": "transpose", "axes": list(self.axes)}


@dataclass(frozen=True, slots=True)
class Reorder:
    """Cuts ``axis`` into ``len(blocks)`` equal blocks, such as gates; takes them in that order."""

    axis: int
    blocks: tuple[int, ...]

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values with the blocks in their other order."""
        self.shape(values.shape)
        parts = np.split(values, len(self.blocks), axis=self.axis)
        return np.concatenate([parts[block] for block in self.blocks], axis=self.axis)

    def shape(self, shape: Shape) -> Shape:
        """Return the same shape."""
        extent = _extent(self, shape, self.axis)
        count = len(self.blocks)
        if not count or sorted(self.blocks) != list(range(count)) or extent % count:
            raise LayoutError(
                f"reorder of {count} blocks {list(self.blocks)} does not fit axis {self.axis} of "
                f"shape {shape}"
            )
        return shape

    def inverse(self, shape: Shape) -> Adapter:  # noqa: ARG002 - the order says it all
        """Return the reordering back."""
        return Reorder(self.axis, tuple(int(block) for block in np.argsort(self.blocks)))

    def describe(self) -> dict[str, Any]:
        """Return the adapter as JSON holds it."""
        return {"op": "reorder", "axis": self.axis, "blocks": list(self.blocks)}


@dataclass(frozen=True, slots=True)
class Reshape:
    """Reads the values, in C order, into another shape of the same size."""

    to: Shape

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values in the other shape."""
        return values.reshape(self.shape(values.shape))

    def shape(self, shape: Shape) -> Shape:
        """Return the other shape."""
        if math.prod(shape) != math.prod(self.to) or any(extent < 0 for extent in self.to):
            raise LayoutError(f"reshape to {self.to} does not fit shape {shape}")
        return self.to

    def inverse(self, shape: Shape) -> Adapter:
        """Return the reshape back."""
        return Reshape(shape)

    def describe(self) -> dict[str, Any]:
        """Return the adapter as JSON holds it."""
        return {"op": "reshape", "shape": list(self.to)}


@dataclass(frozen=True, slots=True)
class Take:
    """Takes the part from ``start`` up to ``stop`` of an axis: one tensor out of a fused one."""

    axis: int
    start: int
    stop: int

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the part."""
        self.shape(values.shape)
        part = [slice(None)] * values.ndim
        part[self.axis] = slice(self.start, self.stop)
        return np.ascontiguousarray(values[tuple(part)])

    def shape(self, shape: Shape) -> Shape:
        """Return the shape of the part."""
        if not 0 <= self.start < self.stop <= _extent(self, shape, self.axis):
            raise LayoutError(
                f"take of {self.start} to {self.stop} does not fit axis {self.axis} of "
                f"shape {shape}"
            )
        result = list(shape)
        result[self.axis] = self.stop - self.start
        return tuple(result)

    def inverse(self, shape: Shape) -> Adapter | None:
        """Return None, for the other parts are lost, unless it is all of the axis."""
        whole = (self.start, self.stop) == (0, _extent(self, shape, self.axis))
        return self if whole else None

    def describe(self) -> dict[str, Any]:
        """Return the adapter as JSON holds it."""
        return {"op": "take", "axis": self.axis, "start": self.start, "stop": self.stop}


@dataclass(frozen=True, slots=True)
class Sum:
    """Adds up along an axis: the two biases of a GRU into the one they amount to."""

    axis: int

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the sum, in the dtype of the values."""
        self.shape(values.shape)
        return np.asarray(values.sum(axis=self.axis, dtype=values.dtype))

    def shape(self, shape: Shape) -> Shape:
        """Return the shape without the axis."""
        _extent(self, shape, self.axis)
        axis = self.axis % len(shape)
        return shape[:axis] + shape[axis + 1 :]

    def inverse(self, shape: Shape) -> Adapter | None:  # noqa: ARG002 - a sum has many summands
        """Return None: a sum does not tell its summands."""
        return None

    def describe(self) -> dict[str, Any]:
        """Return the adapter as JSON holds it."""
        return {"op": "sum", "axis": self.axis}


@dataclass(frozen=True, slots=True)
class Insert:
    """Makes an axis of ``count`` places: the values stand ``at`` one of them, zeros elsewhere."""

    axis: int
    count: int
    at: int

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values and zeros."""
        result = np.zeros(self.shape(values.shape), values.dtype)
        place: list[Any] = [slice(None)] * result.ndim
        place[self.axis] = self.at
        result[tuple(place)] = values
        return result

    def shape(self, shape: Shape) -> Shape:
        """Return the shape with one axis more."""
        if not 0 <= self.axis <= len(shape) or not 0 <= self.at < self.count:
            raise LayoutError(
                f"insert at {self.at} of {self.count} along axis {self.axis} does not fit "
                f"shape {shape}"
            )
        return (*shape[: self.axis], self.count, *shape[self.axis :])

    def inverse(self, shape: Shape) -> Adapter:  # noqa: ARG002 - zeros add nothing
        """Return the sum along the axis."""
        return Sum(self.axis)

    def describe(self) -> dict[str, Any]:
        """Return the adapter as JSON holds it."""
        return {"op": "insert", "axis": self.axis, "count": self.count, "at": self.at}


@dataclass(frozen=True, slots=True)
class Add:
    """Adds a whole number to every element: to a counter that began elsewhere."""

    value: int

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values, so much larger, in their own dtype; integers wrap around in it."""
        return np.asarray(values + np.asarray(self.value).astype(values.dtype))

    def shape(self, shape: Shape) -> Shape:
        """Return the same shape."""
        return shape

    def inverse(self, shape: Shape) -> Adapter:  # noqa: ARG002 - the same for every shape
        """Return the subtraction."""
        return Add(-self.value)

    def describe(self) -> dict[str, Any]:
        """Return the adapter as JSON holds it."""
        return {"op": "add", "value": self.value}


@dataclass(frozen=True, slots=True)
class Each:
    """Cuts ``axis`` into ``count`` equal blocks and adapts each: kernels of cuDNN, gate by gate."""

    axis: int
    count: int
    do: tuple[Adapter, ...]

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values with every block adapted."""
        self.shape(values.shape)
        parts = np.split(values, self.count, axis=self.axis)
        return np.concatenate([adapt(self.do, part) for part in parts], axis=self.axis)

    def shape(self, shape: Shape) -> Shape:
        """Return the shape with every block adapted."""
        inner = list(adapted_shape(self.do, self._block(shape)))
        if len(inner) != len(shape):
            raise LayoutError(f"each of {self.count} blocks changes its number of axes")
        inner[self.axis] *= self.count
        return tuple(inner)

    def inverse(self, shape: Shape) -> Adapter | None:
        """Return what leads every block back, or None where one of the adapters has no inverse."""
        back = inverse(self.do, self._block(shape))
        return None if back is None else Each(self.axis, self.count, back)

    def describe(self) -> dict[str, Any]:
        """Return the adapter as JSON holds it."""
        do = [one.describe() for one in self.do]
        return {"op": "each", "axis": self.axis, "count": self.count, "do": do}

    def _block(self, shape: Shape) -> Shape:
        extent = _extent(self, shape, self.axis)
        if self.count < 1 or extent % self.count:
            raise LayoutError(
                f"each of {self.count} blocks does not fit axis {self.axis} of shape {shape}"
            )
        block = list(shape)
        block[self.axis] = extent // self.count
        return tuple(block)


def _extent(adapter: Adapter, shape: Shape, axis: int) -> int:
    if not -len(shape) <= axis < len(shape):
        op = adapter.describe()["op"]
        raise LayoutError(f"{op} along axis {axis} does not fit shape {shape}")
    return shape[axis]


def adapt(layout: Layout, values: NDArray[Any]) -> NDArray[Any]:
    """Return the values in the layout that the adapters lead to.

    Example:
        >>> adapt((Sum(0),), np.array([[1.0, 2.0], [10.0, 20.0]]))
        array([11., 22.])
    """
    for adapter in layout:
        values = adapter(values)
    return values


def adapted_shape(layout: Layout, shape: Shape) -> Shape:
    """Return the shape in which values of ``shape`` come out.

    Raises:
        LayoutError: An adapter does not fit.
    """
    for adapter in layout:
        shape = adapter.shape(shape)
    return shape


def inverse(layout: Layout, shape: Shape) -> Layout | None:
    """Return the adapters that lead back for values of ``shape``, None where one has no inverse.

    Example:
        >>> inverse((Transpose((1, 0)), Reshape((6,))), (2, 3))
        (Reshape(to=(3, 2)), Transpose(axes=(1, 0)))
        >>> inverse((Sum(0),), (2, 3)) is None
        True
    """
    back: list[Adapter] = []
    for adapter in layout:
        one = adapter.inverse(shape)
        if one is None:
            return None
        back.append(one)
        shape = adapter.shape(shape)
    return tuple(reversed(back))


def back(layout: Layout, shape: Shape) -> Layout | None:
    """Return adapters that make values of ``shape`` which ``layout`` brings to given ones.

    As `inverse`, but a sum is undone by giving all of it to the first summand.

    Example:
        >>> back((Sum(0),), (2, 6))
        (Insert(axis=0, count=2, at=0),)
        >>> back((Take(0, 0, 2),), (6,)) is None
        True
    """
    found: list[Adapter] = []
    for adapter in layout:
        one = adapter.inverse(shape)
        if isinstance(adapter, Sum):
            axis = adapter.axis % len(shape)
            one = Insert(axis, shape[axis], 0)
        if one is None:
            return None
        found.append(one)
        shape = adapter.shape(shape)
    return tuple(reversed(found))
