"""A check for a test suite: two traces agree, or the test fails with the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tracediff.compare import AlignOptions, Repeats, Source, bounds, compare
from tracediff.compare.bounds import Given
from tracediff.model import Comparison
from tracediff.report.comparison import to_text


def assert_traces_agree(
    a: Source,
    b: Source,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    tolerances: Mapping[str, Given] | None = None,
    ignore: Sequence[str] = (),
    align: AlignOptions | None = None,
    repeats: Repeats | Sequence[Source] = (),
    cache: bool = False,
) -> Comparison:
    """Fail unless two runs agree, by the tolerances given or else within rounding.

    Args:
        a: A run: its path, an opened trace, or a run of one.
        b: The other run.
        rtol: Elements of any tensor may differ by this times its largest magnitude ...
        atol: ... and by this besides.
        tolerances: For tensors in whose ``ROLE NAME`` a pattern is found: rtol, or rtol and atol.
        ignore: Patterns of tensors that may differ by anything.
        align: How to find what belongs together, where it is not to be found by itself.
        repeats: Repeats of A or of B, which measure how far runs of one script are apart.
        cache: Whether to take the result from the cache where it is there, and to keep it there.

    Returns:
        What was found, for checks of one's own.

    Raises:
        AssertionError: The runs diverge; the message is the report.
        TracediffError: The runs cannot be compared.

    Example:
        >>> from tracediff.testing import assert_traces_agree
        >>> assert_traces_agree("a.zarr", "b.zarr", rtol=1e-4, ignore=["slot "])  # doctest: +SKIP
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    limits = bounds(rtol=rtol, atol=atol, rules=tolerances, ignore=ignore)
    found = compare(a, b, align=align, within=limits, repeats=repeats, cache=cache)
    if not found.agree:
        raise AssertionError(to_text(found))
    return found
