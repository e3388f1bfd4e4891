"""Two values of a tensor, element by element: histograms, the worst elements, a slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tracediff.compare import Examination
from tracediff.compare.parts import Drift, measure, squeezed, ulp_distance
from tracediff.errors import NotKept
from tracediff.report.comparison import numbers
from tracediff_tui import palette
from tracediff_tui.views.kept import why_not_kept
from tracediff_tui.views.places import Spot

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 1000
"""Worst elements listed at most."""
_BLOCK = 1 << 18
_NAN_DISTANCE = np.iinfo(np.uint64).max

ULP_EDGES = (1, 2, 16, 256, 4096, 65536, 1 << 24)
ULP_WORDS = ("0", "1", "2-15", "16-255", "256-4k", "4k-64k", "64k-16M", ">16M", "nan")
RELATIVE_EDGES = (1e-8, 1e-7, 1e-6, 1e-5, 1e-3, 1e-1, 1.0)
RELATIVE_WORDS = ("0", "<1e-8", "<1e-7", "<1e-6", "<1e-5", "<1e-3", "<0.1", "<1", "≥1", "nan")
SORTS = ("abs", "ulp", "rel")
HEADER = ("index", "A", "B", "A bits", "B bits", "ulp", "rel", "abs")


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """What one run's value is like."""

    dtype: str
    least: float
    most: float
    mean: float
    norm: float
    nan: int
    inf: int
    zero: int


@dataclass(frozen=True, slots=True, eq=False)
class Elements:
    """Two values of one tensor and how their elements differ.

    Attributes:
        spot: What and where.
        a: A's value, without trailing axes of length 1.
        b: B's value.
        drift: Measured as in the report.
        sides: What each is like.
        ulp_counts: How many elements by distance in ulp, as `ULP_WORDS` says; None unless floats.
        relative_counts: How many by relative error, as `RELATIVE_WORDS` says.
        orders: The flat indices of the worst elements, by each of `SORTS`.
    """

    spot: Spot
    a: NDArray[Any]
    b: NDArray[Any]
    drift: Drift
    sides: tuple[Side, Side]
    ulp_counts: NDArray[np.int64] | None
    relative_counts: NDArray[np.int64]
    orders: dict[str, NDArray[np.int64]]

    @property
    def floats(self) -> bool:
        """Whether distances in ulp have a meaning."""
        return self.ulp_counts is not None

    def row(self, flat: int, *, fields: bool = False) -> tuple[str, ...]:
        """Return one element as `HEADER` lists it.

        Args:
            flat: Its flat index.
            fields: Bits as sign, exponent and mantissa and not as hex.
        """
        a, b = self.a.reshape(-1)[flat : flat + 1], self.b.reshape(-1)[flat : flat + 1]
        distance, relative, absolute = self.distances(a, b)
        bits = bits_of(a, fields=fields), bits_of(b, fields=fields)
        return (
            index_words(self.index(flat)),
            exact(a[0]),
            exact(b[0]),
            *bits,
            "nan"
            if distance[0] == _NAN_DISTANCE
            else str(int(distance[0]))
            if self.floats
            else "-",
            numbers.number(float(relative[0])),
            numbers.number(float(absolute[0])),
        )

    def index(self, flat: int) -> tuple[int, ...]:
        """Return where an element stands."""
        return tuple(int(i) for i in np.unravel_index(flat, self.a.shape))

    def distances(
        self, a: NDArray[Any], b: NDArray[Any]
    ) -> tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the distance in ulp, the relative error and the absolute one, by element."""
        return _distances(a, b, floats=self.floats)

    def levels(self, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the levels of some elements, for a slice."""
        distance, relative, _ = self.distances(a, b)
        if not self.floats:
            distance = np.where(relative > 0, _NAN_DISTANCE, 0).astype(np.uint64)
        return palette.element_levels(distance.astype(np.float64), relative)


def read_pair(found: Examination, spot: Spot) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return both runs' values of a tensor, or of its update.

    Raises:
        NotKept: A value was not kept, or not observed.
        DamagedTrace: A value cannot be read.
    """
    pair: tuple[NDArray[Any], NDArray[Any]] | None = found.case.read(
        spot.key, spot.step, spot.moment
    )
    if pair is None:
        raise NotKept(why_not_kept(found, spot))
    if spot.shown == "update":
        before: Any = found.case.read(spot.key, spot.step, "before")
        if before is None:
            raise NotKept(
                f"before the update {why_not_kept(found, Spot(spot.key, spot.step, 'before'))}"
            )
        after_a, after_b = pair
        pair = np.subtract(after_a, before[0]), np.subtract(after_b, before[1])
    return squeezed(pair[0]), squeezed(pair[1])


def look(
    found: Examination, spot: Spot, *, cancelled: Callable[[], bool] = lambda: False
) -> Elements | None:
    """Read both values and measure every element; None where it was cancelled.

    Raises:
        NotKept: A value was not kept, or the shapes differ.
        DamagedTrace: A value cannot be read.
    """
    a, b = read_pair(found, spot)
    if a.shape != b.shape:
        raise NotKept(
            f"the shapes differ at this step: {a.shape} in A, {b.shape} in B",
            hint="elements have no partners; see the findings for what differs in the data",
        )
    floats = found.case.onset.judged[spot.key].track.floats
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    ulps = np.zeros(len(ULP_WORDS), np.int64)
    relatives = np.zeros(len(RELATIVE_WORDS), np.int64)
    best: dict[str, list[tuple[NDArray[np.float64], NDArray[np.int64]]]] = {s: [] for s in SORTS}
    for start in range(0, flat_a.size, _BLOCK):
        if cancelled():
            return None
        block = slice(start, start + _BLOCK)
        one, other = flat_a[block], flat_b[block]
        distance, relative, absolute = _distances(one, other, floats=floats)
        odd = np.isnan(relative)
        if floats:
            bins = np.searchsorted(np.array(ULP_EDGES, np.uint64), distance, side="right")
            bins[distance == _NAN_DISTANCE] = len(ULP_WORDS) - 1
            ulps += np.bincount(bins, minlength=len(ulps))
        bins = 1 + np.searchsorted(RELATIVE_EDGES, relative, side="right")
        bins[relative == 0] = 0
        bins[odd] = len(RELATIVE_WORDS) - 1
        relatives += np.bincount(bins, minlength=len(relatives))
        differs = odd | (absolute > 0)
        for sort, values in (("abs", absolute), ("ulp", distance), ("rel", relative)):
            measured = np.where(odd, np.inf, values.astype(np.float64))
            measured[~differs] = -1.0
            best[sort].append(_largest(measured, start))
    return Elements(
        spot,
        a,
        b,
        measure(a, b),
        (side_of(a), side_of(b)),
        ulps if floats else None,
        relatives,
        {sort: _merged(parts) for sort, parts in best.items()},
    )


def _largest(
    values: NDArray[np.float64], start: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    order = np.argsort(-values, kind="stable")[:MOST]
    return values[order], order.astype(np.int64) + start


def _merged(parts: list[tuple[NDArray[np.float64], NDArray[np.int64]]]) -> NDArray[np.int64]:
    if not parts:
        return np.zeros(0, np.int64)
    values = np.concatenate([part[0] for part in parts])
    indices = np.concatenate([part[1] for part in parts])
    order = np.lexsort((indices, -values))[:MOST]
    return np.asarray(indices[order][values[order] >= 0])


def _distances(
    a: NDArray[Any], b: NDArray[Any], *, floats: bool
) -> tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.float64]]:
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        same = (wide_a == wide_b) | (np.isnan(wide_a) & np.isnan(wide_b))
        absolute = np.where(same, 0.0, np.abs(wide_a - wide_b))
        scale = np.maximum(np.abs(wide_a), np.abs(wide_b))
        relative = np.where(same, 0.0, absolute / scale)
        relative[~same & ~(np.isfinite(wide_a) & np.isfinite(wide_b))] = np.nan
    distance = ulp_distance(a, b) if floats else np.zeros(a.shape, np.uint64)
    return distance, relative, absolute


def side_of(values: NDArray[Any]) -> Side:
    """Return what one run's value is like."""
    wide = values.astype(np.float64).reshape(-1)
    finite = wide[np.isfinite(wide)]
    some = finite.size > 0
    return Side(
        dtype=values.dtype.name,
        least=float(finite.min()) if some else float("nan"),
        most=float(finite.max()) if some else float("nan"),
        mean=float(finite.mean()) if some else float("nan"),
        norm=float(np.sqrt(np.dot(finite, finite))),
        nan=int(np.isnan(wide).sum()),
        inf=int(np.isinf(wide).sum()),
        zero=int((wide == 0).sum()),
    )


def bits_of(value: NDArray[Any], *, fields: bool = False) -> str:
    """Return the bits of the one element of an array.

    Example:
        >>> bits_of(np.float32([1.5])), bits_of(np.float32([1.5]), fields=True)
        ('3fc00000', '0 01111111 10000000000000000000000')
    """
    if value.dtype.kind not in "fiu":
        return "-"
    width = value.dtype.itemsize
    number = int(np.ascontiguousarray(value).view(f"u{width}")[0])
    if not fields or value.dtype.kind != "f":
        return f"{number:0{2 * width}x}"
    text = f"{number:0{8 * width}b}"
    mantissa = int(np.finfo(value.dtype).nmant)
    return f"{text[0]} {text[1:-mantissa]} {text[-mantissa:]}"


def differing_bits(row: tuple[str, ...]) -> dict[int, frozenset[int]]:
    """Return which characters of the bits of A and B differ, by column of `HEADER`.

    Example:
        >>> row = ("[0]", "1.5", "1.25", "3fc00000", "3fa00000", "2097152", "0.17", "0.25")
        >>> differing_bits(row)[HEADER.index("A bits")]
        frozenset({2})
    """
    a, b = HEADER.index("A bits"), HEADER.index("B bits")
    pairs = enumerate(zip(row[a], row[b], strict=False))
    differ = frozenset(at for at, (one, other) in pairs if one != other)
    return {a: differ, b: differ}


def exact(value: Any) -> str:
    """Return an element in the fewest digits that give its bits back.

    Example:
        >>> exact(np.float32(0.1)), exact(np.float32(-1e-9)), exact(np.int64(3)), exact(np.True_)
        ('0.1', '-1e-09', '3', 'True')
    """
    if isinstance(value, np.floating) and np.isfinite(value):
        if value == 0 or 1e-4 <= abs(float(value)) < 1e7:
            return str(np.format_float_positional(value, trim="0"))
        return str(np.format_float_scientific(value, trim="-", exp_digits=2))
    return str(value)


def index_words(index: tuple[int, ...]) -> str:
    """Return an index as a reader writes it."""
    return f"[{', '.join(map(str, index))}]"
