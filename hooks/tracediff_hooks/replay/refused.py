"""The one error of a replay: what was asked for cannot be controlled."""

from typing import Optional


class ReplayRefused(RuntimeError):
    """A replay cannot go on as it was asked for.

    It ends the training: a run that is controlled only in name would be worse than none.

    Args:
        message: what happened and what was expected, one line.
        hint: what to do, one line.
    """

    def __init__(self, message: str, *, hint: Optional[str] = None) -> None:
        super().__init__(message if hint is None else f"{message}; {hint}")
        self.message = message
        self.hint = hint
