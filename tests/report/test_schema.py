"""The schema that ships with the package: real reports fit it, and what is no report does not."""

import dataclasses
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from support.build import make_trace
from support.runs import ADAM, SGD, changed, compared
from support.train import train

import tracediff
import tracediff.ladder
from tracediff import model
from tracediff.compare import compare
from tracediff.luck import Luck, luck
from tracediff.report import ladder as ladder_report
from tracediff.report import luck as luck_report
from tracediff.report.comparison import as_object, to_json


def schema_of(*place):
    return json.loads(files("tracediff.report").joinpath(*place).read_text(encoding="utf-8"))


SCHEMA = schema_of("comparison", "report-schema.json")
LADDER, LUCK = schema_of("ladder-schema.json"), schema_of("luck-schema.json")
TRACES = Path(__file__).parents[2] / "samples" / "digits" / "traces"


def fits(report, schema=SCHEMA):
    jsonschema.Draft202012Validator(schema).validate(report)


@pytest.mark.parametrize("schema", [SCHEMA, LADDER, LUCK])
def test_the_schema_is_one(schema):
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_report_of_two_stacks_fits():
    found = compare(TRACES / "keras2.3.zarr", TRACES / "keras3.zarr")
    fits(json.loads(to_json(found)))


@pytest.mark.parametrize("other", [SGD, changed(SGD, lr=0.06, steps=5), ADAM])
@pytest.mark.parametrize("level", ["full", "sketch", "digest"])
def test_reports_of_every_verdict_fit(tmp_path, other, level):
    fits(as_object(compared(tmp_path, SGD, other, level=level)))


def test_what_is_no_report_does_not_fit(tmp_path):
    report = as_object(compared(tmp_path, SGD, changed(SGD, lr=0.06)))
    for wrong in (
        {**report, "verdict": "equal"},
        {**report, "schema": 2},
        {key: value for key, value in report.items() if key != "drift"},
        {**report, "drift": [{**report["drift"][0], "max_abs": "large"}]},
        {**report, "causes": [{"code": "rounding"}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            fits(wrong)


def undescribed(value, described, path="report"):
    """Yield the fields of a report that the schema says nothing of."""
    if "$ref" in described:
        described = SCHEMA["$defs"][described["$ref"].rpartition("/")[2]]
    for option in described.get("anyOf", ()):
        if option.get("type") != "null" and value is not None:
            yield from undescribed(value, option, path)
    if isinstance(value, list) and "items" in described:
        for item in value:
            yield from undescribed(item, described["items"], path)
    if isinstance(value, dict) and "properties" in described:
        for name, item in value.items():
            if name in described["properties"]:
                yield from undescribed(item, described["properties"][name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"


@pytest.fixture
def full_report():
    """A report in which everything that can be there is."""
    model_of_all = compare(TRACES / "keras2.3.zarr", TRACES / "keras3.zarr")
    local = model.LocalError("loss", "loss", "loss", None, 1, 0, 1, 0, 0.1, 0.01)
    errors = model.StageErrors("loss", 1, 1, 1)
    lockstep = model.Lockstep("a.zarr", 3, batches=True, stages=(errors,), errors=(local,))
    floor = model.Floor("repeats", (model.Repeat("a2.zarr", "a", 3, 10.0),), 0.1, 0, "loss", "loss")
    return as_object(dataclasses.replace(model_of_all, lockstep=lockstep, floor=floor))


def test_every_field_of_a_report_is_described(full_report):
    fits(full_report)
    assert full_report["lockstep"]["errors"]
    assert list(undescribed(full_report, SCHEMA)) == []


def test_a_field_that_is_not_described_is_noticed(full_report):
    full_report["lockstep"]["errors"][0]["colour"] = "red"
    full_report["drift"][0]["update"] = {**full_report["drift"][0]["relative_l2"], "smell": 1}
    full_report["noise"] = 1
    assert {one.rpartition(".")[2] for one in undescribed(full_report, SCHEMA)} >= {
        "colour",
        "smell",
        "noise",
    }


def test_the_schema_describes_no_field_that_is_none():
    for name, described in SCHEMA["$defs"].items():
        known = {field.name for field in dataclasses.fields(getattr(model, name))}
        assert set(described["required"]) <= set(described["properties"]) <= known


# --- the ladder and luck


def climbed(tmp_path, other):
    """A ladder in which B is `other` with no control, and does as A does in all other rungs."""
    runs = [
        tracediff.open_trace(make_trace(tmp_path / f"{name}.zarr", train(plan))).runs[0]
        for name, plan in (("ladder-a", SGD), ("ladder-b", other))
    ]
    rungs = (runs[1], runs[0], runs[0], runs[0])
    found = tracediff.ladder.ladder(runs[0], zip(tracediff.ladder.OPTIONS, rungs, strict=True))
    return json.loads(ladder_report.to_json(found))


@pytest.mark.parametrize("other", [SGD, changed(SGD, lr=0.06), ADAM])
def test_ladders_fit_their_schema(tmp_path, other):
    fits(climbed(tmp_path, other), LADDER)


def test_what_is_no_ladder_does_not_fit(tmp_path):
    told = climbed(tmp_path, changed(SGD, init_seed=SGD.init_seed + 1))
    place, rung = told["places"][0], told["rungs"][0]
    for wrong in (
        {**told, "rungs": told["rungs"][:3]},
        {**told, "rungs": [{**rung, "control": "all"}, *told["rungs"][1:]]},
        {**told, "places": [{**place, "part": "luck"}]},
        {key: value for key, value in told.items() if key != "conclusion"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            fits(wrong, LADDER)


@pytest.mark.parametrize("sides", [([1, 2], [3, 4]), ([1, 1], [2, 2]), ([1], [2, 3])])
def test_answers_about_luck_fit_their_schema(sides):
    told = json.loads(luck_report.to_json(luck(*sides)))
    fits(told, LUCK)
    for wrong in ({**told, "answer": "maybe"}, {**told, "p": 2}, {**told, "a": []}):
        with pytest.raises(jsonschema.ValidationError):
            fits(wrong, LUCK)


def test_both_schemas_describe_every_field_and_no_other():
    known = {field.name for field in dataclasses.fields(Luck)}
    assert set(LUCK["properties"]) == {"schema", *known} == set(LUCK["required"])
    for name in ("Place", "Rung"):
        fields = {one.name for one in dataclasses.fields(getattr(tracediff.ladder, name))}
        given = set(LADDER["$defs"][name]["properties"])
        # Of a rung's comparison it tells the parts that the ladder rests on.
        parts = {"verdict", "first_divergence", "causes", "lockstep"} if name == "Rung" else set()
        assert given == (fields - {"comparison"}) | parts
    for name in ("Lockstep", "LocalError", "StageErrors", "Difference", "Finding"):
        assert LADDER["$defs"][name] == SCHEMA["$defs"][name]
