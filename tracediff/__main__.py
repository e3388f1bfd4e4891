"""``python -m tracediff``: the command line."""

import sys

from tracediff.cli import main

if __name__ == "__main__":
    sys.exit(main())
