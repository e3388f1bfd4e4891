"""Prints, for each stack of the tests, what recording costs as a ratio to a plain fit.

Median and range of five.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from stacks import build  # noqa: E402 - found through the line above
from support.stacks import Stack  # noqa: E402

if __name__ == "__main__":
    for name in build.names():
        found = build.find(name)
        if found.python is None:
            print(f"{name}: {found.reason}")
            continue
        print(name)
        print(Stack(name, found.python).run(ROOT / "benchmarks/programs/recording.py").stdout)
