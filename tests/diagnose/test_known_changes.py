"""The catalogue is whole, and says nothing of versions on one side of a change."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from support.runs import ADAM, SGD, cause, changed, codes, compared

from tracediff.catalogue import FAMILIES, changes, find
from tracediff.catalogue import codes as all_codes
from tracediff.errors import UnknownName
from tracediff.model import CAUSES
from tracediff.report.explain import to_markdown

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_code_has_an_entry():
    assert [one.code for one in all_codes()] == list(CAUSES)
    assert all(one.asserted for one in all_codes())


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.id)
def test_an_entry_of_the_catalogue_is_whole(change):
    assert change.code in CAUSES
    assert set(change.old) | set(change.new) <= set(FAMILIES)
    assert all((change.title, change.what, change.numbers, change.source, change.remedy))
    assert not change.title.endswith(".")
    assert fnmatchcase("x", change.subject) or change.subject.strip("*")


def test_the_page_of_known_changes_is_made_from_the_catalogue():
    page = (REPOSITORY / "docs" / "known-changes.md").read_text("utf-8")
    assert page == to_markdown(None)


def test_the_page_of_causes_says_what_the_catalogue_says():
    page = (REPOSITORY / "docs" / "causes.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| .*? \| (.*?) \|$", page, re.MULTILINE))
    assert rows == {one.code: one.asserted for one in all_codes()}


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName) as trouble:
        find("optimizer.ruel")
    assert "optimizer.rule" in trouble.value.hint
    with pytest.raises(UnknownName) as trouble:
        find("init")
    assert trouble.value.hint == "there are init.draw, init.distribution"


def on(keras, tensorflow="1.15.5", **about):
    """What a trace says of its stack."""
    return {"stack": {"keras": keras, "versions": {"tensorflow": tensorflow}}, **about}


OLD, NEW = on("Keras 2.3.1"), on("Keras 3.15.1", "2.21.0")


def test_a_finding_is_recognised_as_a_known_change(tmp_path):
    # given two versions that count Adam's steps differently
    a = changed(ADAM, about=OLD, counter=lambda _: 2)
    # when
    comparison = compared(tmp_path, a, changed(ADAM, about=NEW))
    # then
    found = cause(comparison, "optimizer.rule")
    assert found.change == "adam-counter"
    assert found.remedy
    assert any("tracediff explain adam-counter" in line for line in found.evidence)


def test_the_same_finding_within_one_version_is_no_known_change(tmp_path):
    # given
    a = changed(ADAM, about=OLD, counter=lambda _: 2)
    # when
    comparison = compared(tmp_path, a, changed(ADAM, about=OLD))
    # then
    assert cause(comparison, "optimizer.rule").change is None


@pytest.mark.parametrize("loss_factor", [1.001, 1.0])
def test_a_change_that_no_setting_tells_is_named_only_where_the_loss_parts(tmp_path, loss_factor):
    # given a model that says hard_sigmoid on both sides of the change
    layers = [{"name": "hidden", "class": "Dense", "config": {"activation": "hard_sigmoid"}}]
    models = [{**one, "model": {"layers": layers}} for one in (OLD, NEW)]
    a = changed(SGD, about=models[0])
    # when
    comparison = compared(tmp_path, a, changed(SGD, about=models[1], loss_factor=loss_factor))
    # then
    if loss_factor == 1.0:
        assert codes(comparison) == []
        return
    found = comparison.causes[0]
    assert (found.code, found.change) == ("layer.forward", "hard-sigmoid")
    assert found.subject == "hidden.activation"
    assert found.against


def test_what_remains_is_said(tmp_path):
    # given another learning rate, and a weight changed from outside later
    comparison = compared(tmp_path, SGD, changed(SGD, lr=0.06, gradient_factor=(0, 1.5)))
    # then the gradient parts first, and the rate does not explain it
    found = cause(comparison, "optimizer.hyperparameter")
    assert any("first divergence" in line for line in found.not_explained)
    first = comparison.causes[0]
    assert first.code == "gradient.raw"
    assert any("optimizer/learning_rate" in line for line in first.not_explained)
    assert any(line.startswith("excluded before it: data") for line in first.evidence)
