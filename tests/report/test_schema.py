"""The schema that ships with the package: real reports fit it, and what is no report does not."""

import dataclasses
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from support.runs import ADAM, SGD, changed, compared

from tracediff import model
from tracediff.compare import compare
from tracediff.report.comparison import as_object, to_json

SCHEMA = json.loads(
    (files("tracediff.report.comparison") / "report-schema.json").read_text(encoding="utf-8")
)
TRACES = Path(__file__).parents[2] / "samples" / "digits" / "traces"


def fits(report):
    jsonschema.Draft202012Validator(SCHEMA).validate(report)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_report_of_two_stacks_fits():
    found = compare(TRACES / "keras2.3.zarr", TRACES / "keras3.zarr")
    fits(json.loads(to_json(found)))


@pytest.mark.parametrize("other", [SGD, changed(SGD, lr=0.06, steps=5), ADAM])
@pytest.mark.parametrize("level", ["full", "digest"])
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


def test_the_schema_describes_no_field_that_is_none():
    for name, described in SCHEMA["$defs"].items():
        known = {field.name for field in dataclasses.fields(getattr(model, name))}
        assert set(described["required"]) <= set(described["properties"]) <= known
