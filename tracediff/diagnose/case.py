"""What a diagnosis rule is given: both runs, what was paired, and where they part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracediff.align import Pairing, recorded, recorded_step
from tracediff.drift import Track
from tracediff.model import Moment, Verdict
from tracediff.names import optimizer_class, optimizer_settings
from tracediff.onset import Judged, Onset, Place
from tracediff.tolerance import EPS32, UPDATE_ROUNDING, UPDATE_TOLERANCE
from tracediff.trace import Run, Tensor

Key = tuple[str, str]
Values = NDArray[np.generic]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Two runs and how they differ.

    Attributes:
        a: The first run.
        b: The second run, as seen from A: its steps in A's numbers, its values in A's layouts.
        pairing: Which tensors belong together.
        onset: Where they part.
        steps: How many steps of A there are to look at: up to the last with a partner.
        verdict: Whether they diverge at all.
        start: The first step of A with a partner.
        departs: Of steps told by their batches, the first whose batch B takes elsewhere.
    """

    a: Run
    b: Run
    pairing: Pairing
    onset: Onset
    steps: int
    verdict: Verdict
    start: int = 0
    departs: int | None = None

    @property
    def recorded(self) -> tuple[Run, Run]:
        """Both runs as they were recorded, each in its own numbers and layouts."""
        return recorded(self.a), recorded(self.b)

    @property
    def first(self) -> Place | None:
        """The first divergence, or None."""
        return self.onset.first

    def judged(self, *roles: str) -> list[Judged]:
        """Return the judged tracks of these roles, in execution order."""
        found = [one for key, one in self.onset.judged.items() if key[0] in roles]
        return sorted(found, key=lambda one: (one.track.pair.order, one.track.pair.name))

    def firsts(self, *roles: str) -> list[Place]:
        """Return where the tensors of these roles first diverge, the earliest first."""
        found = [place for key, place in self.onset.firsts.items() if key[0] in roles]
        return sorted(found, key=lambda place: place.key)

    def is_origin(self, place: Place) -> bool:
        """Say whether a divergence begins in the tensor of ``place``."""
        return place.track.pair.key in self.onset.origins

    def read(self, key: Key, step: int, moment: Moment = "before") -> tuple[Values, Values] | None:
        """Return both runs' values of a pair, or None where one was not kept."""
        track = self.onset.judged[key].track
        a = self._one(self.a, key[0], track.pair.a, step, moment)
        b = self._one(self.b, key[0], track.pair.b, step, moment)
        if track.pair.a is None and b is not None:
            return np.ones_like(b), b
        if track.pair.b is None and a is not None:
            return a, np.ones_like(a)
        return None if a is None or b is None else (a, b)

    def _one(
        self, run: Run, role: str, name: str | None, step: int, moment: Moment
    ) -> Values | None:
        tensor: Tensor | None = None if name is None else run.find(role, name)
        if tensor is None or step >= run.steps or not run.kept(tensor, moment)[step]:
            return None
        return run.read(tensor, step, moment)

    def update_tolerance(self, track: Track, step: int) -> float:
        """Return the relative difference of two updates that rounding explains."""
        if track.update is None:
            return UPDATE_TOLERANCE
        update = track.update[step]
        norm = float(update["norm"])
        rounding = UPDATE_ROUNDING * track.eps * float(update["weight_norm"])
        share = UPDATE_TOLERANCE * max(1.0, track.eps / EPS32)
        return share + (rounding / norm if norm > 0.0 else 0.0)

    def optimizers(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return what each trace says about its optimizer: class and config."""
        return self.a.about.get("optimizer") or {}, self.b.about.get("optimizer") or {}

    def optimizer_classes(self) -> tuple[str, str]:
        """Return both optimizers' classes in one spelling, empty where unknown."""
        a, b = self.optimizers()
        return optimizer_class(a.get("class")), optimizer_class(b.get("class"))

    def optimizer_settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return both optimizers' settings in one spelling."""
        a, b = self.optimizers()
        return optimizer_settings(a.get("config")), optimizer_settings(b.get("config"))

    def own(self, step: int) -> int | None:
        """Return the number that B has for its partner of a step of A, or None."""
        return recorded_step(self.b, step)

    def in_a(self, step: int) -> int | None:
        """Return the step of A whose partner is the step that B numbers so, or None."""
        found = (one for one in range(self.b.steps) if recorded_step(self.b, one) == step)
        return next(found, None)

    def where(self, step: int) -> str:
        """Return a step as a reader knows it: by A's number, and by B's where that is another."""
        own = self.own(step)
        other = "" if own is None or own == step else f"; B's step {own}"
        epoch, batch = int(self.a.epoch[step]), int(self.a.batch[step])
        return f"step {step} (epoch {epoch}, batch {batch}{other})"
