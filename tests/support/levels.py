"""The same run at another level: what a trace holds in full is recorded again through the recorder.

So a comparison of sketches or of digests can be held against one of all elements of the very same
runs, to the bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracediff_hooks.recorder import Recorder, SparseRows, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tracediff.trace import Run, Tensor

_STATE = ("weight", "slot")


def at_level(run: Run, path: Path | str, level: str | Mapping[str, str]) -> Path:
    """Record a run that was kept in full again at a lower level, and return where.

    Args:
        run: The run.
        path: Where to.
        level: As for ``TraceCallback``: a level, or one for some roles.
    """
    recorder = Recorder(Path(path), level=level)
    about = {key: value for key, value in run.about.items() if key not in _OF_THE_RECORDER}
    recorder.begin_run(about=about, tensors=[_spec(one) for one in run.tensors])
    fit = -1
    for step in range(run.steps):
        if run.fit[step] > fit:
            fit = int(run.fit[step])
            recorder.begin_fit({"epochs": 1})
        before, after, observed = ({}, {}, {})
        for tensor in run.tensors:
            if tensor.role in _STATE:
                for moment, values in (("before", before), ("after", after)):
                    if run.kept(tensor, moment)[step]:
                        values[tensor.key] = _plain(run.read(tensor, step, moment))
            elif tensor.same_as is None and run.kept(tensor)[step]:
                observed[tensor.key] = _value(run, tensor, step)
        recorder.record_step(
            epoch=int(run.epoch[step]),
            batch=int(run.batch[step]),
            before=before,
            observed=observed,
            after=after,
        )
    recorder.end_run(run.status)
    assert not recorder.failed
    recorder.close()
    return Path(path)


_OF_THE_RECORDER = ("status", "level", "schedule", "budget", "fits", "events", "tensors")
"""What the recorder says of a run by itself."""


def _value(run: Run, tensor: Tensor, step: int) -> object:
    if tensor.layout != "sparse":
        return _plain(run.read(tensor, step))
    found = run.read_sparse(tensor, step)
    return SparseRows(_plain(found.values), found.rows)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return values in the dtype that a framework hands over: with no byte order of their own."""
    return values.astype(values.dtype.name)


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(
        name=tensor.name,
        role=tensor.role,
        dtype=tensor.dtype,
        shape=tensor.shape,
        layer=tensor.layer,
        order=tensor.order,
        trainable=tensor.trainable,
        same_as=tensor.same_as,
        framework_name=tensor.framework_name,
        ragged=tensor.layout == "ragged",
        sparse=tensor.layout == "sparse",
        scaled_by=tensor.scaled_by,
    )
