"""The sentences about a run in lockstep that the text and the markdown report share."""

from __future__ import annotations

from tracediff.model import LocalError, Lockstep, StageErrors


def head(found: Lockstep) -> str:
    """Say what was controlled."""
    batch = " and batch" if found.batches else ""
    text = f"Every step of B began with A's state{batch}: each difference is that step's own."
    if found.uncontrolled:
        text += f" Not controlled: the random numbers of {', '.join(found.uncontrolled)}."
    return text


def stages(found: Lockstep) -> list[str]:
    """Say of each stage at how many steps it differs beyond one step's rounding."""
    compared = [one for one in found.stages if one.tensors]
    quiet = [one.stage for one in compared if not one.steps]
    lines = [_stage(one, found.steps) for one in compared if one.steps]
    if quiet:
        lines.append(f"within one step's rounding at every step: {', '.join(quiet)}")
    return lines


def tensors(found: Lockstep, limit: int) -> list[str]:
    """Say which tensors differ, and by how much at worst."""
    lines = [_tensor(one) for one in found.errors[:limit]]
    if len(found.errors) > limit:
        lines.append(f"{len(found.errors) - limit} more tensors, --format json has all")
    return lines


def _stage(one: StageErrors, steps: int) -> str:
    begins = (
        f"; differences begin here at {one.origin_steps}" if one.origin_steps else "; inherited"
    )
    return f"{one.stage}: differs at {one.steps} of {steps} steps{begins}"


def _tensor(one: LocalError) -> str:
    what = f"{one.role.replace('_', ' ')} {one.tensor}"
    if one.role == "weight":
        size = f"{one.relative:.2g} of its update"
    else:
        size = f"relative L2 {one.relative:.2g}"
    inherited = "" if one.origin_steps else ", inherited"
    return (
        f"{what}: {_count(one.steps)} from step {one.first_step} on, at worst {size} at step "
        f"{one.worst_step} (rounding explains {one.tolerance:.1g}){inherited}"
    )


def _count(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"
