"""`python -m tracediff_hooks record ...` is `tracediff-record ...`."""

import sys

from tracediff_hooks.cli import main

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] != "record":
        asked = bool({"-h", "--help"} & set(sys.argv[1:]))
        print(
            "usage: python -m tracediff_hooks record -o TRACE [options] SCRIPT [ARGS ...]",
            file=sys.stdout if asked else sys.stderr,
        )
        sys.exit(0 if asked else 2)
    sys.exit(main(sys.argv[2:]))
