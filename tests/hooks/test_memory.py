"""Memory that a step frees is there for the next one."""

import platform
import subprocess
import sys

import pytest
from support.stacks import REPOSITORY

PROGRAM = """
import resource
import sys
import numpy as np
from tracediff_hooks.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for turn in range(30):
    if turn == 10:
        before = faults()
    blocks = [np.empty(1 << 20, np.uint8) for _ in range(15)]
    for block in blocks:
        block[:: 1 << 12] = 1
    del block, blocks
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_are_not_asked_for_again():
    # Given a process that fills and frees 15 MiB again and again
    found = {}
    for how in ("kept", "plain"):
        command = [sys.executable, "-c", PROGRAM, how]
        environment = {"PYTHONPATH": str(REPOSITORY / "hooks")}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        found[how] = int(done.stdout)
    # When it has begun to record, then the system hands out no page again, as it does otherwise
    assert found["kept"] < 500
    assert found["plain"] > 10_000
