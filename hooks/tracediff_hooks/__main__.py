"""`python -m tracediff_hooks record ...` is `tracediff-record ...`."""

import sys

from tracediff_hooks.cli import main

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] != "record":
        print("usage: python -m tracediff_hooks record -o TRACE [options] SCRIPT [ARGS ...]", file=sys.stderr)
        sys.exit(0 if {"-h", "--help"} & set(sys.argv[1:]) else 2)
    sys.exit(main(sys.argv[2:]))
