"""Reads the file that `tracediff map A B -o map.json` writes, as far as a replay needs it.

docs/mapping.md describes the file. Its lines about tensors say which of A is which of B, and under
``back`` what brings A's values into B's layout.
"""

import json
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from tracediff_hooks.replay.layouts import Layout, parse
from tracediff_hooks.replay.refused import ReplayRefused
from tracediff_hooks.tensors import Key

VERSION = 1


class Source(NamedTuple):
    """What of A goes into one tensor of B.

    ``layout`` is None where the shapes are to say it; ``place`` is the axis, start and stop of the
    part of B's tensor that it fills, None for all of it.
    """

    name: str
    layout: Optional[Layout]
    place: Optional[Tuple[int, int, int]] = None


class NameMapping(NamedTuple):
    """What a file says: sources by tensor of B, and the tensors of either that have no partner."""

    sources: Dict[Key, List[Source]]
    without: Dict[str, List[Key]]

    def sources_of(self, key: Key) -> Optional[List[Source]]:
        """The sources of a tensor of B; empty where it has no partner; None: by name."""
        if key in self.without["b"]:
            return []
        return self.sources.get(key)


def read_mapping(path: str) -> NameMapping:
    """Reads a mapping file.

    Raises:
        ReplayRefused: it cannot be read, or is no mapping.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError) as error:
        raise ReplayRefused(
            f"the mapping {path} cannot be read ({type(error).__name__})",
            hint="tracediff map A B -o FILE writes one",
        ) from None
    if not isinstance(found, Mapping) or found.get("tracediff_map") != VERSION:
        raise ReplayRefused(
            f"{path} is no mapping of version {VERSION}",
            hint="tracediff map A B -o FILE writes one",
        )
    sources: Dict[Key, List[Source]] = {}
    without: Dict[str, List[Key]] = {"a": [], "b": []}
    for line in found.get("tensors") or ():
        role, a, b = str(line.get("role", "weight")), line.get("a"), line.get("b")
        if a is None or b is None:
            without["b" if a is None else "a"].append((role, str(b if a is None else a)))
            continue
        try:
            source = _source(str(a), line)
        except ValueError as error:
            raise ReplayRefused(f"{path}: {role} {a}: {error}") from None
        sources.setdefault((role, str(b)), []).append(source)
    return NameMapping(sources, without)


def _source(name: str, line: Mapping[str, Any]) -> Source:
    layout: Sequence[Mapping[str, Any]] = line.get("layout") or ()
    part: List[Mapping[str, Any]] = list(line.get("layout_a") or ())
    if len(layout) == 1 and layout[0].get("op") == "take":
        take = layout[0]
        place = (int(take["axis"]), int(take["start"]), int(take["stop"]))
        return Source(name, parse(part) if part else None, place)
    back = line.get("back")
    if layout and back is None:
        raise ValueError(
            "its layout has no way back from A to B; tracediff map A B --map FILE -o NEW fills in "
            "what there is"
        )
    if not layout and not part and not back:
        return Source(name, None)
    return Source(name, parse([*part, *(back or ())]))
