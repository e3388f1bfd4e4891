"""Prints what starting costs: milliseconds and modules, for each way into tracediff.

Informational: machines differ, so nothing fails on a number. What must not be imported at all is
asserted in tests/house.
"""

import subprocess
import sys

ENTRIES = ("numpy", "zarr", "textual.app", "tracediff", "tracediff.cli", "tracediff_hooks")
PROGRAM = """
import sys, time
before, started = len(sys.modules), time.perf_counter()
__import__(sys.argv[1])
print(f"{1000 * (time.perf_counter() - started):.0f} {len(sys.modules) - before}")
"""


def cold_start(module: str) -> tuple[int, int]:
    """The best of five: milliseconds, and the number of modules that came in."""
    runs = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, module], capture_output=True, text=True, check=True
        )
        milliseconds, modules = done.stdout.split()
        runs.append((int(milliseconds), int(modules)))
    return min(runs)


if __name__ == "__main__":
    print(f"{'import':<20} {'ms':>6} {'modules':>8}")
    for entry in ENTRIES:
        spent, count = cold_start(entry)
        print(f"{entry:<20} {spent:>6} {count:>8}")
