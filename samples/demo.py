"""The demonstration of `make demo`: records a training live with the newest stack, compares it with
a run of 2019.

The old run, Keras 2.3 on TensorFlow 1.15, is shipped as a trace; the new one is recorded now,
through the hook, by the script beside it. On paper both do the same thing.
"""

import subprocess
import sys
from pathlib import Path

from record import ROOT, record

OLD = Path("samples/digits/traces/keras2.3.zarr")
NEW = Path("build/demo/keras3.zarr")


def say(line: str) -> None:
    print(f"\n\033[1m{line}\033[0m" if sys.stdout.isatty() else f"\n{line}", flush=True)


def tracediff(*arguments: str) -> int:
    command = [sys.executable, "-m", "tracediff", *arguments]
    say("$ tracediff " + " ".join(arguments))
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main() -> int:
    (ROOT / NEW).parent.mkdir(parents=True, exist_ok=True)
    say("Recording samples/digits/train_keras3.py on Keras 3 ...")
    print(record("keras3", NEW).strip())
    status = tracediff("compare", str(OLD), str(NEW))
    if status not in (0, 1):
        return status
    say("Look for yourself:")
    print(f"""  . .venv/bin/activate
  tracediff info {OLD}
  tracediff info {NEW}
  tracediff tui {OLD} {NEW}
  tracediff compare {OLD} {NEW} --format json
  tracediff compare samples/digits/traces/tf2.3.zarr {NEW}     two stacks that agree
  tracediff compare --help""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
