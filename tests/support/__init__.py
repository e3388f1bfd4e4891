"""Helpers that tests import by name: `from support.stacks import ...`."""
