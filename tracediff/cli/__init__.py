"""The command line: parses, calls, prints, and turns errors into an exit status."""

from tracediff.cli._main import main as main

__all__ = ["main"]
