"""Compiles the passes over long rows into the package, where there is a C compiler.

Without one the wheel is the same for every platform, and numpy does the work.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "tracediff/drift/_passes.c"
LIBRARY = "tracediff/drift/_passes.so"
# No fused multiplications: the same sums on every processor. The rest lets loops be vectorised.
FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
SHARED = ("-fPIC", "-shared", "-fvisibility=hidden")


def compiled(source: Path, target: Path) -> str | None:
    """Compile the library; return why it could not be, or None.

    Args:
        source: The file in C.
        target: Where the library is to stand.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if os.name != "posix" or shutil.which(compiler[0]) is None:
        return "there is no C compiler"
    # Whoever has loaded the old one keeps it whole.
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    command = [*compiler, *FLAGS, *SHARED, "-o", str(fresh), str(source)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        return done.stderr.decode(errors="replace").strip().split("\n")[0]
    fresh.replace(target)
    return None


class CompiledPasses(BuildHookInterface):
    """Adds the library to a wheel, and to the checkout where that is installed editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say in the wheel's tag for which platform.

        Args:
            version: ``editable`` where the package is used where it lies: nothing is packed then.
            build_data: What hatchling packs, and the tag.
        """
        if self.target_name != "wheel":
            return
        target = Path(self.root) / LIBRARY
        reason = compiled(Path(self.root) / SOURCE, target)
        if reason is not None:
            self.app.display_warning(f"nothing is compiled, so comparing takes longer: {reason}")
            return
        if version == "editable":
            return
        build_data["force_include"][str(target)] = LIBRARY
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
