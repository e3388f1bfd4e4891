"""What sketches and digests tell of two runs, beside what all elements of the same runs tell."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from support.build import RunPlan, Step, make_trace
from support.runs import ADAM, SGD, changed
from support.sketches import by_the_page
from support.train import train

from tracediff.compare import compare
from tracediff.trace import SKETCH_ERROR, open_trace

WIDTH = 509
MARGIN = 5 * SKETCH_ERROR
SMALL, LARGE = (6, 12, 3), (40, 30, 3)


def spoilt(step, element, by):
    """A feed in which one number of one batch is another."""

    def feed(now, x, y):
        if now == step:
            x = x.copy()
            x.flat[element] += np.float32(by)
        return x, y

    return feed


@st.composite
def faults(draw):
    """A training, and the same with one thing changed by a little or by much."""
    sizes = draw(st.sampled_from([SMALL, LARGE]))
    base = changed(draw(st.sampled_from([SGD, ADAM])), sizes=sizes, seed=draw(st.integers(0, 99)))
    if base.optimizer == "sgd":
        base = changed(base, momentum=draw(st.sampled_from([0.0, 0.9])))
    by = draw(st.sampled_from([1e-4, 1e-3, 1e-2, 0.3]))
    step = draw(st.integers(1, 6))
    kinds = {
        "rounding": {"reordered_sums": True},
        "rate": {"lr": base.lr * (1 + by)},
        "rate later": {"lr": lambda now: base.lr * (1 + by * (now >= step))},
        "gradient": {"gradient_factor": (step, 1 + by)},
        "clipping": {"clipnorm": 0.5},
        "outside": {"external": {step: 1 + by}},
        "pixel": {"feed": spoilt(step, 5, by)},
        "weights": {"init_scale": 1 + by},
        "penalty": {"regularizer": by * 1e-2},
    }
    if base.optimizer == "adam":
        kinds |= {"epsilon": {"epsilon": 1e-7 * (1 + 100 * by)}, "beta": {"beta_2": 0.999 - by}}
    elif base.momentum:
        kinds["momentum"] = {"momentum": 0.9 * (1 - by)}
    kind = draw(st.sampled_from(sorted(kinds)))
    return base, changed(base, **kinds[kind])


def at_every_level(plans):
    """The comparisons of two trainings, each recorded at every level from one and the same run.

    And what the sketches of a tensor come to at each step, by the page that defines them.
    """
    runs = [train(plan) for plan in plans]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for level in ("full", "sketch", "digest"):
            paths = [
                make_trace(Path(folder, f"{side}-{level}.zarr"), run, level=level)
                for side, run in zip("ab", runs, strict=True)
            ]
            found[level] = compare(*paths)
        whole = [open_trace(Path(folder, f"{side}-full.zarr")).runs[0] for side in "ab"]
        return found, [
            [relative_by_the_page(whole, row, step) for step in row.steps]
            for row in found["sketch"].drift
        ]


def relative_by_the_page(runs, row, step):
    """Relative L2 of two values at a step, by their sketches."""
    end = "after" if row.role in {"weight", "slot", "model_state", "optimizer"} else "before"
    values = [run.read(run.find(row.role, row.tensor), int(step), end) for run in runs]
    a, b = (np.asarray(value, np.float64) for value in values)
    norms = [float(np.linalg.norm(by_the_page(value))) for value in (a - b, a, b)]
    return norms[0] and norms[0] / max(norms[1:])


def where(comparison):
    first = comparison.first_divergence
    return None if first is None else (first.step, first.stage, first.role, first.tensor)


def plain_of(comparison):
    """Whether nothing stands so near the floor that an error of some per cent decides."""
    first = comparison.first_divergence
    if first is None:
        return not comparison.floor.times > 1 - MARGIN
    return not first.times_tolerance < 1 + 2 * MARGIN


@settings(max_examples=8)
@given(faults())
@example((changed(SGD, sizes=LARGE), changed(SGD, sizes=LARGE, reordered_sums=True)))
def test_lower_levels_tell_what_all_elements_tell(plans):
    # given
    found, by_page = at_every_level(plans)
    full, sketch, digest = (found[level] for level in ("full", "sketch", "digest"))
    rows = {(row.role, row.tensor): row for row in full.drift}
    # then: sketches estimate drift as their definition has it
    for row, estimates in zip(sketch.drift, by_page, strict=True):
        np.testing.assert_allclose(row.series, estimates, rtol=1e-6, atol=1e-12)
    # and: to the error stated, over the steps: at one, the few elements that differ may meet
    for row in sketch.drift:
        true = rows[row.role, row.tensor]
        there = true.series > 0.0
        errors = row.series[there] / true.series[there] - 1.0
        assert not errors.size or np.sqrt(np.mean(np.square(errors))) <= MARGIN
        if row.update is not None:
            sizes = true.update.relative_l2, row.update.relative_l2
            assert sizes[1].max == pytest.approx(sizes[0].max, rel=MARGIN, abs=1e-9)
    # and: bounds are bounds
    for row in digest.drift:
        true = rows[row.role, row.tensor]
        assert row.first_step == true.first_step
        known = ~np.isnan(row.series)
        assert (row.series[known] <= true.series[known] * (1 + 1e-9)).all()
    # and: the first divergence is the same
    assume(plain_of(full))
    assert where(sketch) == where(full)
    assert sketch.verdict == full.verdict
    # and: digests take nothing for a divergence that is none
    if full.verdict != "diverged":
        assert digest.verdict == full.verdict


KERNEL, GRADIENT = ("weight", "hidden/kernel"), ("gradient", "hidden/kernel")


def moved(shape, *, by=0.0, noise=0.0, about=None, slot=0.0):
    """A run in which steps move a kernel by a thousandth, and from step 2 on by ``by`` more."""
    random = np.random.default_rng(3)
    kernel = random.normal(size=shape).astype(np.float32)
    state = {KERNEL: kernel, ("slot", "hidden/kernel/momentum"): np.zeros_like(kernel)}
    initial, steps = state, []
    for step in range(4):
        gradient = random.normal(size=shape) * (1 + noise * random.normal(size=shape))
        rate = 1e-3 * (1 + by * (step >= 2))
        after = (state[KERNEL] - rate * gradient).astype(np.float32)
        state = {
            KERNEL: after,
            ("slot", "hidden/kernel/momentum"): np.full_like(kernel, step + slot),
        }
        steps.append(Step(observed={GRADIENT: gradient.astype(np.float32)}, after=state))
    return RunPlan(steps, initial, about=about or {})


def levels_of(folder, plans):
    """The comparisons of two runs at both levels."""
    return [
        compare(
            *(
                make_trace(folder / f"{side}-{level}.zarr", plan, level=level)
                for side, plan in zip("ab", plans, strict=True)
            )
        )
        for level in ("full", "sketch")
    ]


@pytest.mark.parametrize("shape", [(40, 30), (8, 5)])
@pytest.mark.parametrize("noise", [0.0, 3e-8])
def test_an_update_is_judged_by_its_sketch(tmp_path, shape, noise):
    # given: updates off by so little that the weight does not show it; gradients agree, or almost
    found = levels_of(tmp_path, (moved(shape), moved(shape, by=8e-4, noise=noise)))
    # then
    for one in found:
        first = one.first_divergence
        assert (first.step, first.stage, first.tensor) == (2, "update", "hidden/kernel")
        assert first.quantity == "update"
        assert first.relative_l2 == pytest.approx(8e-4, rel=0.1 + MARGIN)


@pytest.mark.parametrize("shape", [(40, 30), (8, 5)])
def test_an_update_within_what_its_inputs_explain_is_none(tmp_path, shape):
    # given: gradients that differ by more than updates may, as sums that cancel do
    found = levels_of(tmp_path, (moved(shape), moved(shape, noise=2e-6)))
    # then
    assert [one.verdict for one in found] == ["rounding", "rounding"]


def test_what_an_adaptive_rule_makes_of_other_gradients_is_not_told_from_sketches(tmp_path):
    # given: Adam may turn the smallest of gradients into an update of full size
    adam = {"optimizer": {"class": "Adam", "config": {}}}
    plans = [moved((40, 30), about=adam), moved((40, 30), by=8e-4, noise=3e-8, about=adam)]
    full, sketch = levels_of(tmp_path, plans)
    # then
    assert full.first_divergence.quantity == "update"
    # and so it is found a step later, when the weight shows it
    assert (full.first_divergence.step, sketch.first_divergence.step) == (2, 3)
    assert sketch.first_divergence.quantity == "value"
    # and: where gradients agree to the bit, it is
    plans = [moved((40, 30), about=adam), moved((40, 30), by=8e-4, about=adam)]
    for one in levels_of(tmp_path / "equal", plans):
        assert (one.first_divergence.step, one.first_divergence.quantity) == (2, "update")
