"""Drift by layer, on real recorded runs and on small made ones, beside numpy's own sums."""

from pathlib import Path

import numpy as np
import pytest
from support.build import RunPlan, Step, make_trace

from tracediff.compare import compare
from tracediff.report.comparison import to_markdown, to_text
from tracediff.trace import open_trace

TRACES = Path(__file__).parents[2] / "samples" / "digits" / "traces"


@pytest.fixture(scope="module")
def digits():
    """Real runs on two stacks, how they compare, and both runs."""
    places = TRACES / "keras2.3.zarr", TRACES / "keras3.zarr"
    return compare(*places), [open_trace(place).runs[0] for place in places]


def oracle(runs, tensors, step, moment):
    """Return relative L2 of all tensors together, of their values or of what the step changed."""
    above = below = 0.0
    for role, name in tensors:
        values = []
        for run in runs:
            tensor = run.tensor(role, name)
            if moment == "update":
                one = run.read(tensor, step, "after").astype(np.float64)
                one = one - run.read(tensor, step, "before")
            else:
                one = run.read(tensor, step, moment).astype(np.float64)
            values.append(one)
        above += np.sum((values[0] - values[1]) ** 2)
        below += max(np.sum(values[0] ** 2), np.sum(values[1] ** 2))
    return np.sqrt(above / below)


@pytest.mark.parametrize("layer", ["hidden", "digit"])
@pytest.mark.parametrize(
    ("role", "slot", "moment"),
    [
        ("weight", None, "after"),
        ("update", None, "update"),
        ("gradient", None, "before"),
        ("slot", "m", "after"),
        ("slot", "v", "after"),
    ],
)
def test_a_layer_of_two_stacks_drifts_as_numpy_says(digits, layer, role, slot, moment):
    comparison, runs = digits
    row = next(one for one in comparison.layers if one.layer == layer)
    part = row.part(role, slot)
    names = [f"{layer}/{name}" for name in ("kernel", "bias")]
    kept = "weight" if role == "update" else role
    tensors = [(kept, f"{name}/{slot}" if slot else name) for name in names]
    expected = [oracle(runs, tensors, step, moment) for step in part.steps.tolist()]
    assert part.tensors == 2
    assert part.steps.tolist() == list(range(46))
    np.testing.assert_allclose(part.series, expected, rtol=1e-6)
    assert part.relative_l2.max == pytest.approx(max(expected), rel=1e-6)


def test_updates_have_the_quantiles_of_their_elements(digits):
    comparison, runs = digits
    kernel = next(
        one for one in comparison.drift if (one.role, one.tensor) == ("weight", "digit/kernel")
    )
    last = kernel.steps[-1]
    tensors = [run.tensor("weight", "digit/kernel") for run in runs]
    one, other = (
        run.read(tensor, last, "after").astype(np.float64) - run.read(tensor, last)
        for run, tensor in zip(runs, tensors, strict=True)
    )
    apart = np.abs(one - other).reshape(-1)
    expected = np.quantile(apart, [0.5, 0.9, 0.99], method="inverted_cdf")
    np.testing.assert_allclose(kernel.update.abs_quantiles, expected, rtol=1e-4)
    median, ninth, most = kernel.update.ulp_quantiles
    assert 0 < median <= ninth <= most <= kernel.update.max_ulp


def test_layers_come_in_the_order_of_execution_and_say_where_it_begins(digits):
    comparison, _ = digits
    assert [row.layer for row in comparison.layers] == ["hidden", "digit"]
    first = comparison.first_divergence
    row = next(one for one in comparison.layers if one.layer == first.layer)
    assert row.origin
    assert (first.role, first.tensor) in row.origins
    assert row.first_significant_step == first.step


def test_the_reports_name_the_drift_per_layer(digits):
    comparison, _ = digits
    assert "Drift by layer" in to_text(comparison)
    assert "| `hidden` | 0 | 0 |" in to_markdown(comparison)


STEPS = 40


def two_layers(course, *, where="second", initial=0.0):
    """A run of two layers, the kernel of one of which is off by ``course`` after each step."""
    random = np.random.default_rng(0)
    keys = {name: ("weight", f"{name}/kernel") for name in ("first", "second")}
    biases = {name: ("weight", f"{name}/bias") for name in keys}
    state = {key: random.normal(size=(6, 5)).astype(np.float64) for key in keys.values()}
    state |= {key: random.normal(size=5) for key in biases.values()}
    direction = random.normal(size=(6, 5))
    direction /= np.linalg.norm(direction)
    start = {**state, keys[where]: state[keys[where]] + initial * direction}
    steps = []
    for step in range(STEPS):
        state = {key: value + 1e-3 for key, value in state.items()}
        off = {keys[where]: state[keys[where]] + course[step] * direction}
        steps.append(Step(after={**state, **off}))
    layers = [
        {"name": name, "class": "Dense", "config": {}, "inputs": [], "weights": []} for name in keys
    ]
    return RunPlan(steps, start, about={"model": {"name": "two", "layers": layers}})


def compared(tmp_path, course, **options):
    a = make_trace(tmp_path / "a.zarr", two_layers(np.zeros(STEPS)))
    b = make_trace(tmp_path / "b.zarr", two_layers(course, **options))
    found = compare(a, b)
    return {row.layer: row for row in found.layers}, found


def test_growth_of_a_layer_has_the_rate_it_was_made_with(tmp_path):
    layers, found = compared(tmp_path, 1e-9 * np.exp(0.1 * np.arange(STEPS)))
    part = layers["second"].part("weight")
    assert part.growth == "exponential"
    # The norm that it is relative to grows a little, too.
    assert part.growth_fit.rate == pytest.approx(0.1, abs=1e-3)
    assert part.growth_fit.doubling_steps == pytest.approx(np.log(2) / 0.1, rel=1e-2)
    kernel = next(row for row in found.drift if row.tensor == "second/kernel")
    assert kernel.growth_fit.rate == pytest.approx(part.growth_fit.rate, abs=1e-3)
    assert "exponential x2/6.9" in to_text(found)


def test_the_bias_that_agrees_counts_by_its_norm(tmp_path):
    course = np.full(STEPS, 1e-3)
    layers, found = compared(tmp_path, course, initial=1e-3)
    part = layers["second"].part("weight")
    runs = [open_trace(tmp_path / f"{side}.zarr").runs[0] for side in "ab"]
    tensors = [("weight", "second/kernel"), ("weight", "second/bias")]
    expected = [oracle(runs, tensors, step, "after") for step in range(STEPS)]
    np.testing.assert_allclose(part.series, expected, rtol=1e-9)
    kernel = next(row for row in found.drift if row.tensor == "second/kernel")
    assert (part.series < kernel.series).all()


def test_a_layer_that_agrees_has_no_drift_and_is_not_shown(tmp_path):
    layers, found = compared(tmp_path, np.where(np.arange(STEPS) < 17, 0.0, 1e-2))
    assert layers["first"].first_step is None
    assert layers["first"].origin is None
    assert layers["first"].part("weight").relative_l2.max == 0.0
    assert layers["second"].first_step == 17
    assert layers["second"].part("weight").growth == "jump"
    assert layers["second"].part("weight").jump_step == 17
    assert layers["second"].part("update").first_step == 17
    section = to_text(found).partition("Drift by layer")[2].partition("\n\n")[0]
    assert "second" in section
    assert "first " not in section


def test_what_was_not_kept_is_not_known_of_the_layer(tmp_path):
    a = make_trace(tmp_path / "c.zarr", two_layers(np.zeros(STEPS)), level="digest")
    b = make_trace(tmp_path / "d.zarr", two_layers(np.full(STEPS, 1e-3)), level="digest")
    rows = {row.layer: row for row in compare(a, b).layers}
    update, weight = (rows["second"].part(role) for role in ("update", "weight"))
    assert update.unknown_steps
    assert np.isnan(update.relative_l2.max)
    assert not update.at_least
    # What is known of the whole is a lower bound where it is one of a part.
    assert weight.at_least
    true = compared(tmp_path, np.full(STEPS, 1e-3))[0]["second"].part("weight")
    assert 0.0 < weight.relative_l2.max <= true.relative_l2.max
    assert not true.at_least
