"""Runs programs in the training environments that `tests/stacks/build.py` makes.

Nothing here imports a framework: each lives in an interpreter of its own.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stacks import build

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).resolve().parents[2]

_QUIET_AND_ALONE = {
    "PYTHONPATH": str(REPOSITORY / "hooks"),
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # No test depends on an accelerator, and none may find one.
    "CUDA_VISIBLE_DEVICES": "-1",
    # A user's own Keras settings would otherwise choose.
    "KERAS_BACKEND": "tensorflow",
}
_FLAVOURS = {
    # TensorFlow 1.15 brings a tf.keras of its own.
    "tf1.15": "keras2.3",
}
_BACKENDS = {"keras3-jax": "jax", "keras3-torch": "torch"}
_OF_THE_CALLER = ("PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


@dataclass(frozen=True)
class Stack:
    """A training environment to run programs in."""

    name: str
    python: Path

    def _choice(self) -> dict[str, str]:
        """What tells a program which Keras to train with."""
        chosen = {"TRACEDIFF_STACK": self.name}
        if self.name in _BACKENDS:
            chosen["KERAS_BACKEND"] = _BACKENDS[self.name]
        return chosen

    def run(
        self,
        script: str | Path,
        *args: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 600,
        status: int = 0,
    ) -> subprocess.CompletedProcess[str]:
        """Runs `python SCRIPT ARGS...` here; `script` may as well be `-c` or `-m`.

        The test fails, and shows what the program printed, unless it ends with `status`.
        """
        variables = {k: v for k, v in os.environ.items() if k not in _OF_THE_CALLER}
        command = [str(self.python), str(script), *map(str, args)]
        try:
            done = subprocess.run(
                command,
                cwd=cwd,
                env={**variables, **_QUIET_AND_ALONE, **self._choice(), **(env or {})},
                timeout=timeout,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        except subprocess.TimeoutExpired as expired:
            pytest.fail(f"{self.name}: {command} ran longer than {timeout} s\n{expired.stderr}")
        if done.returncode != status:
            pytest.fail(
                f"{self.name}: {command} ended with status {done.returncode}, expected {status}\n"
                f"--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
            )
        return done


def stack_or_skip(name: str) -> Stack:
    """The stack or flavour of that name; skips, with the reason, where this machine lacks it."""
    found = build.find(_FLAVOURS.get(name, name))
    if found.python is None:
        pytest.skip(found.reason)
    return Stack(name, found.python)


ORDINARY = [name for name in build.names() if not build.is_exhaustive(name)]
"""The environments of every test run."""


def every_stack() -> list[Any]:
    """All environments, to parametrise with; those too heavy for every run are marked so."""
    return [_marked(name, name) for name in build.names()]


def every_flavour() -> list[Any]:
    """All environments, and what else can train in them."""
    return flavours(*sorted({*build.names(), *_FLAVOURS}))


def flavours(*names: str) -> list[Any]:
    """Some of `every_flavour`, to parametrise with."""
    return [_marked(name, _FLAVOURS.get(name, name)) for name in names]


def _marked(name: str, environment: str) -> Any:
    heavy = build.is_exhaustive(environment)
    return pytest.param(name, marks=[pytest.mark.exhaustive] if heavy else [])
