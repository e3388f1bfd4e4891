"""Counts what the sessions of TensorFlow 1 run: without a run no variable has another value.

Reading the variables of a graph copies them. Where no session has run anything since they were read
last, that need not be done again.
"""

import functools
import operator
import threading
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np


class SessionRuns:
    """Counts the runs of every session of this process, from `attach` to `detach`.

    Args:
        kind: the class `Session`. A run of whatever kind ends in one of three methods of its base
            `BaseSession` (tensorflow_core/python/client/session.py, 1.15).
    """

    def __init__(self, kind: type) -> None:
        session_class: Any = next(cls for cls in kind.__mro__ if "_call_tf_sessionrun" in vars(cls))
        self._places: List[Tuple[Any, str, Any]] = []
        for owner, name in (
            (session_class, "_call_tf_sessionrun"),
            (session_class, "_call_tf_sessionprun"),
            (session_class._Callable, "__call__"),
        ):
            self._places.append((owner, name, getattr(owner, name)))
        self._counting: Dict[str, Any] = {}
        self._lock = threading.Lock()
        self._begun = self._ended = 0
        self._quiet_at: Optional[int] = None

    def attach(self) -> None:
        """Begins to count."""
        for owner, name, original in self._places:
            self._counting[name] = counted = self._counted(original)
            setattr(owner, name, counted)

    def detach(self) -> None:
        """Ends the counting; a method that somebody else has wrapped since counts for nobody."""
        for owner, name, original in self._places:
            if getattr(owner, name) is self._counting.get(name):
                setattr(owner, name, original)

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self._begun += 1
            try:
                return original(*args, **kwargs)
            finally:
                with self._lock:
                    self._ended += 1

        return run

    def read(self, read: Callable[[], Any]) -> Any:
        """Reads the variables in a run of its own, and remembers whether that was the only one."""
        with self._lock:
            begun, ended = self._begun, self._ended
        values = read()
        with self._lock:
            alone = begun == ended and self._begun == self._ended == begun + 1
        self._quiet_at = begun + 1 if alone else None
        return values

    @property
    def none_since(self) -> bool:
        """Whether no session has run anything since the last `read`."""
        return self._quiet_at is not None and self._begun == self._quiet_at


class Reader:
    """Reads variables of a graph again and again, with what a session finds out about them once."""

    def __init__(self) -> None:
        self._asked: Tuple[Any, ...] = ()
        self._run: Any = None

    def __call__(self, session: Any, variables: Sequence[Any]) -> List[np.ndarray]:
        """The value of each."""
        asked = (session, *variables)
        if len(asked) != len(self._asked) or any(map(operator.is_not, asked, self._asked)):
            self._asked = asked
            self._run = session.make_callable(list(variables))
        return self._run()  # type: ignore[no-any-return]
