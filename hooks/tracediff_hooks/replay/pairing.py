"""Pairs A's recorded state with B's model, and brings A's values into B's layout.

By canonical name and shape, or as a mapping file says. What cannot be carried over is listed with
its reason; nothing is dropped in silence.
"""

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from tracediff_hooks.replay.layouts import Layout, layout_between
from tracediff_hooks.replay.mapping import NameMapping
from tracediff_hooks.replay.reader import STATE_ROLES, RecordedRun, RecordedTensor
from tracediff_hooks.state import StateTensor

Part = Tuple[RecordedTensor, Layout, Optional[Tuple[int, int, int]]]


class Carry(NamedTuple):
    """One tensor of B and what of A goes into it."""

    target: StateTensor
    parts: Sequence[Part]

    def value(self, run: RecordedRun, step: int) -> Tuple[Optional[np.ndarray], Optional[str]]:
        """A's value before a step in B's layout and dtype, and what is lost on the way, or None.

        Raises:
            ReplayRefused: A did not keep the value.
        """
        shape, dtype = self.target.spec.shape or (), _numpy_dtype(self.target.spec.dtype)
        whole: Optional[np.ndarray] = None
        lost: Optional[str] = None
        for tensor, layout, place in self.parts:
            found = run.before(tensor, step)
            if found is None:
                return None, "A did not have it before this step"
            carried = layout.apply(found)
            lost = lost or carried.lost
            if place is None:
                whole = carried.value
                continue
            if whole is None:
                whole = np.zeros(shape, carried.value.dtype)
            axis, start, stop = place
            where: List[Any] = [slice(None)] * len(shape)
            where[axis] = slice(start, stop)
            whole[tuple(where)] = carried.value
        assert whole is not None
        lost = lost or self._uncovered(shape)
        if dtype is None or whole.dtype == dtype:
            return whole, lost
        cast = whole.astype(dtype)
        if lost is None and not np.array_equal(cast.astype(whole.dtype), whole):
            lost = f"{whole.dtype.name} rounded to {cast.dtype.name}"
        return cast, lost

    def _uncovered(self, shape: Tuple[int, ...]) -> Optional[str]:
        places = [place for _, _, place in self.parts if place is not None]
        if not places or sum(stop - start for _, start, stop in places) >= shape[places[0][0]]:
            return None
        return "parts of it that the mapping does not name are zero"


class StatePairing(NamedTuple):
    """What is carried over, and what is not: B's tensors and A's, each with its reason."""

    carried: Sequence[Carry]
    left_in_b: Mapping[str, str]
    left_in_a: Mapping[str, str]

    @property
    def weights(self) -> int:
        """How many weights are carried over."""
        return sum(1 for carry in self.carried if carry.target.spec.role == "weight")


def pair_state(
    run: RecordedRun,
    state: Sequence[StateTensor],
    mapping: Optional[NameMapping],
    *,
    roles: Sequence[str] = STATE_ROLES,
) -> StatePairing:
    """Pairs the state tensors of B's model with those that A recorded.

    Args:
        run: A's run.
        state: the state of B's model.
        mapping: which tensor is which, None for by name and shape.
        roles: the roles that are to be carried over; of others nothing is said.
    """
    carried: List[Carry] = []
    left: Dict[str, str] = {}
    used: Set[Any] = set()
    for tensor in state:
        if tensor.spec.role not in roles:
            continue
        parts, reason = _parts(run, tensor, mapping)
        if parts:
            carried.append(Carry(tensor, parts))
            used.update(part[0].key for part in parts)
        else:
            left[tensor.spec.name] = reason
    unused = {
        tensor.name: "this run has no such " + tensor.role
        for tensor in run.of_roles(*roles)
        if tensor.key not in used and tensor.name not in left
    }
    return StatePairing(carried, left, unused)


def _parts(
    run: RecordedRun, target: StateTensor, mapping: Optional[NameMapping]
) -> Tuple[List[Part], str]:
    role, name = target.key
    sources = None
    rename: Callable[[str], str] = str
    if mapping is not None:
        weight, slash, slot = name.rpartition("/")
        sources = mapping.sources_of(("weight", weight if role == "slot" else name))
        if role == "slot" and sources is not None:
            rename = lambda found: found + slash + slot  # noqa: E731 - one expression
    shape = target.spec.shape or ()
    if sources is None:
        tensor = run.find((role, name))
        if tensor is None:
            return [], f"A has no {role} of that name"
        layout = layout_between(tensor.shape or (), shape)
        if layout is None:
            return [], f"A's has shape {tensor.shape}, this one {shape}"
        return [(tensor, layout, None)], ""
    parts: List[Part] = []
    for source in sources:
        tensor = run.find((role, rename(source.name)))
        if tensor is None:
            return [], f"A has no {role} {rename(source.name)}, which the mapping names"
        layout = source.layout or layout_between(
            tensor.shape or (), _part_shape(shape, source.place)
        )
        if layout is None:
            return [], f"A's {tensor.name} has shape {tensor.shape}, this one {shape}"
        parts.append((tensor, layout, source.place))
    return parts, "the mapping gives it no partner"


def _part_shape(shape: Tuple[int, ...], place: Optional[Tuple[int, int, int]]) -> Tuple[int, ...]:
    if place is None:
        return shape
    axis, start, stop = place
    axis %= len(shape)
    return (*shape[:axis], stop - start, *shape[axis + 1 :])


def _numpy_dtype(name: str) -> Optional[np.dtype]:
    try:
        return np.dtype(name)
    except TypeError:
        return None


def left_over(found: Mapping[str, str], limit: int = 6) -> str:
    """What is left over in one line: names with their reasons, the first few.

    Slots of one kind are one entry.
    """
    kinds: Dict[Tuple[str, str], List[str]] = {}
    for name, reason in found.items():
        kind = name.rpartition("/")[2] if reason.endswith("slot") or " slot " in reason else name
        kinds.setdefault((kind, reason), []).append(name)
    shown = [
        f"{names[0] if len(names) == 1 else f'{kind} of {len(names)} weights'} ({reason})"
        for (kind, reason), names in list(kinds.items())[:limit]
    ]
    more = len(kinds) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
