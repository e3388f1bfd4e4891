"""``tracediff explain``: every entry can be printed, and a wrong name is helped."""

from __future__ import annotations

import json

import pytest

from tracediff.catalogue import changes
from tracediff.cli import main
from tracediff.model import CAUSES


def explained(capsys, *words, status=0):
    assert main(["explain", *words]) == status
    out, err = capsys.readouterr()
    return out if status == 0 else err


def test_the_list_has_every_code_and_every_change(capsys):
    out = explained(capsys)
    assert all(f"  {code} " in out for code in CAUSES)
    assert all(f"  {change.id} " in out for change in changes())


@pytest.mark.parametrize("name", [*CAUSES, *(change.id for change in changes())])
def test_every_entry_can_be_printed_in_every_format(capsys, name):
    assert name in explained(capsys, name) or name in {change.id for change in changes()}
    assert json.loads(explained(capsys, name, "--format", "json"))
    assert explained(capsys, name, "--format", "markdown").startswith("## ")


def test_a_code_names_its_known_changes(capsys):
    assert "adam-counter" in explained(capsys, "optimizer.rule")


def test_a_wrong_name_is_told_the_nearest(capsys):
    err = explained(capsys, "optimizer.ruel", status=2)
    assert "optimizer.ruel is neither a cause code nor a known change" in err
    assert "did you mean optimizer.rule" in err
