"""Views of a comparison: text for a terminal, JSON for programs, markdown for a bug report."""

from tracediff.report.comparison import _lockstep as lockstep  # noqa: F401 - for the interface
from tracediff.report.comparison import _numbers as numbers  # noqa: F401 - the same
from tracediff.report.comparison import _phrases as phrases  # noqa: F401 - the same
from tracediff.report.comparison import _tables as tables  # noqa: F401 - the same
from tracediff.report.comparison._json import as_object as as_object
from tracediff.report.comparison._json import to_json as to_json
from tracediff.report.comparison._junit import to_junit as to_junit
from tracediff.report.comparison._markdown import to_markdown as to_markdown
from tracediff.report.comparison._text import to_text as to_text

FORMATS = ("text", "json", "markdown", "junit")
"""What a comparison can be written as."""
