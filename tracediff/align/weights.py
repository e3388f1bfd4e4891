"""Match the weights within two layers that are the same: by name, then by role, shape and values.

A layout is recorded where the two keep the same numbers otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracediff.align.candidates import fits, layouts_between, layouts_within
from tracediff.align.graph import Layer
from tracediff.align.layouts import Layout, Reorder
from tracediff.align.reordered import reordered
from tracediff.align.values import FirstValues
from tracediff.names import WEIGHT_ROLES, within_layer
from tracediff.trace import Tensor


@dataclass(frozen=True, slots=True)
class WeightMatch:
    """A weight of A and the weight of B that is taken to be the same.

    Attributes:
        a: The weight in A.
        b: The weight in B.
        layout: What brings B's values into A's layout; empty where they are in it.
        layout_a: What brings A's values into B's, where it is A that holds the summands.
        reason: What the layer's reason leaves to say, or None.
        confidence: How sure that is, given that the layers are the same.
    """

    a: Tensor
    b: Tensor
    layout: Layout = ()
    reason: str | None = None
    confidence: float = 1.0
    layout_a: Layout = ()


def match_weights(a: Layer, b: Layer, values: FirstValues) -> list[WeightMatch]:
    """Return which weights of two layers belong together; the others have no partner."""
    names_b = {within_layer(one.name, b.name): one for one in b.weights}
    result: list[WeightMatch] = []
    for weight in a.weights:
        other = names_b.get(within_layer(weight.name, a.name))
        if other is not None and fits(weight.shape, other.shape):
            result.append(WeightMatch(weight, other))
    used = {one.a.name for one in result}, {one.b.name for one in result}
    left_a = [one for one in a.weights if one.name not in used[0]]
    left_b = [one for one in b.weights if one.name not in used[1]]
    result.extend(_assigned(a, b, left_a, left_b, values))
    return _one_order([_checked(match, a, values) for match in result], values)


def _assigned(
    a: Layer, b: Layer, ones: Sequence[Tensor], others: Sequence[Tensor], values: FirstValues
) -> list[WeightMatch]:
    if not ones or not others:
        return []
    from scipy.optimize import linear_sum_assignment

    found: dict[tuple[int, int], WeightMatch] = {}
    scores = np.full((len(ones), len(others)), -100.0)
    for i, one in enumerate(ones):
        for j, other in enumerate(others):
            match = _possible(one, other, a, b, values)
            if match is not None:
                found[i, j] = match
                # Equal sureness is broken by the order within the layer.
                scores[i, j] = match.confidence - 0.01 * abs(i - j)
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return [
        found[i, j] for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if (i, j) in found
    ]


def _possible(
    one: Tensor, other: Tensor, a: Layer, b: Layer, values: FirstValues
) -> WeightMatch | None:
    local, theirs = within_layer(one.name, a.name), within_layer(other.name, b.name)
    named = local == theirs
    same_role = named or role_of(local) == role_of(theirs)
    if fits(one.shape, other.shape):
        alike = values.alike(one, other)
        if not same_role and role_of(local) and role_of(theirs) and not alike:
            return None
        sure = 0.97 if alike else 0.9 if same_role else 0.7
        reason = f"{theirs} has the shape of {local}" + (", equal first values" if alike else "")
        return WeightMatch(one, other, (), reason, sure)
    if not same_role:
        return None
    layouts = layouts_between(other.shape, one.shape, a.kind or b.kind)
    for layout in layouts:
        if values.alike(one, other, layout):
            return WeightMatch(one, other, layout, None, 0.97)
    if not layouts:
        # A sum leads one way only: the run that holds the summands is the one to be adapted.
        sums = layouts_between(one.shape, other.shape, a.kind or b.kind)
        return WeightMatch(one, other, (), None, 0.9, sums[0]) if sums else None
    return WeightMatch(one, other, layouts[0], None, 0.9 if len(layouts) == 1 else 0.6)


def role_of(local: str) -> str:
    """Return what a weight is for, whatever it is called; empty where its name does not tell.

    Example:
        >>> role_of("kernel"), role_of("weight"), role_of("forward_layer/bias"), role_of("alpha")
        ('kernel', 'kernel', 'forward_layer/bias', '')
    """
    path, _, last = local.rpartition("/")
    role = WEIGHT_ROLES.get(last, "")
    return f"{path}/{role}" if path and role else role


def _checked(match: WeightMatch, layer: Layer, values: FirstValues) -> WeightMatch:
    """Look for gates in another order, or a square kernel transposed, where values say so."""
    if match.layout or match.a.shape != match.b.shape or match.a.shape is None:
        return match
    if values.equal(match.a, match.b) or values.alike(match.a, match.b) is not False:
        return match
    for layout in layouts_within(match.a.shape, layer.kind):
        if values.alike(match.a, match.b, layout):
            return WeightMatch(match.a, match.b, layout, None, 0.97)
    return _in_another_order(match, values) or match


def _in_another_order(match: WeightMatch, values: FirstValues) -> WeightMatch | None:
    """Look for slices in another order: a kernel behind, or of, parts put together otherwise.

    Weights that were loaded in a wrong order hold the same values, too. What the models compute
    from them does not agree then, and the first gradient says so.
    """
    shape = match.a.shape or ()
    one, other = values.spread(0, match.a), values.spread(1, match.b)
    if len(shape) < 2 or one is None or other is None or not np.isclose(one, other, rtol=1e-3):
        return None
    ones = values.first(0, match.a), values.first(1, match.b)
    assert ones[0] is not None  # Their spread is known.
    assert ones[1] is not None
    for axis in (len(shape) - 2, len(shape) - 1):
        found = reordered(ones[0], ones[1], axis)
        if found is not None and values.gradients_alike(match.a, match.b, (found,)):
            return WeightMatch(match.a, match.b, (found,), None, 0.95)
    return None


def _one_order(matches: list[WeightMatch], values: FirstValues) -> list[WeightMatch]:
    """Let what says nothing by its values, a bias of zeros, follow its kernel's last axis."""
    orders = {
        adapter.blocks
        for match in matches
        for adapter in match.layout
        if isinstance(adapter, Reorder) and adapter.axis == len(match.b.shape or ()) - 1
    }
    if len(orders) != 1:
        return matches
    (blocks,) = orders
    result = []
    for match in matches:
        shape = match.b.shape
        silent = not match.layout and shape and values.alike(match.a, match.b) is None
        if shape and silent and shape[-1] % len(blocks) == 0:
            layout = (Reorder(len(shape) - 1, blocks),)
            result.append(WeightMatch(match.a, match.b, layout, "as its kernel", 0.9))
        else:
            result.append(match)
    return result
