"""Tells the user something while a script trains: the one place of the recorder that does.

The command line has its own words, for what happens before and after the script.
"""

import contextlib
import sys


def tell(message: str) -> None:
    """Writes one line to stderr; stdout belongs to the script.

    Where there is no stderr, nobody reads it any more, or what a script has put in its place fails,
    nothing is said and nothing is raised: training goes on.
    """
    if sys.stderr is None:  # as in a process without a console; `print` would take stdout
        return
    with contextlib.suppress(Exception):  # a broken pipe, a closed file, an object of the script
        print(f"tracediff: {message}", file=sys.stderr)  # noqa: T201 - the one place that talks
