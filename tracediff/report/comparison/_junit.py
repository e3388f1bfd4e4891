"""A comparison in the XML that CI servers read: a test case for each tensor."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from tracediff.model import Comparison, DriftRow
from tracediff.report.comparison import _numbers as numbers
from tracediff.report.comparison import _phrases as phrases
from tracediff.report.terminal import printable


def to_junit(comparison: Comparison) -> str:
    """Return the report as JUnit XML: a case fails where its tensor diverges."""
    suite = Element("testsuite", name="tracediff")
    failures = skipped = 0
    for row in comparison.drift:
        case = SubElement(suite, "testcase", classname=f"tracediff.{row.role}", name=_text(row))
        if row.ignored:
            skipped += 1
            SubElement(case, "skipped", message="ignored")
        elif row.first_significant_step is not None:
            failures += 1
            failure = SubElement(case, "failure", message=_message(row))
            failure.text = _details(comparison, row)
    for one in comparison.unpaired:
        if one.matters:
            failures += 1
            name = f"{printable(one.tensor)} (only in {one.side.upper()})"
            case = SubElement(suite, "testcase", classname=f"tracediff.{one.role}", name=name)
            SubElement(case, "failure", message=printable(one.reason))
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("skipped", str(skipped))
    suite.set("errors", "0")
    indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suite, encoding="unicode")


def _text(row: DriftRow) -> str:
    return printable(row.tensor)


def _message(row: DriftRow) -> str:
    drift = row.relative_l2
    return (
        f"diverges at step {row.first_significant_step}; relative L2 at most "
        f"{numbers.number(drift.max)}, largest difference {numbers.number(row.max_abs)}"
    )


def _details(comparison: Comparison, row: DriftRow) -> str:
    lines = [phrases.would_pass(row)]
    first = comparison.first_divergence
    if first is not None and (first.role, first.tensor) == (row.role, row.tensor):
        lines += ["the first divergence", phrases.place(first), phrases.size(first)]
        lines += [f"{cause.code}: {printable(cause.summary)}" for cause in comparison.causes]
    return "\n".join(lines)
