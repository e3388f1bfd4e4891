"""Mapping files: which tensor of A is which of B and in which layout, written and read as JSON.

docs/mapping.md describes the file. What it does not mention is paired as without it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tracediff.align.candidates import fits, layouts_between
from tracediff.align.fused import Piece
from tracediff.align.layouts import (
    Layout,
    LayoutError,
    Take,
    adapted_shape,
    back,
)
from tracediff.align.notation import describe, parse
from tracediff.errors import UnknownName, UsageError, did_you_mean
from tracediff.model import Side
from tracediff.trace import Run, Tensor

if TYPE_CHECKING:
    from tracediff.align.pairing import Pairing

VERSION = 1
_ROLES = ("weight", "input", "label", "sample_weight")


@dataclass(frozen=True, slots=True)
class Mapped:
    """One line of a mapping: a tensor of A and one of B.

    Attributes:
        role: Their role.
        a: The name in A; None where B's has no partner.
        b: The name in B; None where A's has no partner.
        layout: What brings B's values into A's layout.
        layout_a: What brings A's values into B's layout, where A holds several in one or the
            summands of B's.
    """

    role: str
    a: str | None
    b: str | None
    layout: Layout = ()
    layout_a: Layout = ()

    @property
    def is_part(self) -> bool:
        """Whether one of the two is a part of a fused tensor."""
        return any(isinstance(one, Take) for one in (*self.layout, *self.layout_a))

    def piece(self, a: Run, b: Run) -> Iterator[Piece]:
        """Yield the piece that the line describes."""
        if self.a is None or self.b is None:
            return
        one, other = a.tensor(self.role, self.a), b.tensor(self.role, self.b)
        side: Side = "a" if self.layout_a else "b"
        (part,) = self.layout_a or self.layout
        assert isinstance(part, Take)  # `checked` refuses others
        whole, piece = (one, other) if side == "a" else (other, one)
        yield Piece(side, whole, part, piece, "given by the mapping", 1.0)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a mapping file says.

    Attributes:
        layers: Layers of A, each with the one of B that it is, or None for none.
        tensors: Tensors, each with its partner.
    """

    layers: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))
    tensors: tuple[Mapped, ...] = ()

    @property
    def weights(self) -> tuple[Mapped, ...]:
        """The lines about weights of A that have a partner."""
        return tuple(one for one in self.tensors if one.role == "weight" and one.a and one.b)

    def find(self, role: str, name: str) -> Mapped | None:
        """Return the line about a tensor of A, or None."""
        return next((one for one in self.tensors if (one.role, one.a) == (role, name)), None)

    def refused(self) -> frozenset[tuple[str, str, str]]:
        """Return side, role and name of the tensors that are to have no partner."""
        return frozenset(
            ("a", one.role, one.a) if one.a is not None else ("b", one.role, str(one.b))
            for one in self.tensors
            if one.a is None or one.b is None
        )


def read_mapping(path: str | os.PathLike[str], a: Run, b: Run) -> Overrides:
    """Read a mapping file and check it against two runs.

    Raises:
        UsageError: It is no mapping file, pairs a tensor twice, or what no adapter joins.
        UnknownName: It names a layer or a tensor that a run does not have.
    """
    where = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{where} does not exist", hint="tracediff map A B writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} cannot be read: {error}") from None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{where} is no JSON: {error}", hint="tracediff map A B writes a mapping to begin with"
        ) from None
    return parse_mapping(found, a, b, where=where)


def parse_mapping(found: object, a: Run, b: Run, *, where: str = "the mapping") -> Overrides:
    """Return what a mapping says, checked against two runs.

    Args:
        found: What the JSON holds.
        a: The first run.
        b: The second run.
        where: The file, for messages.

    Raises:
        UsageError: As `read_mapping`.
        UnknownName: As `read_mapping`.
    """
    if not isinstance(found, Mapping) or "tracediff_map" not in found:
        raise UsageError(
            f'{where} is no mapping: it lacks "tracediff_map": {VERSION}',
            hint="docs/mapping.md describes the file; tracediff map A B writes one",
        )
    if found["tracediff_map"] != VERSION:
        raise UsageError(
            f"{where} is a mapping of version {found['tracediff_map']}; this tracediff reads "
            f"{VERSION}",
            hint="pip install -U tracediff",
        )
    layers = _layers(_lines(found, "layers", where), a, b, where)
    tensors = tuple(_tensor(line, a, b, where) for line in _lines(found, "tensors", where))
    _once(tensors, where)
    return Overrides(MappingProxyType(layers), tensors)


def _lines(found: Mapping[str, Any], key: str, where: str) -> list[Mapping[str, Any]]:
    lines = found.get(key) or []
    if not isinstance(lines, list) or not all(isinstance(one, Mapping) for one in lines):
        raise UsageError(
            f"{where}: {key} is no list of objects",
            hint='each is such as {"a": "hidden/kernel", "b": "fc1/kernel"}',
        )
    for one in lines:
        for side in ("a", "b"):
            if side not in one or not isinstance(one[side], str | type(None)):
                raise UsageError(
                    f"{where}: {dict(one)!r} in {key} has no name for {side}",
                    hint=f'"{side}": null says that there is no partner',
                )
        if one["a"] is None and one["b"] is None:
            raise UsageError(f"{where}: {dict(one)!r} in {key} names nothing")
    return lines


def _layers(
    lines: Iterable[Mapping[str, Any]], a: Run, b: Run, where: str
) -> dict[str, str | None]:
    from tracediff.align.graph import layers_of

    known = {"a": layers_of(a), "b": layers_of(b)}
    result: dict[str, str | None] = {}
    used: set[str] = set()
    for line in lines:
        for side in ("a", "b"):
            name = line[side]
            if name is not None and name not in known[side]:
                raise UnknownName(
                    f"{where}: {side.upper()} has no layer {name}",
                    hint=did_you_mean(name, known[side]) or _some(known[side]),
                )
        if line["a"] is None:
            continue
        if line["a"] in result or line["b"] in used:
            twice, side = (line["a"], "A") if line["a"] in result else (line["b"], "B")
            raise _twice(where, f"layer {twice}", side)
        result[line["a"]] = line["b"]
        if line["b"] is not None:
            used.add(line["b"])
    return result


def _tensor(line: Mapping[str, Any], a: Run, b: Run, where: str) -> Mapped:
    role = line.get("role", "weight")
    found: list[Tensor | None] = []
    for side, run, name in (("A", a, line["a"]), ("B", b, line["b"])):
        tensor = None if name is None else run.find(role, name)
        if name is not None and tensor is None:
            names = [one.name for one in run.tensors if one.role == role]
            raise UnknownName(
                f"{where}: {side} has no {role} {name}",
                hint=did_you_mean(name, names) or _some(names),
            )
        found.append(tensor)
    one, other = found
    try:
        layout, layout_a = parse(line.get("layout")), parse(line.get("layout_a"))
    except LayoutError as error:
        raise UsageError(
            f"{where}: {role} {line['a'] or line['b']}: {error}", hint=error.hint
        ) from None
    if one is None or other is None:
        return Mapped(role, line["a"], line["b"])
    return _checked(Mapped(role, one.name, other.name, layout, layout_a), one, other, where)


def _checked(line: Mapped, one: Tensor, other: Tensor, where: str) -> Mapped:
    """Return the line with a layout, where the file leaves it to be found."""
    if one.shape is None or other.shape is None:
        return line
    what = f"{where}: {line.role} {one.name} of A and {other.name} of B"
    if line.is_part and len(line.layout_a or line.layout) != 1:
        raise UsageError(
            f"{what}: a part of a fused tensor is one take, with no other adapter",
            hint='such as "layout": [{"op": "take", "axis": 1, "start": 0, "stop": 8}]',
        )
    try:
        shapes = adapted_shape(line.layout_a, one.shape), adapted_shape(line.layout, other.shape)
    except LayoutError as error:
        raise UsageError(f"{what}: {error}", hint="docs/mapping.md lists the adapters") from None
    if fits(*shapes):
        return line
    plain = not (line.layout or line.layout_a)
    layouts = layouts_between(other.shape, one.shape) if plain else []
    if not layouts:
        raise UsageError(
            f"{what} have the shapes {shapes[0]} and {shapes[1]}, which nothing joins",
            hint="give a \"layout\" that brings B's values into A's shape; docs/mapping.md",
        )
    return Mapped(line.role, line.a, line.b, layouts[0])


def _once(tensors: Iterable[Mapped], where: str) -> None:
    """Refuse a tensor that has two partners, but for the parts of a fused one."""
    for side in ("a", "b"):
        whole: set[tuple[str, str]] = set()
        for one in tensors:
            name = one.a if side == "a" else one.b
            cut = one.is_part and (one.layout_a if side == "a" else one.layout)
            if name is None or cut:
                continue
            if (one.role, name) in whole:
                raise _twice(where, f"{one.role} {name}", side.upper())
            whole.add((one.role, name))


def _twice(where: str, what: str, side: str) -> UsageError:
    return UsageError(
        f"{where}: {what} of {side} is used twice",
        hint="a layer or tensor has one partner; remove one of the two lines",
    )


def _some(names: Iterable[str]) -> str:
    known = list(names)
    return f"it has {', '.join(known[:5])}{' ...' if len(known) > 5 else ''}"


def as_mapping(pairing: Pairing, a: Run, b: Run) -> dict[str, Any]:
    """Return a pairing as a mapping file holds it.

    Besides what is read back, each line has the shapes, the reason and the confidence, and
    ``back``: what brings A's values into B's layout, null where nothing does.
    """
    names = {"weight", *_ROLES}
    tensors: list[dict[str, Any]] = []
    for pair in pairing.pairs:
        if pair.role not in names or pair.a is None or pair.b is None:
            continue
        name_a, name_b = _whole(pair.a), _whole(pair.b)
        one, other = a.find(pair.role, name_a), b.find(pair.role, name_b)
        layout = parse(pair.layout)
        shape = None if other is None else other.shape
        returning = back(layout, shape) if layout and shape is not None else ()
        line: dict[str, Any] = {
            "role": pair.role,
            "a": name_a,
            "b": name_b,
            "layout": list(pair.layout),
            "back": None if returning is None else [*pair.layout_a, *describe(returning)],
            "shape_a": _shape(one),
            "shape_b": _shape(other),
            "reason": pair.reason,
            "confidence": pair.confidence,
        }
        if pair.layout_a:
            line["layout_a"] = list(pair.layout_a)
        tensors.append(line)
    return {
        "tracediff_map": VERSION,
        "a": a.path,
        "b": b.path,
        "layers": [
            {"a": one.a, "b": one.b, "reason": one.reason, "confidence": one.confidence}
            for one in pairing.layers
        ],
        "tensors": tensors,
        "unpaired": [
            {
                "side": one.side,
                "role": one.role,
                "tensor": one.tensor,
                "shape": None if one.shape is None else list(one.shape),
                "reason": one.reason,
                "nearest": one.nearest,
            }
            for one in pairing.unpaired
        ],
    }


def _whole(name: str) -> str:
    """Return the name of the tensor that a part belongs to."""
    return name.partition("[")[0] if name.endswith("]") else name


def _shape(tensor: Tensor | None) -> list[int] | None:
    return None if tensor is None or tensor.shape is None else list(tensor.shape)
