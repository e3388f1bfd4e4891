"""Where optimizers that keep slots in lists have each: parallel to the variables they train."""

from __future__ import annotations

LISTS = {
    "momentum": "momentums", "m": "_momentums", "v": "_velocities", "rms": "_velocities",
    "accumulator": "_accumulators",
}  # fmt: skip


def listed_slots(optimizer, trained, names):
    """The slots of the weights of these names, by role and name."""
    return {
        ("slot", weight + "/" + slot): getattr(optimizer, LISTS[slot])[position]
        for position, weight in enumerate(trained)
        for slot in names
    }
