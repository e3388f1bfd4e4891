"""Prints, for each stack of the tests, what recording costs as a ratio to a plain fit.

Median and range of five; beside it raw bytes appended by a thread, TensorBoard and smdebug.
Names of models (mlp, cnn, large) and of stacks choose among them.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from stacks import build  # noqa: E402 - found through the line above
from support.stacks import Stack  # noqa: E402

if __name__ == "__main__":
    chosen = [name for name in build.names() if name in sys.argv[1:]] or build.names()
    models = [word for word in sys.argv[1:] if word in ("mlp", "cnn", "large")]
    for name in chosen:
        found = build.find(name)
        if found.python is None:
            print(f"{name}: {found.reason}")
            continue
        print(name)
        program = ROOT / "benchmarks/programs/recording.py"
        print(Stack(name, found.python).run(program, *models, timeout=3600).stdout)
