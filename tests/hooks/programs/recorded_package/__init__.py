"""A package with a training module, as `python -m` runs it."""
