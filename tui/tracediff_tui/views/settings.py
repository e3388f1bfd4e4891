"""Environment and configuration of both runs side by side, linked to the findings that use them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracediff.compare.parts import model_layers, optimizer_settings, same_setting
from tracediff.model import Comparison
from tracediff.report.terminal import printable
from tracediff.trace import Run
from tracediff_tui.sheet import Sheet

ABSENT = "(absent)"
HEADER = ("", "key", "A", "B", "finding")


@dataclass(frozen=True, slots=True)
class Setting:
    """One line.

    Attributes:
        section: Where it belongs.
        key: What it is called there.
        a: A's value, or `ABSENT`.
        b: B's value.
        mark: ``=`` the same, ``≈`` the same in another spelling, or not there, ``≠`` differs,
            ``+`` only in B, ``-`` only in A.
        finding: The number of the finding that speaks of it, or None.
    """

    section: str
    key: str
    a: str
    b: str
    mark: str
    finding: int | None = None


def settings(a: Run, b: Run | None, comparison: Comparison | None = None) -> tuple[Setting, ...]:
    """Return every setting of both runs, in sections.

    Args:
        a: The first run.
        b: The second run; None to list one.
        comparison: What was found, to link lines to it.
    """
    left, right = dict(_facts(a)), dict(_facts(b)) if b is not None else {}
    result = []
    for place in dict.fromkeys([*left, *right]):
        section, key = place
        one, other = left.get(place, _MISSING), right.get(place, _MISSING)
        mark = "" if b is None else _mark(section, one, other)
        found = (
            None if comparison is None or mark in ("", "=") else _finding(comparison, section, key)
        )
        result.append(
            Setting(section, key, _words(one), _words(other) if b is not None else "", mark, found)
        )
    order = {name: i for i, name in enumerate(dict.fromkeys(one.section for one in result))}
    return tuple(sorted(result, key=lambda one: order[one.section]))


class _Missing:
    pass


_MISSING = _Missing()


def _facts(run: Run) -> Iterator[tuple[tuple[str, str], Any]]:
    about = run.about
    stack = _object(about.get("stack"))
    for key in ("label", "generation", "keras", "backend"):
        if key in stack:
            yield ("stack", key), stack[key]
    for key, value in _object(stack.get("versions")).items():
        yield ("versions", key), value
    yield from _flat("environment", "", about.get("environment"))
    optimizer = _object(about.get("optimizer"))
    if "class" in optimizer:
        yield ("optimizer", "class"), optimizer["class"]
    # One spelling for both, so that `lr` and `learning_rate` stand side by side.
    for key, value in sorted(optimizer_settings(optimizer.get("config")).items()):
        yield ("optimizer", key), value
    yield from _flat("compile", "", about.get("compile"))
    model = _object(about.get("model"))
    for key in ("class", "name"):
        if key in model:
            yield ("model", key), model[key]
    for layer in model_layers(about):
        name = str(layer.get("name"))
        for key in ("class", "trainable", "framework_name", "inputs"):
            if key in layer:
                yield ("layers", f"{name}.{key}"), layer[key]
        for key, value in _object(layer.get("config")).items():
            if key != "name":
                yield ("layers", f"{name}.{key}"), value
    for number, fit in enumerate(about.get("fits") or ()):
        yield from _flat("fits", f"{number}", fit)
    yield from _flat("capture", "", about.get("capture"))


def _object(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _flat(section: str, prefix: str, value: Any) -> Iterator[tuple[tuple[str, str], Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(section, f"{prefix}.{key}" if prefix else str(key), item)
    elif prefix:
        yield (section, prefix), value


def _mark(section: str, a: Any, b: Any) -> str:
    # Versions and machines are texts; settings are the same also in another spelling, and where
    # one run says of a setting that there is none and the other does not know it.
    spelt = section in ("optimizer", "layers", "compile", "model")
    if isinstance(a, _Missing):
        return "≈" if b is None else "+"
    if isinstance(b, _Missing):
        return "≈" if a is None else "-"
    if _words(a) == _words(b):
        return "="
    return "≈" if spelt and same_setting(a, b) else "≠"


def _words(value: Any) -> str:
    if isinstance(value, _Missing):
        return ABSENT
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float):
        return f"{value:.7g}"
    if isinstance(value, Mapping) and "class_name" in value:
        inner = _object(value.get("config"))
        named = ", ".join(f"{k}={_words(v)}" for k, v in inner.items() if v is not None)
        return printable(f"{value['class_name']}({named})")
    try:
        return printable(json.dumps(value))
    except (TypeError, ValueError):
        return printable(str(value))


_SPOKEN_OF = (
    ("environment", "seeds.", ("init.draw", "layer.random")),
    ("environment", "flags.precision_policy", ("precision",)),
    ("environment", "flags.floatx", ("precision",)),
    ("compile", "loss", ("loss.value",)),
    ("compile", "metrics", ("metric.definition",)),
    ("compile", "weighted_metrics", ("metric.definition",)),
    ("compile", "sample_weight", ("data.sample_weight",)),
    ("compile", "loss_weights", ("loss.value",)),
)
"""Which settings a finding of some code speaks of, by how their names begin."""


def _finding(comparison: Comparison, section: str, key: str) -> int | None:
    last = key.rpartition(".")[2]
    layer = key.partition(".")[0]
    spoken: set[str] = set()
    for where, begins, codes in _SPOKEN_OF:
        if where == section and key.startswith(begins):
            spoken.update(codes)
    if section == "fits":
        spoken |= {"batch_size": {"data.batching"}, "shuffle": {"data.order"}}.get(last, set())
    for number, cause in enumerate(comparison.causes):
        if cause.code in spoken:
            return number
        subject = str(cause.subject or "")
        if section == "optimizer" and cause.code.startswith("optimizer."):
            if subject.rpartition(".")[2] == last or (
                last == "class" and cause.code.endswith("rule")
            ):
                return number
        elif (section == "layers" and (subject in (key, f"{layer}.{last}"))) or (
            section == "layers"
            and subject.split("/", maxsplit=1)[0].split(".", maxsplit=1)[0] == layer
            and (last in cause.summary)
        ):
            return number
    return None


def shown(rows: tuple[Setting, ...], *, everything: bool, keep: Any = None) -> tuple[Setting, ...]:
    """Return the settings to show.

    Args:
        rows: All of them.
        everything: Whether to show those that are the same.
        keep: Says of a line's text whether to keep it.
    """
    return tuple(
        row
        for row in rows
        if (everything or row.mark not in ("=", "≈"))
        and (keep is None or keep(f"{row.section} {row.key} {row.a} {row.b}"))
    )


def settings_sheet(rows: tuple[Setting, ...], comparison: Comparison | None) -> Sheet:
    """Return the settings for export."""

    def code(row: Setting) -> str:
        if row.finding is None or comparison is None:
            return ""
        return comparison.causes[row.finding].code

    return Sheet(
        title="Environment and configuration",
        header=HEADER,
        rows=tuple((r.mark, f"{r.section}: {r.key}", r.a, r.b, code(r)) for r in rows),
        data={
            "settings": [
                {"section": r.section, "key": r.key, "a": r.a, "b": r.b, "mark": r.mark}
                for r in rows
            ]
        },
        arrays={
            name: np.array([getattr(row, name) for row in rows])
            for name in ("section", "key", "a", "b", "mark")
        },
    )
