"""The table of tensors of a run: what was recorded, under which name, and where it lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from tracediff.trace._damage import as_object, damaged

TABLES = ("state", "observed")
LAYOUTS = ("fixed", "ragged", "sparse")


@dataclass(frozen=True, slots=True, repr=False)
class Tensor:
    """One line of the table of tensors; (role, name) is unique within a run.

    Attributes:
        name: Canonical name, the same on every stack: ``hidden/kernel``, ``input/0``, ``loss``.
        role: What it is: ``weight``, ``slot``, ``gradient``, ``input`` and so on.
        table: ``state`` (what the update carries on) or ``observed`` (what a step saw).
        column: Its column there; None where ``same_as`` says what it is.
        layer: Canonical name of its layer, or None.
        order: Execution order: of the layer in the forward pass, then within the layer.
        dtype: The element type in the run, such as ``float32`` or ``bfloat16``.
        shape: Its extents; None where they vary from step to step.
        layout: How values are stored: ``fixed``, ``ragged`` or ``sparse``.
        path: Where values are stored within the run; None where only digests were kept.
        trainable: For weights, whether the optimizer updates it.
        same_as: The role whose tensor of the same name this one is, or None.
        framework_name: What the framework calls it.
        scaled_by: For gradients of a scaled loss, what it is multiplied by: the name of a slot, as
            it is before the step, or a number; else None.
    """

    name: str
    role: str
    table: str
    column: int | None
    layer: str | None
    order: int
    dtype: str
    shape: tuple[int, ...] | None
    layout: str
    path: str | None
    trainable: bool | None
    same_as: str | None
    framework_name: str | None
    scaled_by: str | float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """The role and the name, which identify the tensor in any run."""
        return self.role, self.name

    def __repr__(self) -> str:
        shape = "varying shape" if self.shape is None else str(self.shape)
        alias = f", same as {self.same_as}" if self.same_as else ""
        return f"Tensor({self.role} {self.name!r}, {self.dtype} {shape}{alias})"


_OPTIONAL: Mapping[str, tuple[type, ...]] = {"scaled_by": (str, int, float, type(None))}
"""Fields that older traces do not have, and most lines of others."""
_NAMES = tuple(field.name for field in fields(Tensor) if field.name not in _OPTIONAL)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "role": (str,),
    "table": (str,),
    "column": (int, type(None)),
    "layer": (str, type(None)),
    "order": (int,),
    "dtype": (str,),
    "shape": (list, type(None)),
    "layout": (str,),
    "path": (str, type(None)),
    "trainable": (bool, type(None)),
    "same_as": (str, type(None)),
    "framework_name": (str, type(None)),
}


def parse_tensors(found: object, where: str) -> tuple[Tensor, ...]:
    """Return the tensors that a run's attributes list.

    Args:
        found: The value of ``tensors`` in the attributes.
        where: The run, for messages.

    Raises:
        DamagedTrace: A line is incomplete or makes no sense, or two have the same role and name.
    """
    if not isinstance(found, list):
        raise damaged(f"{where}: the table of tensors is missing from the attributes")
    tensors = tuple(_parse(line, f"{where}: tensor {index}") for index, line in enumerate(found))
    by_key = {tensor.key: tensor for tensor in tensors}
    if len(by_key) < len(tensors):
        raise damaged(f"{where}: the table of tensors lists a role and name twice")
    for tensor in tensors:
        if tensor.same_as is None:
            continue
        target = by_key.get((tensor.same_as, tensor.name))
        if target is None or target.same_as is not None:
            raise damaged(
                f"{where}: {tensor.role} {tensor.name} is the same as "
                f"{tensor.same_as} {tensor.name}, which was not recorded"
            )
    return tensors


def _parse(line: object, where: str) -> Tensor:
    given = as_object(line, where)
    for name, types in {**_TYPES, **_OPTIONAL}.items():
        if name not in given and name in _TYPES:
            raise damaged(f"{where} lacks the field {name}")
        value = given.get(name)
        # In Python, though not in JSON, a bool is an int.
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise damaged(f"{where} has {value!r} as its {name}")
    values: dict[str, Any] = {name: given[name] for name in _NAMES}
    values.update((name, given.get(name)) for name in _OPTIONAL)
    where = f"{where} ({values['role']} {values['name']})"
    if values["table"] not in TABLES:
        raise damaged(f"{where} stands in the unknown table {values['table']!r}")
    if values["layout"] not in LAYOUTS:
        raise damaged(f"{where} has the unknown layout {values['layout']!r}")
    column = values["column"]
    if (column is None) != (values["same_as"] is not None) or (column is not None and column < 0):
        raise damaged(f"{where} has {column!r} as its column")
    shape = values["shape"]
    if shape is not None:
        if not all(type(extent) is int and extent >= 0 for extent in shape):
            raise damaged(f"{where} has {shape!r} as its shape")
        values["shape"] = tuple(shape)
    elif values["layout"] != "ragged":
        raise damaged(f"{where} has no shape, which its layout {values['layout']} needs")
    return Tensor(**values)
