"""Each rule against the framework itself: every optimizer, really trained and recorded.

One program trains a small model for eight steps with every optimizer and option that a stack has.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from stacks import build
from support.stacks import stack_or_skip

from tracediff.compare import compare
from tracediff.forensics import Reproduction, applicable, clipping, reproduce
from tracediff.names import optimizer_settings
from tracediff.trace import Run, open_trace

PROGRAM = Path(__file__).parent / "programs" / "every_optimizer.py"
STANDALONE, TF23, KERAS3 = "keras2.3", "tf2.3", "keras3"

# What each optimizer of the program is expected to compute.
EVERYWHERE = {
    "sgd": "sgd",
    "momentum": "sgd, momentum",
    "nesterov": "sgd, nesterov",
    "adadelta": "adadelta",
    "adam": "adam",
    "amsgrad": "adam, amsgrad",
    "adamax": "adamax",
}
OLD = {
    **EVERYWHERE,
    "rmsprop": "rmsprop, epsilon outside",
    "adagrad": "adagrad, epsilon outside",
    "nadam": "nadam, scheduled",
    "decay": "sgd, momentum",
    "adam-decay": "adam",
}
WITH_OPTIONS = {
    "rmsprop-momentum": "rmsprop, momentum",
    "rmsprop-both": "rmsprop, centered, momentum",
    "ftrl": "ftrl",
}
EXPECTED = {
    STANDALONE: OLD,
    TF23: {
        **OLD,
        **WITH_OPTIONS,
        "rmsprop-centered": "rmsprop, centered, epsilon outside",
        "ftrl-regularised": "ftrl, linear times lr",
    },
    KERAS3: {
        **EVERYWHERE,
        **WITH_OPTIONS,
        "rmsprop": "rmsprop, epsilon inside",
        "rmsprop-centered": "rmsprop, centered, epsilon inside",
        "adagrad": "adagrad, epsilon inside",
        "nadam": "nadam",
        "ftrl-regularised": "ftrl",
        "ftrl-beta": "ftrl",
        "adamw": "adam",
        "lion": "lion",
        "sgd-weight-decay": "sgd, momentum",
        "ema": "adam",
        "schedule": "adam",
    },
}
# What the updates cannot tell apart: a slot that starts from 0.1 hides epsilon; Keras 2.3 keeps a
# slot at momentum 0, where all three rules are the same.
ALIKE = {
    ("keras2.3", "sgd"): {"sgd", "sgd, momentum", "sgd, nesterov"},
    ("tf2.3", "adagrad"): {
        "adagrad, epsilon outside",
        "adagrad, epsilon inside",
        "adagrad, no epsilon",
    },
}
ALIKE["keras3", "adagrad"] = ALIKE["tf2.3", "adagrad"]
CASES = [
    pytest.param(stack, name, key, id=f"{stack}-{name}")
    for stack, rules in EXPECTED.items()
    for name, key in rules.items()
]
CLIPPED = [
    (STANDALONE, "clipnorm", "global norm"),
    (TF23, "clipnorm", "norm"),
    (KERAS3, "clipnorm", "norm"),
    (KERAS3, "global-clipnorm", "global norm"),
    *((stack, "clipvalue", "value") for stack in EXPECTED),
]
FLOAT32_RESIDUAL = 3e-5
"""An update is a difference of weights: rounding of a weight is up to this share of a small one."""


class Recordings:
    """The traces of one stack in one flavour, all recorded when the first is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, stack: str, name: str, *flavour: str) -> Path:
        folder = self._folder / "-".join((stack, *flavour))
        if not folder.exists():
            folder.mkdir()
            stack_or_skip(stack).run(PROGRAM, folder, ",".join(("keras", *flavour)))
        elif build.find(stack).python is None:
            stack_or_skip(stack)
        return folder / f"{name}.zarr"

    def run(self, stack: str, name: str, *flavour: str) -> Run:
        return open_trace(self.path(stack, name, *flavour)).runs[0]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    return Recordings(tmp_path_factory.mktemp("optimizers"))


def reproduction(run: Run) -> Reproduction:
    found = reproduce(run)
    assert found is not None
    return found


@pytest.mark.parametrize(("stack", "name", "key"), CASES)
def test_the_rule_of_the_framework_and_no_other_reproduces_it(recorded, stack, name, key):
    # given a run of a framework's own optimizer, on one thread
    run = recorded.run(stack, name, "one-thread")
    # when
    found = reproduction(run)
    # then every update is reproduced to rounding, with the settings that were recorded
    assert {one.rule.key for one in found.fits} == ALIKE.get((stack, name), {key})
    best = found.fit_of(key)
    assert best is not None
    assert best.fitted == {}
    assert best.reproduced == best.telling > 20
    assert best.residual < FLOAT32_RESIDUAL
    # and the rest of the shelf was there to be tried
    assert best.rule in applicable(found.sample.slots)


COUNTING = ("adam", "amsgrad", "adamax", "nadam", "adam-decay")


@pytest.mark.parametrize(
    ("stack", "name"),
    [(stack, name) for stack, rules in EXPECTED.items() for name in COUNTING if name in rules],
)
def test_the_step_counter_is_read_off(recorded, stack, name):
    # given
    run = recorded.run(stack, name, "one-thread")
    # when
    best = reproduction(run).best
    # then only Keras 2.3 counts one too far, and on one thread at every step alike
    assert best is not None
    ahead = {counter for counter, count in best.counters.items() if count}
    if stack != STANDALONE:
        assert ahead == {1}
    elif name == "amsgrad":
        assert len(ahead) == 1  # The graph decides which
    else:
        assert ahead == {2}


@pytest.mark.parametrize("name", ["adam", "adamax", "nadam", "rmsprop", "decay"])
def test_threads_change_no_rule(recorded, name):
    # given Keras 2.3 on as many threads as there are, its counter in a race
    run = recorded.run(STANDALONE, name)
    # when
    best = reproduction(run).best
    # then each update is reproduced with the one counter or with the other
    assert best is not None
    assert best.rule.key == OLD[name]
    assert best.share == 1.0


@pytest.mark.parametrize(("stack", "name", "kind"), CLIPPED)
def test_the_kind_of_clipping_and_no_other_is_found(recorded, stack, name, kind):
    found = clipping(recorded.run(stack, name, "one-thread"), steps=8)
    assert found is not None
    assert set(found.kinds) == {kind}
    assert found.configured
    assert found.active == found.steps == 8
    assert found.residual < 1e-6


SPARSE = {
    STANDALONE: dict.fromkeys(
        ("momentum", "rmsprop", "adam", "amsgrad", "adamax", "nadam", "adadelta"), "summed"
    ),
    TF23: {
        **dict.fromkeys(("rmsprop", "rmsprop-centered", "adam", "amsgrad"), "summed"),
        **dict.fromkeys(
            (
                *("momentum", "nesterov", "rmsprop-momentum", "rmsprop-both"),
                *("adadelta", "adamax", "ftrl", "ftrl-regularised"),
            ),
            "touched",
        ),
        "nadam": "weight touched",
    },
    KERAS3: dict.fromkeys(
        (
            *("rmsprop", "rmsprop-centered", "rmsprop-momentum", "rmsprop-both", "adagrad"),
            *("adadelta", "adam", "amsgrad", "adamax", "nadam", "ftrl", "ftrl-regularised"),
        ),
        "one by one",
    ),
}


@pytest.mark.parametrize(
    ("stack", "name", "form"),
    [(stack, name, form) for stack, forms in SPARSE.items() for name, form in forms.items()],
)
def test_sparse_gradients_are_treated_as_measured(recorded, stack, name, form):
    # given an embedding whose batches repeat ids and leave some out
    run = recorded.run(stack, name, "one-thread", "embedding")
    # when
    best = reproduction(run).fit_of(EXPECTED[stack][name])
    # then of all ways to treat the rows, this one reproduces every update
    assert best is not None
    assert best.share == 1.0
    assert best.sparse == 8
    assert form in best.sparse_forms
    others = {"summed", "touched", "one by one"} - {form}
    if form == "summed" and name == "momentum":
        others.remove("one by one")  # It squares nothing
    assert not best.sparse_forms & others


@pytest.mark.parametrize("stack", list(EXPECTED))
@pytest.mark.parametrize("name", ["momentum", "rmsprop", "adam", "nadam", "adamax", "adadelta"])
def test_in_float64_too(recorded, stack, name):
    found = reproduction(recorded.run(stack, name, "one-thread", "float64"))
    assert [one.rule.key for one in found.fits] == [EXPECTED[stack][name]]
    # Betas and rates that some stacks round to float32 leave a few 1e-6; all else is exact.
    assert found.fits[0].residual < 1e-5
    assert found.fits[0].reproduced == found.fits[0].telling == 32


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        (STANDALONE, TF23, "sgd"),
        (TF23, KERAS3, "momentum"),
        (TF23, KERAS3, "adam"),
        (TF23, KERAS3, "adamax"),
        (STANDALONE, TF23, "rmsprop"),
        (TF23, KERAS3, "rmsprop-both"),
        (TF23, KERAS3, "clipnorm"),
    ],
)
def test_stacks_of_one_rule_have_no_finding(recorded, old, new, name):
    # given one training on two stacks whose rules agree
    paths = [recorded.path(stack, name, "one-thread") for stack in (old, new)]
    # when
    comparison = compare(*paths)
    # then neither its formula nor a constant rounded to float32 is blamed
    assert [one.code for one in comparison.causes] == []


@pytest.mark.parametrize(
    ("old", "new", "name", "code", "subject"),
    [
        (TF23, KERAS3, "rmsprop", "optimizer.rule", "rmsprop"),
        (TF23, KERAS3, "rmsprop-centered", "optimizer.rule", "rmsprop"),
        (TF23, KERAS3, "nadam", "optimizer.rule", "nadam"),
        (STANDALONE, TF23, "adam", "optimizer.rule", "Adam step counter"),
        (STANDALONE, TF23, "adamax", "optimizer.rule", "Adamax step counter"),
        (STANDALONE, TF23, "nadam", "optimizer.rule", "Nadam step counter"),
        (STANDALONE, TF23, "clipnorm", "gradient.processing", "clipnorm"),
        (STANDALONE, TF23, "adagrad", "optimizer.slots", "accumulator"),
    ],
)
def test_stacks_of_another_rule_have_that_finding(recorded, old, new, name, code, subject):
    paths = [recorded.path(stack, name, "one-thread") for stack in (old, new)]
    comparison = compare(*paths)
    assert [(one.code, one.subject) for one in comparison.causes] == [(code, subject)]
    assert comparison.causes[0].remedy


@pytest.mark.parametrize(
    ("old", "new", "name", "code", "subject"),
    [
        (TF23, KERAS3, "rmsprop", "optimizer.rule", "rmsprop"),
        (TF23, KERAS3, "nadam", "optimizer.rule", "nadam"),
        (STANDALONE, KERAS3, "adam", "optimizer.rule", "Adam step counter"),
        (STANDALONE, KERAS3, "clipnorm", "gradient.processing", "clipnorm"),
    ],
)
def test_a_rule_is_seen_through_other_data_and_initial_weights(
    recorded, old, new, name, code, subject
):
    # given two runs that have nothing in common but the model
    a = recorded.path(old, name, "one-thread")
    b = recorded.path(new, name, "one-thread", "other-data")
    # when
    comparison = compare(a, b)
    # then the first divergence is the data's or the weights', and the optimizer is found as well
    assert comparison.causes[0].code.partition(".")[0] in ("data", "init")
    found = [one for one in comparison.causes if one.code == code]
    assert [one.subject for one in found] == [subject]
    assert found[0].confidence > 0.9


@pytest.mark.parametrize("name", ["momentum", "adam", "rmsprop-both", "clipnorm"])
def test_rules_that_agree_are_not_blamed_for_other_data(recorded, name):
    # given runs of one rule that differ in data and initial weights
    a = recorded.path(TF23, name, "one-thread")
    b = recorded.path(KERAS3, name, "one-thread", "other-data")
    # when
    causes = compare(a, b).causes
    # then
    kinds = {one.code.partition(".")[0] for one in causes}
    assert kinds <= {"data", "init"}


def test_settings_of_optimizers_are_read_alike(recorded):
    """The trace of every stack names what the rules need."""
    for stack in EXPECTED:
        run = recorded.run(stack, "adam", "one-thread")
        settings = optimizer_settings(run.about["optimizer"]["config"])
        assert settings["beta_2"] == pytest.approx(0.999)
        assert settings["epsilon"] == pytest.approx(1e-7)
