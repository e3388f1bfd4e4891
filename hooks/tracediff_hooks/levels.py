"""How much of each tensor is kept, and at which steps."""

import fnmatch
import numbers
import re
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Union

from tracediff_hooks.tensors import TensorSpec

LEVELS = ("auto", "full", "sketch", "digest")
ROLES = (
    "input",
    "label",
    "sample_weight",
    "weight",
    "activation",
    "loss",
    "gradient",
    "applied_gradient",
    "slot",
    "learning_rate",
    "metric",
)
AUTO_FULL_BYTES = 64 << 20
"""Level ``auto`` keeps every element while one step's values are at most this many bytes."""

Level = Union[str, Mapping[str, str]]
Steps = Union[None, int, str, slice, range, Callable[[int], Any], Iterable[Any]]

_PART = re.compile(r"(\d*):(\d*)(?::(\d*))?|(\d+)")


class Levels:
    """What a user asked for: a level for each role, a schedule, a choice of tensors.

    Args:
        level: one of `LEVELS`, or one for each role; roles that are left out are ``auto``.
        steps: the steps at which elements and sketches are kept, see `schedule`; at the others
            digests and statistics are.
        tensors: patterns of names, such as ``"hidden/*"``; where a level is ``full``, only those
            are kept in full, and the others as sketches.

    Raises:
        ValueError: an option that does not exist.
    """

    def __init__(
        self,
        level: Level = "auto",
        *,
        steps: Steps = None,
        tensors: Union[str, Sequence[str], None] = None,
    ) -> None:
        self._by_role = _by_role(level)
        self._scheduled = schedule(steps)
        self._answers: Dict[int, bool] = {}
        self._scheduled_at_all = steps is not None
        self._shown = None if steps is None else getattr(steps, "__name__", None) or str(steps)
        self._patterns = _patterns(tensors)
        self._large = False

    def settle(self, bytes_per_step: int) -> None:
        """Decides what ``auto`` means for a run, from the size of one step's values."""
        self._large = bytes_per_step > AUTO_FULL_BYTES

    @property
    def lowered(self) -> bool:
        """Whether ``auto`` was asked for and is not ``full``."""
        return self._large and "auto" in self._by_role.values()

    def of(self, spec: TensorSpec) -> str:
        """The level of a tensor, at steps in the schedule."""
        if spec.shape == () and not spec.ragged:
            return "full"  # scalars cost nothing and carry the run's story
        level = self._by_role[spec.role]
        if level == "auto":
            level = "sketch" if self._large else "full"
        if level == "full" and self._patterns is not None and not self._chosen(spec.name):
            return "sketch"
        return level

    def _chosen(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self._patterns or ())

    def unmatched(self, names: Iterable[str]) -> List[str]:
        """The patterns that choose none of these tensors."""
        known = list(names)
        return [
            pattern
            for pattern in self._patterns or ()
            if not any(fnmatch.fnmatchcase(name, pattern) for name in known)
        ]

    def at(self, step: int) -> bool:
        """Whether the schedule keeps more than digests and statistics of a step.

        Each step is asked for once: a function of the user's may answer at random, and the states
        around a step go by one answer.
        """
        if step not in self._answers:
            self._answers = {one: yes for one, yes in self._answers.items() if one == step - 1}
            self._answers[step] = self._scheduled(step)
        return self._answers[step]

    def described(self, ceiling: str) -> Dict[str, Any]:
        """What the trace says: the level of all, or ``mixed``, and the level of each role.

        Args:
            ceiling: the highest level that the budget allows by now.
        """
        found = {
            role: ("sketch" if self._large else "full") if level == "auto" else level
            for role, level in self._by_role.items()
        }
        whole = not self._scheduled_at_all and self._patterns is None and ceiling == "full"
        same = len(set(found.values())) == 1
        return {
            "level": found["weight"] if same and whole else "mixed",
            "levels": found,
            "steps": self._shown,
            "kept": list(self._patterns) if self._patterns is not None else None,
        }


def _patterns(tensors: Any) -> Optional[List[str]]:
    if tensors is None:
        return None
    patterns = [tensors] if isinstance(tensors, str) else tensors
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(p, str) for p in patterns):
        raise ValueError(
            f"tensors must be patterns of names, such as ['hidden/*'], not {tensors!r}"
        )
    return list(patterns)


def _by_role(level: Level) -> Dict[str, str]:
    given = dict(level) if isinstance(level, Mapping) else dict.fromkeys(ROLES, level)
    for role, name in given.items():
        if role not in ROLES:
            raise ValueError("level has the role {!r}; roles are {}".format(role, ", ".join(ROLES)))
        if name not in LEVELS:
            raise ValueError("level must be one of {}, not {!r}".format(", ".join(LEVELS), name))
    return {role: given.get(role, "auto") for role in ROLES}


def schedule(steps: Steps) -> Callable[[int], bool]:
    """A function that tells which steps are in a schedule.

    Args:
        steps: None for all; a number for the first so many; a slice or a range; a text of slices
            and single steps with commas between them, such as ``":20,100:120,::1000"``; a function
            of the step; or several of these.

    Raises:
        ValueError: something else.
    """
    if steps is None:
        return lambda step: True  # noqa: ARG005 - all of them
    if _counts(steps):
        first = _from_the_start(steps)
        return lambda step: step < first
    if isinstance(steps, str):
        return _any([_parsed(part, steps) for part in steps.split(",")])
    if isinstance(steps, slice):
        return _in_slice(steps)
    if isinstance(steps, range):
        return lambda step: step in steps
    if callable(steps):
        return lambda step: bool(steps(step))
    try:
        parts = list(steps)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(
            f"steps must be a number, a text such as ':20,::1000', slices, ranges or a function, "
            f"not {steps!r}"
        ) from None
    # In a list a number is a step, not a count.
    return _any(
        [_one(_from_the_start(part)) if _counts(part) else schedule(part) for part in parts]
    )


def _counts(steps: Any) -> bool:
    """Whether it is a whole number, of Python or of numpy."""
    return isinstance(steps, numbers.Integral) and not isinstance(steps, bool)


def _from_the_start(number: Any) -> int:
    if number < 0:
        raise ValueError(f"steps {number} counts from the end, which nobody knows beforehand")
    return int(number)


def _one(number: int) -> Callable[[int], bool]:
    return lambda step: step == number


def _any(parts: List[Callable[[int], bool]]) -> Callable[[int], bool]:
    return lambda step: any(part(step) for part in parts)


def _parsed(part: str, whole: str) -> Callable[[int], bool]:
    match = _PART.fullmatch(part.strip())
    if match is None or match.group(3) == "0":
        raise ValueError(
            f"steps {whole!r} is not understood at {part.strip()!r}: slices and single steps are, "
            "with commas between them, such as ':20,100:120,::1000'"
        )
    if match.group(4):
        return _one(int(match.group(4)))
    start, stop, stride = (int(text) if text else None for text in match.groups()[:3])
    return _in_slice(slice(start, stop, stride))


def _in_slice(steps: slice) -> Callable[[int], bool]:
    start, stop, stride = steps.start or 0, steps.stop, steps.step or 1
    if min(start, stride, stop or 0) < 0 or stride < 1:
        raise ValueError(f"steps {steps!r} counts from the end, which nobody knows beforehand")

    def inside(step: int) -> bool:
        return step >= start and (stop is None or step < stop) and (step - start) % stride == 0

    return inside
