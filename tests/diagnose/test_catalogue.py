"""The catalogue: vocabulary, documentation and rules agree, and no rule speaks without a reason."""

import re
from pathlib import Path

import pytest
from support.build import make_trace
from support.runs import ADAM, SGD, changed
from support.train import train

from tracediff.compare import examine
from tracediff.diagnose import RULES
from tracediff.model import CAUSES, STAGES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "causes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", CAUSES)
def test_every_cause_is_documented(code):
    assert re.search(rf"^\| `{re.escape(code)}` \|", PAGE, re.MULTILINE)


def test_the_page_documents_nothing_else():
    assert set(re.findall(r"^\| `([a-z._]+)` \|", PAGE, re.MULTILINE)) == set(CAUSES)


def test_rules_use_the_vocabulary():
    sources = "\n".join(path.read_text() for path in (ROOT / "tracediff/diagnose").glob("*.py"))
    used = set(re.findall(r'code="([a-z._]+)"', sources))
    assert used
    assert used <= set(CAUSES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("reordered", [False, True])
def test_no_rule_speaks_of_runs_that_agree(tmp_path, rule, reordered):
    plan = changed(ADAM, batch_norm=True)
    paths = [
        make_trace(tmp_path / "a.zarr", train(plan)),
        make_trace(tmp_path / "b.zarr", train(changed(plan, reordered_sums=reordered))),
    ]
    assert list(rule(examine(*paths).case)) == []


def test_findings_are_well_formed(tmp_path):
    other = changed(SGD, init_seed=5, lr=0.1, feed=lambda s, x, y: (x * 2, y[::-1]))
    paths = [
        make_trace(tmp_path / "a.zarr", train(SGD)),
        make_trace(tmp_path / "b.zarr", train(other)),
    ]
    causes = examine(*paths).comparison.causes
    assert len(causes) >= 3
    for cause in causes:
        assert cause.code in CAUSES
        assert cause.stage in STAGES
        assert 0.0 < cause.confidence <= 1.0
        assert cause.summary.endswith(".")
        assert cause.evidence
