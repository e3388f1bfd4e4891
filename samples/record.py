"""Records the sample traces anew, each on its stack: `make samples`, or `record.py STACK ...` for
some of them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "samples" / "digits"
SCRIPTS = {
    "keras2.3": "train_keras23.py",
    "tf2.3": "train_tf23.py",
    "keras3": "train_keras3.py",
}
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR")


def stack_python(stack: str) -> str:
    """Builds a stack's environment if need be.

    Returns:
        The path of its interpreter.

    Raises:
        SystemExit: the machine lacks the interpreter, or the environment cannot be built.
    """
    build = [sys.executable, str(ROOT / "tests/stacks/build.py"), "--require", stack]
    built = subprocess.run(build, stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode != 0:
        raise SystemExit(built.returncode)
    return built.stdout.split("\t")[1].strip()


def record(stack: str, trace: Path) -> str:
    """Runs a sample's training script on its stack and records it.

    Returns:
        What the script printed.

    Raises:
        SystemExit: the training failed; its output is on stderr.
    """
    # A shell's own variables are of no interest in a trace that is shipped.
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environment.update(
        PYTHONPATH=str(ROOT / "hooks"), TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1"
    )
    script = DIGITS.relative_to(ROOT) / SCRIPTS[stack]
    run = subprocess.run(
        [stack_python(stack), "-W", "ignore", str(script), "--trace", str(trace)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        sys.stderr.write(run.stderr)
        raise SystemExit(f"error: {script} failed on {stack}")
    sys.stderr.writelines(
        line + "\n" for line in run.stderr.splitlines() if line.startswith("tracediff:")
    )
    return run.stdout


if __name__ == "__main__":
    for name in sys.argv[1:] or SCRIPTS:
        print(record(name, DIGITS.relative_to(ROOT) / "traces" / f"{name}.zarr").strip())
