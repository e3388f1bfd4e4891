"""What the import contracts cannot prove: which modules really come in, and when."""

import subprocess
import sys

import pytest

PROGRAM = "import sys; __import__(sys.argv[1]); print(*{m.partition('.')[0] for m in sys.modules})"
FRAMEWORKS = {"tensorflow", "keras", "tf_keras", "jax", "torch"}


def packages_imported_with(module: str) -> set[str]:
    command = [sys.executable, "-c", PROGRAM, module]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["tracediff", "tracediff.model", "tracediff.cli"])
def test_starting_imports_nothing_dear(module):
    # Given a fresh interpreter, when a way into the core is imported
    imported = packages_imported_with(module)
    # Then what takes long to import has not come with it: `tracediff --help` answers at once
    assert not imported & {"zarr", "scipy", "textual", "tracediff_tui"}


def test_the_recorder_starts_without_a_framework():
    # Given an environment with no training framework, when the recorder is imported
    imported = packages_imported_with("tracediff_hooks")
    # Then it works, and brings nothing of the core
    assert not imported & (FRAMEWORKS | {"tracediff", "tracediff_tui", "scipy"})


def test_the_recorder_leaves_the_import_of_the_framework_to_the_script(stack):
    # Given a stack with a framework, when the recorder is imported there
    done = stack.run("-c", PROGRAM, "tracediff_hooks")
    # Then the framework has not come with it: a script may still set what is read at its import
    assert not set(done.stdout.split()) & FRAMEWORKS
