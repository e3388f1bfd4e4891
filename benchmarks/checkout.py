"""Puts this checkout on the path of imports, so that a measurement runs as a script by itself."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The checkout."""

for folder in (ROOT / "tests", ROOT / "hooks", ROOT):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
