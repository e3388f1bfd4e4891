"""Repeats of really trained runs, whose noise is far above rounding, measure the noise floor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.stacks import stack_or_skip

from tracediff.cli import main
from tracediff.compare import Repeats, compare
from tracediff.errors import UsageError
from tracediff.report.comparison import to_json, to_markdown, to_text
from tracediff.testing import assert_traces_agree

PROGRAM = Path(__file__).parent / "programs" / "rounding.py"
RUNS = (
    *("dropout", "dropout:again", "dropout:again2", "dropout:again3"),
    *("dropout:rate", "dropout:pixel", "dropout:weight"),
    *("softplus", "softplus:again", "softplus:rate"),
    *("heavy", "heavy:again", "heavy:again2", "heavy:again3", "heavy:momentum", "heavy:moved"),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs, by name, all of one stack."""
    folder = tmp_path_factory.mktemp("repeats")
    stack_or_skip("tf2.3").run(PROGRAM, folder, *RUNS)
    return {run: folder / f"{run.replace(':', '-')}.zarr" for run in RUNS}


def loss(comparison):
    return next(one for one in comparison.drift if one.role == "loss")


def test_without_repeats_their_noise_is_a_divergence(runs):
    found = compare(runs["dropout"], runs["dropout:again"])
    assert found.verdict == "diverged"
    assert found.floor.source == "model"


@pytest.mark.parametrize("repeats", [["dropout:again2"], ["dropout:again2", "dropout:again3"]])
def test_two_runs_of_a_script_agree_within_its_repeats(runs, repeats):
    # given runs of one script whose losses differ by per cents
    paths = [runs[one] for one in repeats]
    # when
    found = compare(runs["dropout"], runs["dropout:again"], repeats=paths)
    # then
    assert loss(found).relative_l2.max > 1e-2
    assert found.verdict == "rounding"
    assert found.first_divergence is None
    assert {cause.code for cause in found.causes} <= {"rounding"}
    assert found.floor.source == "repeats"
    assert [one.path for one in found.floor.repeats] == list(map(str, paths))
    assert found.floor.repeats[0].factor == pytest.approx(10.0 ** (1.0 / len(paths) ** 0.5))
    assert 0.0 < found.floor.times < 1.0


@pytest.mark.parametrize(
    ("change", "stage", "tensor", "step"),
    [
        ("rate", "update", "optimizer/learning_rate", 0),
        ("pixel", "data", "input/0", 19),
        ("weight", "state", "d0/kernel", 0),
    ],
)
@pytest.mark.parametrize("side", ["a", "b"])
def test_a_change_below_the_noise_of_the_loss_is_found(runs, change, stage, tensor, step, side):
    # given a change that the loss does not show, and repeats of the plain run on either side
    plain, changed = runs["dropout"], runs[f"dropout:{change}"]
    pair = (plain, changed) if side == "a" else (changed, plain)
    repeats = [runs["dropout:again"], runs["dropout:again2"]]
    # when
    found = compare(*pair, repeats=repeats)
    # then the repeats are told to be those of the plain run, and the change stands above them
    assert {one.side for one in found.floor.repeats} == {side}
    first = found.first_divergence
    assert (first.step, first.stage, first.tensor) == (step, stage, tensor)
    assert found.verdict == "diverged"
    rows = [one for one in found.drift if one.role == "loss"]
    assert rows[0].first_significant_step is None


@pytest.mark.parametrize("repeats", [["heavy:again2"], ["heavy:again2", "heavy:again3"]])
@pytest.mark.parametrize("other", ["heavy:again", "heavy:again3"])
def test_updates_of_parts_that_cancel_agree_within_repeats(runs, repeats, other):
    # given a momentum and a gradient of which little is left in some elements of an update
    paths = [runs[one] for one in repeats if one != other]
    # when
    found = compare(runs["heavy"], runs[other], repeats=paths)
    # then
    assert found.verdict == "rounding", found.first_divergence


@pytest.mark.parametrize(
    ("change", "place", "code"),
    [
        ("momentum", (1, "update", "d0/kernel/momentum"), "optimizer.hyperparameter"),
        ("moved", (30, "state", "out/kernel"), "state.external"),
    ],
)
@pytest.mark.parametrize("side", ["a", "b"])
def test_what_drowns_in_the_noise_shows_in_the_record_of_each_run(runs, change, place, code, side):
    # given a part in 10^4 of a momentum, or a hundredth of a kernel, below the noise of all tensors
    plain, changed = runs["heavy"], runs[f"heavy:{change}"]
    pair = (plain, changed) if side == "a" else (changed, plain)
    # when
    found = compare(*pair, repeats=[runs["heavy:again"], runs["heavy:again2"]])
    # then
    first = found.first_divergence
    assert (first.step, first.stage, first.tensor) == place
    assert found.verdict == "diverged"
    assert found.causes[0].code == code


def test_the_run_that_repeats_belong_to_can_be_said(runs):
    found = compare(
        runs["dropout"], runs["dropout:again"], repeats=Repeats(b=(runs["dropout:again2"],))
    )
    assert [one.side for one in found.floor.repeats] == ["b"]
    assert found.verdict == "rounding"


@pytest.mark.parametrize(
    ("repeat", "reason"),
    [
        ("dropout:rate", "learning_rate"),
        ("dropout:pixel", "input/0 is another at step 19"),
        ("dropout:weight", "began with another d0/kernel"),
        ("softplus", "layer"),
        ("dropout", "it is that run itself"),
    ],
)
def test_what_cannot_be_a_repeat_is_refused_in_one_line(runs, repeat, reason, capsys):
    # given a run of another configuration, other data, other initial weights; or the run itself
    words = ["compare", str(runs["dropout"]), str(runs["dropout:again"]), "--repeat-a"]
    # when
    status = main([*words, str(runs[repeat])])
    # then
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("error: ")
    assert reason in error.splitlines()[0]
    assert "no repeat of A" in error.splitlines()[0]


def test_a_repeat_of_neither_run_is_refused_with_both_reasons(runs):
    with pytest.raises(UsageError, match=r"no repeat of A: .*; nor of B: "):
        compare(runs["dropout"], runs["dropout:again"], repeats=[runs["dropout:rate"]])


def test_exact_repeats_leave_the_model(runs):
    # given a script that repeats to the bit
    repeats = [runs["softplus:again"]]
    assert compare(runs["softplus"], *repeats).verdict == "identical"
    # when its repeat measures no noise
    found = compare(runs["softplus"], runs["softplus:rate"], repeats=repeats)
    # then a change is found as without it
    alone = compare(runs["softplus"], runs["softplus:rate"])
    assert found.first_divergence == alone.first_divergence
    assert found.first_divergence.floor == "model"


def test_a_change_in_the_update_is_found_above_the_noise_of_gradients(runs):
    # given gradients that dropout moves by tens of per cents, and weights that move by others
    found = compare(runs["dropout"], runs["dropout:rate"], repeats=[runs["dropout:again"]])
    gradient = next(one for one in found.drift if one.role == "gradient")
    # then their noise is within the floor, and the report says by how much
    assert gradient.relative_l2.max > 0.1
    assert gradient.first_significant_step is None
    assert 0.0 < gradient.times_floor < 1.0


def test_the_command_line_and_every_format_say_which_floor_it_was(runs, capsys):
    # given
    words = ["compare", str(runs["dropout"]), str(runs["dropout:again"]), "--no-cache"]
    words += ["--repeat", str(runs["dropout:again2"]), "--repeat-b", str(runs["dropout:again3"])]
    # when
    status = main(words)
    text = capsys.readouterr().out
    # then
    assert status == 0
    assert "Noise floor: 10 times what 1 repeat of A and 10 times what 1 repeat of B differ by" in (
        " ".join(text.split())
    )
    found = compare(runs["dropout"], runs["dropout:rate"], repeats=[runs["dropout:again"]])
    report = json.loads(to_json(found))
    assert report["floor"]["source"] == "repeats"
    assert report["floor"]["repeats"][0]["side"] == "a"
    assert report["first_divergence"]["floor"] == "model"
    for shown in (to_text(found), to_markdown(found)):
        assert "the first divergence stands" in " ".join(shown.split())


def test_repeats_count_in_the_cache_and_in_a_test_suite(runs, tmp_path, monkeypatch):
    # given a comparison that is kept
    monkeypatch.setenv("TRACEDIFF_CACHE", str(tmp_path))
    pair = runs["dropout"], runs["dropout:again"]
    assert compare(*pair, cache=True).verdict == "diverged"
    # when it is asked for with a repeat
    repeats = [runs["dropout:again2"]]
    found = compare(*pair, repeats=repeats, cache=True)
    again = compare(*pair, repeats=repeats, cache=True)
    # then it is another one, kept as well
    assert found.verdict == again.verdict == "rounding"
    assert again.floor == found.floor
    assert compare(*pair, cache=True).verdict == "diverged"
    assert_traces_agree(*pair, repeats=repeats)
    with pytest.raises(AssertionError, match="diverge"):
        assert_traces_agree(*pair)
