"""Prints a table, in Markdown, of what recording costs as a ratio to a plain fit.

`python benchmarks/bench_recording.py [STACK ...] [MODEL ...]`: by default the stacks that `make
test` uses, and the models mlp, cnn and large. Median and range of some rounds; beside each level
raw bytes appended by a thread, TensorBoard and smdebug.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from stacks import build  # noqa: E402 - found through the line above
from support.stacks import Stack  # noqa: E402

MODELS = ("mlp", "cnn", "large")
COLUMNS = (
    "stack",
    "model",
    "",
    "time / plain",
    "range",
    "processor time / plain",
    "MB a step",
    "MB more memory",
    "s to the end",
)


def main(words):
    """Measures the stacks and models that are named, or all that are meant by default."""
    stacks = [word for word in words if word in build.names()]
    stacks = stacks or [name for name in build.names() if not build.is_exhaustive(name)]
    models = [word for word in words if word in MODELS] or MODELS
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|", flush=True)
    for name in stacks:
        found = build.find(name)
        if found.python is None:
            print(f"| {name} | | not measured: {found.reason} |")
            continue
        program = ROOT / "benchmarks/programs/recording.py"
        for model in models:
            done = Stack(name, found.python).run(program, model, "--name", name, timeout=3600)
            rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
            print("\n".join(rows), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
