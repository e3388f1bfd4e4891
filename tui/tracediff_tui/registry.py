"""All keys: what each is called, does and says, and where it works; a table and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

SCREENS = ("overview", "step", "tensor", "findings", "settings")
RUN_SCREENS = ("run", "values", "settings")
_ALL = (*SCREENS, "run", "values")

TITLES = {
    "overview": "Overview",
    "step": "Step",
    "tensor": "Tensor",
    "findings": "Findings",
    "settings": "Configuration",
    "run": "Run",
    "values": "Tensor",
}


@dataclass(frozen=True, slots=True)
class Key:
    """One key, or several that do the same.

    Attributes:
        id: What it is called in the code.
        keys: As Textual writes them, with commas between.
        shown: As a reader knows them.
        action: What it does, as Textual's action.
        label: A word for the footer.
        help: A line for the help.
        screens: Where it works.
        rank: Its place in the footer; 0 keeps it out.
    """

    id: str
    keys: str
    shown: str
    action: str
    label: str
    help: str
    screens: tuple[str, ...] = _ALL
    rank: int = 0


KEYS = (
    Key(
        "open",
        "enter",
        "⏎",
        "open",
        "Open",
        "go deeper: cell → step → tensor; a fold opens",
        rank=1,
    ),
    Key(
        "back",
        "escape",
        "Esc",
        "back",
        "Back",
        "back to where you came from; ends a filter",
        rank=9,
    ),
    Key("next", "n", "n", "jump(1)", "Next", "next onset, worst element or difference", rank=2),
    Key("previous", "N", "N", "jump(-1)", "Previous", "the one before"),
    Key("up", "up,k", "↑ k", "move(-1,0)", "Up", "a line up"),
    Key("down", "down,j", "↓ j", "move(1,0)", "Down", "a line down"),
    Key("left", "left,h", "← h", "move(0,-1)", "Left", "a column left"),
    Key("right", "right,l", "→ l", "move(0,1)", "Right", "a column right"),
    Key("page_up", "pageup,b", "PgUp b", "page(-1)", "Page up", "a screenful up"),
    Key("page_down", "pagedown", "PgDn", "page(1)", "Page down", "a screenful down"),
    Key("space", "space", "Space", "space", "Fold", "fold or unfold; elsewhere a screenful down"),
    Key("home", "home", "Home", "edge(-1)", "First", "first step, or first line of a list"),
    Key("end", "end", "End", "edge(1)", "Last", "last step, or last line of a list"),
    Key("top", "ctrl+home", "Ctrl+Home", "far(-1)", "Top", "first row"),
    Key("bottom", "ctrl+end", "Ctrl+End", "far(1)", "Bottom", "last row"),
    Key(
        "step_back",
        "comma",
        ",",
        "step(-1)",
        "Step -1",
        "one step back",
        ("step", "tensor", "values", "overview", "run"),
        0,
    ),
    Key(
        "step_on",
        "full_stop",
        ".",
        "step(1)",
        "Step +1",
        "one step on",
        ("step", "tensor", "values", "overview", "run"),
        0,
    ),
    Key(
        "step_back_10",
        "less_than_sign",
        "<",
        "step(-10)",
        "Step -10",
        "ten steps back",
        ("step", "tensor", "values", "overview", "run"),
    ),
    Key(
        "step_on_10",
        "greater_than_sign",
        ">",
        "step(10)",
        "Step +10",
        "ten steps on",
        ("step", "tensor", "values", "overview", "run"),
    ),
    Key(
        "tensor_before",
        "left_square_bracket",
        "[",
        "tensor(-1)",
        "Tensor -1",
        "the tensor before this one in the step",
        ("tensor", "values"),
    ),
    Key(
        "tensor_after",
        "right_square_bracket",
        "]",
        "tensor(1)",
        "Tensor +1",
        "the tensor after this one in the step",
        ("tensor", "values"),
    ),
    Key(
        "moment",
        "v",
        "v",
        "moment",
        "Value",
        "state after the step, before it, or the update",
        ("tensor", "values"),
        6,
    ),
    Key("pane", "tab", "Tab", "pane(1)", "Pane", "the next pane", ("tensor", "findings"), 5),
    Key(
        "pane_back",
        "shift+tab",
        "Shift+Tab",
        "pane(-1)",
        "Pane back",
        "the pane before",
        ("tensor", "findings"),
    ),
    Key(
        "goto", "g", "g", "goto", "Go to", "go to 37, 37:hidden/kernel, epoch 2 or a tensor", rank=8
    ),
    Key(
        "filter",
        "slash",
        "/",
        "filter",
        "Filter",
        "keep what contains a text; re: for a pattern",
        ("overview", "step", "findings", "settings", "run"),
        4,
    ),
    Key(
        "metric", "m", "m", "metric", "Metric", "colour by another measure", ("overview", "run"), 3
    ),
    Key(
        "zoom_in",
        "z",
        "z",
        "zoom(1)",
        "Zoom",
        "fewer steps, around the cursor",
        ("overview", "run"),
        6,
    ),
    Key("zoom_out", "Z", "Z", "zoom(-1)", "Zoom out", "more steps", ("overview", "run")),
    Key(
        "whole",
        "0",
        "0",
        "whole",
        "Whole run",
        "all steps; again: log or even columns",
        ("overview", "run"),
    ),
    Key(
        "kinds",
        "t",
        "t",
        "kinds",
        "Kinds",
        "all tensors, or those of one role",
        ("overview", "run"),
        7,
    ),
    Key(
        "differing",
        "equals_sign",
        "=",
        "differing",
        "Hide equal",
        "hide rows that are equal throughout",
        ("overview", "step"),
        5,
    ),
    Key(
        "folds",
        "asterisk",
        "*",
        "folds",
        "Fold all",
        "fold or unfold all layers",
        ("overview", "run"),
    ),
    Key("origins", "o", "o", "origins", "Origins", "keep only origins", ("step",), 3),
    Key(
        "sort",
        "u",
        "u",
        "sort",
        "Sort",
        "sort by abs, ulp or rel; in a step by order or size",
        ("tensor", "step"),
        3,
    ),
    Key("bits", "x", "x", "bits", "Bits", "hex, or sign, exponent and mantissa", ("tensor",), 4),
    Key("axis", "r", "r", "axis(0)", "Axis", "the next axis down the slice", ("tensor",), 7),
    Key(
        "axis_across",
        "R",
        "R",
        "axis(1)",
        "Axis across",
        "the next axis across the slice",
        ("tensor",),
    ),
    Key("pin", "p", "p", "pin(1)", "Pin", "the next index of a pinned axis", ("tensor",)),
    Key("pin_back", "P", "P", "pin(-1)", "Pin back", "the index before", ("tensor",)),
    Key(
        "codes",
        "f",
        "f",
        "confidence",
        "Confidence",
        "all findings, or those of 50 % and more",
        ("findings",),
        3,
    ),
    Key("all", "d", "d", "all", "All", "differing settings only, or all", ("settings",), 3),
    Key(
        "overview",
        "1",
        "1",
        "go('overview')",
        "Overview",
        "the whole run: tensors by steps",
        SCREENS,
    ),
    Key("step", "2", "2", "go('step')", "Step", "one step in the order it ran", SCREENS),
    Key("tensor", "3", "3", "go('tensor')", "Tensor", "one tensor down to its elements", SCREENS),
    Key("findings", "4", "4", "go('findings')", "Findings", "causes and their evidence", SCREENS),
    Key(
        "settings",
        "5",
        "5",
        "go('settings')",
        "Configuration",
        "environment and configuration of both runs",
        (*SCREENS, "run", "values"),
    ),
    Key("run", "1", "1", "go('run')", "Run", "the whole run: tensors by steps", ("run", "values")),
    Key(
        "values",
        "3",
        "3",
        "go('values')",
        "Tensor",
        "one tensor and its elements",
        ("run", "values"),
    ),
    Key("copy", "y", "y", "copy", "Copy", "copy the line under the cursor", rank=10),
    Key(
        "export",
        "e",
        "e",
        "export",
        "Export",
        "write this view: txt, json, md, svg or npz",
        rank=11,
    ),
    Key("reload", "f5", "F5", "reload", "Reload", "read the traces again: one may be growing"),
    Key("keys", "question_mark", "?", "keys", "Help", "the keys of this screen", rank=12),
    Key("explain", "f1", "F1", "explain", "Explain", "what this screen shows"),
    Key("palette", "ctrl+p", "Ctrl+P", "palette", "Commands", "every command, by name"),
    Key("quit", "q,ctrl+q", "q", "app.quit", "Quit", "leave; nothing can be lost", rank=13),
)
