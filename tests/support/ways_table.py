"""Writes docs/ways.md: a row for each `way` mark of the hook tests.

`python tests/support/ways_table.py` writes it anew. A test proves a row by the mark
`@pytest.mark.way(title, outcome, *stacks)`, with the names of the stacks written out, or in a
tuple of the same module or of tests/support/ways.py. The marks are read from the source; nothing
is imported or run.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "ways.md"
GROUPS = ROOT / "tests" / "support" / "ways.py"
"""Tuples of stacks that test modules import."""
STACKS = {
    "keras2.3": "Keras 2.3, TF 1.15",
    "tf1.15": "tf.keras, TF 1.15",
    "tf2.3": "tf.keras, TF 2.3",
    "tf2.15": "tf.keras, TF 2.15",
    "tf-keras": "tf_keras",
    "keras3": "Keras 3, TensorFlow",
    "keras3-jax": "Keras 3, JAX",
    "keras3-torch": "Keras 3, torch",
}
"""Names of stacks in marks -> columns of the table, for those that some mark names."""
HEAD = """\
# What is recorded, by way of training and stack

Each row is proven by tests on real runs of each stack it names, which hold the record against the
data that were fed and against an independent computation of the step. This page is written from the
marks of those tests (`python tests/support/ways_table.py`), and a test keeps it current.

*recorded*: batch, loss, gradients, weights, slots and learning rate of every step, as
[trace-format.md](trace-format.md) says. *said*: an event in the trace and a line on stderr. A dash:
the stack has no such way. Not tested is `tf.data` on JAX and torch, for which a TensorFlow would
have to stand beside them.

"""


def rows() -> dict[str, dict[str, str]]:
    """Return title -> stack -> outcome, in the order of the tests."""
    found: dict[str, dict[str, str]] = {}
    shared = _tuples(ast.parse(GROUPS.read_text(encoding="utf-8")))
    for path in sorted((ROOT / "tests" / "hooks").glob("test_*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        tuples = {**shared, **_tuples(module)}
        for node in module.body:
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.way":
                    title, outcome, *stacks = _arguments(mark, tuples)
                    found.setdefault(title, {}).update(dict.fromkeys(stacks, outcome))
    return found


def _tuples(module: ast.Module) -> dict[str, tuple[str, ...]]:
    """Return the tuples of names that a module defines."""
    found = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue
            if isinstance(value, tuple | dict):
                found[node.targets[0].id] = tuple(value)
    return found


def _arguments(mark: ast.Call, tuples: dict[str, tuple[str, ...]]) -> list[str]:
    arguments: list[str] = []
    for argument in mark.args:
        if isinstance(argument, ast.Starred):
            arguments += tuples[ast.unparse(argument.value)]
        else:
            arguments.append(ast.literal_eval(argument))
    unknown = set(arguments[2:]) - set(STACKS)
    if unknown:
        raise ValueError(f"a way names stacks that no column has: {', '.join(sorted(unknown))}")
    return arguments


def page() -> str:
    """Return the text of docs/ways.md."""
    table = rows()
    named = {stack for cells in table.values() for stack in cells}
    columns = [stack for stack in STACKS if stack in named]
    lines = [
        "| | " + " | ".join(STACKS[stack] for stack in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for title, cells in table.items():
        outcomes = [cells.get(stack, "–") for stack in columns]
        lines.append(f"| {title} | " + " | ".join(outcomes) + " |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
