"""Known changes between versions: recognised in findings, and asked for where nothing explains.

An entry of the catalogue is named only where the two runs come from its two sides, and where the
numbers of the comparison show what it says they show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from tracediff.catalogue import FAMILIES, Change, changes
from tracediff.diagnose.case import Case
from tracediff.diagnose.configs import unwrapped
from tracediff.diagnose.numbers import plain, shown
from tracediff.model import Finding
from tracediff.names import class_name, model_layers, same_setting
from tracediff.onset import Place
from tracediff.trace import Run


def family(run: Run) -> str | None:
    """Return the family of versions that a run's framework belongs to, a key of `FAMILIES`."""
    stack = run.about.get("stack") or {}
    keras = str(stack.get("keras") or "")
    versions = stack.get("versions") or {}
    if keras.startswith("Keras 3"):
        return "keras-3"
    if keras.startswith("Keras 2.3"):
        return "keras-2.3"
    if not keras.startswith(("tf.keras", "tf_keras")):
        return None
    tensorflow = str(versions.get("tensorflow") or "")
    numbers = [int(part) for part in tensorflow.split(".")[:2] if part.isdigit()]
    if len(numbers) < 2:
        return None
    if numbers[0] < 2:
        return "tf.keras-1"
    return "tf.keras-2" if numbers < [2, 11] else "tf.keras-2.11"


def families(run: Run) -> set[str]:
    """Return the families that a run can stand for: its framework's, and its optimizer's."""
    found = family(run)
    result = set() if found is None else {found}
    optimizer = str((run.about.get("optimizer") or {}).get("class") or "")
    if optimizer.rpartition(".")[2].endswith("Optimizer"):
        result.add("v1")
    if found == "tf.keras-2.11" and "legacy" in optimizer:
        result.add("tf.keras-2")
    return result


def direction(case: Case, change: Change) -> int:
    """Return 1 where A stands before a change and B after it, -1 the other way, else 0."""
    a, b = families(case.a), families(case.b)
    if a == b:
        return 0
    if a & set(change.old) and b & set(change.new):
        return 1
    if b & set(change.old) and a & set(change.new):
        return -1
    return 0


def recognised(case: Case, finding: Finding) -> Finding:
    """Return a finding with the known change that it is, where it is one."""
    if finding.change is not None:
        return finding
    for change in changes():
        if change.layer is not None or not _is(case, finding, change):
            continue
        order = direction(case, change)
        old, new = ("A", "B") if order > 0 else ("B", "A")
        known = (
            f"known change: {change.title} ({_side(case, old)} in {old}, "
            f"{_side(case, new)} in {new}); tracediff explain {change.id}"
        )
        return replace(
            finding,
            change=change.id,
            evidence=(*finding.evidence, known),
            remedy=finding.remedy or change.remedy,
        )
    return finding


def undecided(case: Case, found: Iterable[Finding]) -> list[str]:
    """Return known changes of the optimizer between the two versions that no number shows."""
    named = {one.change for one in found}
    family = set(case.optimizer_classes())
    return [
        f"{change.title} ({change.id}): the versions differ in it, and nothing here shows it"
        for change in changes()
        if change.code == "optimizer.rule"
        and change.optimizer
        and family <= set(change.optimizer)
        and change.id not in named
        and direction(case, change)
    ]


def _is(case: Case, finding: Finding, change: Change) -> bool:
    if finding.code != change.code or not fnmatchcase(finding.subject or "", change.subject):
        return False
    order = direction(case, change)
    if order == 0:
        return False
    if change.optimizer and not set(case.optimizer_classes()) <= set(change.optimizer):
        return False
    if change.id == "moving-variance" and not _only_variances(case, finding):
        return False
    if change.values is None:
        return True
    old, new = (finding.a, finding.b) if order > 0 else (finding.b, finding.a)
    return same_setting(old, change.values[0]) and same_setting(new, change.values[1])


def _only_variances(case: Case, finding: Finding) -> bool:
    """Say whether of a layer's statistics the variance begins to differ, and not the mean."""
    names = [
        place.track.pair.name
        for place in case.firsts("weight")
        if place.track.pair.layer == finding.subject and case.is_origin(place)
    ]
    return bool(names) and all(name.endswith("moving_variance") for name in names)


def _side(case: Case, side: str) -> str:
    run = case.a if side == "A" else case.b
    return " and ".join(FAMILIES[one] for one in sorted(families(run)))


def known_changes(case: Case) -> Iterable[Finding]:
    """Name changes that both configurations show where the forward pass is where runs part.

    Nothing in the two configurations differs by such a change, and only the outputs tell: the
    finding rests on where the divergence begins, on equal data and state.
    """
    places = [p for p in case.firsts("activation", "loss") if case.is_origin(p)]
    if not places or case.first is None or places[0].key != case.first.key:
        return
    place = places[0]
    for change in changes():
        if change.layer is None or direction(case, change) == 0:
            continue
        for layer, key, value in _shown_in_both(case, change.layer):
            if place.track.pair.layer in (None, layer):
                yield _finding(case, place, change, layer, key, value)


def _shown_in_both(case: Case, wanted: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield layers, keys and values of settings that both models have and a change concerns."""
    by_name = {str(one.get("name")): one for one in model_layers(case.b.about)}
    for layer in model_layers(case.a.about):
        name = str(layer.get("name"))
        other = by_name.get(name)
        classes = wanted.get("classes")
        if other is None:
            continue
        settings, other_settings = _settings(layer), _settings(other)
        for key in sorted(settings.keys() & other_settings.keys()):
            holder, _, bare = key.rpartition(".")
            kind = settings.get(f"{holder}.class") if holder else class_name(layer.get("class"))
            if bare not in wanted["keys"] or (classes and kind not in classes):
                continue
            values = settings[key], other_settings[key]
            if any(value is None for value in values) or not same_setting(*values):
                continue
            if "value" not in wanted or same_setting(values[0], wanted["value"]):
                yield name, key, values[0]


def _settings(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a layer and of what it wraps; the layer knows best if it is frozen."""
    settings = unwrapped(layer.get("config") or {})
    if layer.get("trainable") is not None:
        settings["trainable"] = layer["trainable"]
    return settings


def _finding(case: Case, place: Place, change: Change, layer: str, key: str, value: Any) -> Finding:
    return Finding(
        code=change.code,
        summary=f"Layer {layer} has {key} {shown(value)} in both, which the versions compute "
        f"otherwise: {change.title}.",
        confidence=0.9,
        stage=place.stage,
        step=place.step,
        subject=f"{layer}.{key}",
        a=plain(value),
        b=plain(value),
        evidence=(
            (
                f"{place.track.pair.name} differs at {case.where(place.step)} while the data and "
                "all state before the step agree"
            ),
            f"A is {_side(case, 'A')}, B {_side(case, 'B')}",
            f"{change.numbers.rstrip('.')}; tracediff explain {change.id}",
        ),
        against=(
            "the configurations do not differ in it: what speaks for it is where the runs part",
        ),
        remedy=change.remedy,
        change=change.id,
    )
