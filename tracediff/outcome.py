"""What a training came to: one number of a run, such as its final loss."""

from __future__ import annotations

import numpy as np

from tracediff.errors import UnknownName, did_you_mean
from tracediff.trace import Run


def final_value(run: Run, name: str = "loss") -> float:
    """Return the loss, or a metric, of the last epoch of a run.

    Args:
        run: The run.
        name: ``loss``: the mean of the batches' losses over the last epoch; else a metric such as
            ``accuracy``, whose last value is taken: frameworks report its mean over the epoch.

    Raises:
        UnknownName: The run has no such metric, or no complete step.
    """
    if not run.steps:
        raise UnknownName(f"{run.path} holds no complete step, so it has no final {name}")
    if name == "loss":
        tensor = run.find("loss", "loss")
    else:
        tensor = run.find("metric", name) or run.find("metric", f"metric/{name}")
    if tensor is None:
        known = [one.name.removeprefix("metric/") for one in run.tensors if one.role == "metric"]
        raise UnknownName(
            f"{run.path} has no metric {name}",
            hint=did_you_mean(name, known) or f"it has {', '.join(['loss', *known])}",
        )
    last = run.steps - 1
    if name != "loss":
        return float(np.mean(run.read(tensor, last)))
    same = (run.epoch[: run.steps] == run.epoch[last]) & (run.fit[: run.steps] == run.fit[last])
    seen = np.flatnonzero(same & run.observed(tensor)[: run.steps])
    if not len(seen):
        raise UnknownName(f"{run.path} recorded no loss in its last epoch")
    return float(np.mean([float(np.mean(run.read(tensor, int(step)))) for step in seen]))
