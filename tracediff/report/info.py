"""Show what a trace holds: text for a person, JSON for a program."""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from tracediff.report.terminal import Style, display_width, printable, table
from tracediff.trace import (
    Event,
    LayerSummary,
    RunSummary,
    Tensor,
    TraceSummary,
    WeightSummary,
)

SCHEMA = 1
"""Version of the JSON object; fields may be added to it under the same number."""

_STATUS = {
    "complete": "complete",
    "recording": "incomplete: still running, or killed",
    "interrupted": "incomplete: interrupted by an exception or Ctrl-C",
    "failed": "incomplete: the recorder gave up, see the events",
}
_MOST_CHANGES = 5


def to_json(summary: TraceSummary) -> str:
    """Return the summary as one JSON object; floats that are not finite become strings."""
    return json.dumps(
        {"schema": SCHEMA, **_plain(summary)}, indent=2, ensure_ascii=False, allow_nan=False
    )


def to_text(
    summary: TraceSummary, *, style: Style | None = None, width: int = 100, tensors: bool = False
) -> str:
    """Return the summary for a person to read.

    Args:
        summary: What the trace holds.
        style: How to style it; plain where not given.
        width: Columns to fill.
        tensors: Whether to list every tensor.
    """
    used = style or Style()
    origin = f"trace format {summary.format}, written by {printable(summary.writer)}"
    count = _count(len(summary.runs), "run")
    lines = [f"{used.bold(printable(summary.path))}  {count}, {origin}"]
    for run in summary.runs:
        title = [used.bold(printable(run.path))] if len(summary.runs) > 1 else []
        lines += ["", *title, *_run(run, used, width)]
        if tensors:
            lines += ["", *_tensors(run.tensors, used)]
    return "\n".join(lines)


def _run(run: RunSummary, style: Style, width: int) -> list[str]:
    facts = [
        ("status", _status(run, style)),
        ("recorded", _recorded(run)),
        ("stack", printable(run.stack)),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        ("optimizer", _optimizer(run)),
        ("loss", _loss(run)),
    ]
    lines: list[str] = []
    for name, text in facts:
        lines += _wrapped(name, text, style, width)
    lines += ["", f"  {style.bold('model')}  {printable(_model(run))}"]
    lines += _layers(run.layers, style, width)
    lines += ["", f"  {style.bold('values')}  {_total(run)}"]
    lines += table(
        [
            [printable(role.role), f"{role.tensors:,}", _bytes(role.bytes_on_disk)]
            for role in run.roles
        ],
        align="lrr",
        header=["role", "tensors", "on disk"],
        style=style,
        indent=4,
    )
    lines += _events(run.events, style, width)
    return lines + _changes(run, style, width)


def _wrapped(name: str, text: str, style: Style, width: int) -> list[str]:
    if not text:
        return []
    indent = " " * 13
    wrapped = textwrap.wrap(text, max(20, width - len(indent)), break_on_hyphens=False)
    first, *rest = wrapped or [""]
    label = style.dim(name) + " " * (11 - len(name))
    return [f"  {label}{first}", *(indent + line for line in rest)]


def _status(run: RunSummary, style: Style) -> str:
    text = _STATUS.get(run.status, run.status)
    return style.green(text) if run.complete else style.yellow(text)


def _recorded(run: RunSummary) -> str:
    if not run.steps:
        return f"no complete step, level {run.level}"
    return (
        f"{_count(run.steps, 'step')} in {_count(run.epochs, 'epoch')} "
        f"and {_count(run.fits, 'fit')}, {_duration(run.seconds)}, level {run.level}"
    )


def _optimizer(run: RunSummary) -> str:
    settings = ", ".join(
        f"{name}={_setting(value)}" for name, value in run.hyperparameters.items() if name != "name"
    )
    return printable(f"{run.optimizer}({settings})")


def _setting(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.7g}"
    return json.dumps(_plain(value)) if isinstance(value, dict | list) else str(value)


def _loss(run: RunSummary) -> str:
    if run.first_loss is None or run.last_loss is None:
        return "" if not run.steps else "not recorded"
    return f"{run.first_loss:.7g} at step 0, {run.last_loss:.7g} at step {run.steps - 1}"


def _model(run: RunSummary) -> str:
    name = f" {run.model_name}" if run.model_name else ""
    elements = sum(
        math.prod(weight.shape) for layer in run.layers for weight in layer.weights if weight.shape
    )
    layers = _count(len(run.layers), "layer")
    return f"{run.model_class}{name}, {layers}, {elements:,} numbers in its weights"


def _layers(layers: tuple[LayerSummary, ...], style: Style, width: int) -> list[str]:
    names = [printable(layer.name) for layer in layers]
    classes = [printable(layer.class_name) for layer in layers]
    notes = [_notes(layer) for layer in layers]
    taken = sum(max(map(display_width, cells), default=0) for cells in (names, classes, notes))
    room = max(24, width - taken - 10)
    rows = []
    for layer, name, class_name, note in zip(layers, names, classes, notes, strict=True):
        weights = ", ".join(_weight(layer.name, weight) for weight in layer.weights)
        first, *rest = textwrap.wrap(weights, room, break_long_words=False) or [""]
        rows.append([style.cyan(name), class_name, _spaced(first), style.dim(note)])
        rows += [["", "", _spaced(line), ""] for line in rest]
    return table(rows, indent=4)


def _spaced(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def _notes(layer: LayerSummary) -> str:
    called = f"here {printable(layer.framework_name)}" if layer.framework_name else ""
    return ", ".join(filter(None, [called, "frozen" if layer.trainable is False else ""]))


def _weight(layer: str, weight: WeightSummary) -> str:
    shape = "?" if weight.shape is None else "×".join(map(str, weight.shape)) or "scalar"
    # A no-break space until lines are broken, so that a name and its shape stay together.
    return f"{printable(weight.name.removeprefix(layer + '/'))}\N{NO-BREAK SPACE}{shape}"


def _total(run: RunSummary) -> str:
    total = sum(role.bytes_on_disk for role in run.roles)
    return f"{_count(len(run.tensors), 'tensor')}, {_bytes(total)} on disk"


def _tensors(tensors: Iterable[Tensor], style: Style) -> list[str]:
    rows = []
    for tensor in tensors:
        shape = "varies" if tensor.shape is None else "×".join(map(str, tensor.shape)) or "scalar"
        notes = [
            f"same as {tensor.same_as}" if tensor.same_as else "",
            tensor.layout if tensor.layout == "sparse" else "",
            "" if tensor.path or tensor.same_as else "digests only",
            f"here {tensor.framework_name}"
            if tensor.framework_name not in {None, tensor.name}
            else "",
        ]
        rows.append(
            [
                tensor.role,
                style.cyan(printable(tensor.name)),
                printable(tensor.dtype),
                shape,
                style.dim(printable(", ".join(filter(None, notes)))),
            ]
        )
    return table(rows, header=["role", "tensor", "type", "shape", ""], indent=4, style=style)


def _events(events: tuple[Event, ...], style: Style, width: int) -> list[str]:
    if not events:
        return []
    lines = ["", f"  {style.bold('events')}  {len(events)}"]
    for event in events:
        place = "" if event.step is None else f"step {event.step}, "
        text = printable(f"{place}{event.kind}: {event.message}")
        lines += textwrap.wrap(
            text, max(20, width), initial_indent=" " * 4, subsequent_indent=" " * 6
        )
    return lines


def _changes(run: RunSummary, style: Style, width: int) -> list[str]:
    changes = run.external_changes
    if not changes:
        return []
    text = f"at {_count(len(changes), 'step')} something else than the optimizer changed state"
    lines = ["", f"  {style.bold('changed from outside')}  {text}"]
    for change in changes[:_MOST_CHANGES]:
        names = printable(", ".join(change.tensors))
        shown = textwrap.shorten(names, max(40, width - 24), placeholder=" ...")
        lines.append(f"    before step {change.step}: {shown}")
    if len(changes) > _MOST_CHANGES:
        lines.append(f"    and {len(changes) - _MOST_CHANGES} more; --format json lists all")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _bytes(number: int) -> str:
    size = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "no time"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
