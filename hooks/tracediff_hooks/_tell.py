"""Tells the user something while a script trains: the one place of the recorder that does.

The command line has its own words, for what happens before and after the script.
"""

import sys


def tell(message: str) -> None:
    """Writes one line to stderr; stdout belongs to the script."""
    print(f"tracediff: {message}", file=sys.stderr)  # noqa: T201 - the one place that talks
