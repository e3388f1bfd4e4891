"""Screen 4: the causes, ranked, and the evidence for each as places to go to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from tracediff.model import Finding
from tracediff.report.comparison import phrases
from tracediff_tui.keys import bindings_of
from tracediff_tui.screens.base import View
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.findings import (
    DetailLine,
    detail,
    finding_cells,
    findings_sheet,
)
from tracediff_tui.widgets.lines import Bar, KeyBar
from tracediff_tui.widgets.listing import Column, Listing, Row

if TYPE_CHECKING:
    from textual.widget import Widget

_SURE = 0.5


class FindingsScreen(View):
    """Findings, and all about the one under the cursor."""

    NAME: ClassVar = "findings"
    BINDINGS: ClassVar = bindings_of("findings")

    def __init__(self) -> None:
        super().__init__()
        self.sure = False
        self.numbers: tuple[int, ...] = ()
        self.details: tuple[DetailLine, ...] = ()

    def body(self) -> Iterator[Widget]:
        """Yield the verdict, the list, and the detail."""
        yield Bar(id="answer")
        yield Listing(
            [
                Column("#", right=True),
                Column("code"),
                Column("conf", right=True),
                Column("step", right=True, drop=1),
                Column("cause", flexible=True, least=20, cut_end=True),
            ],
            id="list",
        )
        yield Bar(id="cause", classes="rule")
        yield Listing([Column("", least=9), Column("", flexible=True)], id="detail", titled=False)

    @property
    def list(self) -> Listing:
        """The findings."""
        return self.query_one("#list", Listing)

    @property
    def detail(self) -> Listing:
        """All about one."""
        return self.query_one("#detail", Listing)

    @property
    def finding(self) -> Finding | None:
        """The one under the cursor."""
        found = self.tracediff.found
        if found is None or not self.numbers:
            return None
        return found.comparison.causes[self.numbers[min(self.list.row, len(self.numbers) - 1)]]

    def present(self) -> None:
        """Show the findings of the comparison."""
        found = self.tracediff.found
        self.query_one(KeyBar).relabel(
            codes="All" if self.sure else "50 % and more", open="Open evidence"
        )
        if found is None:
            self.bar("answer").say(" comparing ...")
            return
        keep = self.keep()
        causes = found.comparison.causes
        self.bar("answer").say(f" {phrases.verdict(found.comparison)}")
        self.numbers = tuple(
            number
            for number, one in enumerate(causes)
            if (not self.sure or one.confidence >= _SURE)
            and (keep is None or keep(f"{one.code} {one.summary}"))
        )
        wanted = self.tracediff.finding
        row = self.numbers.index(wanted) if wanted in self.numbers else 0
        self.list.load(
            [Row(finding_cells(number, causes[number])) for number in self.numbers],
            row=row,
            empty="no finding" if not causes else "nothing passes: Esc ends the filter",
        )
        self._detail()

    def _detail(self) -> None:
        found, finding = self.tracediff.found, self.finding
        if found is None or finding is None:
            first = found.comparison.first_divergence if found else None
            text = "" if first is None else f" first divergence: {phrases.place(first)}"
            self.bar("cause").say(text)
            self.details = ()
            self.detail.load(())
            return
        arrow = ">" if self.tracediff.options.plain else "⏎"
        dash = "-" if self.tracediff.options.plain else "─"
        self.bar("cause").say(f"{dash * 3} {finding.code} {dash * 200}")
        self.details = detail(found, finding, self.size.width - 6)
        rows = []
        for line in self.details:
            leads = (line.spot is not None or line.settings) and line.head
            rows.append(Row((line.head, f"{line.text}{f' {arrow}' if leads else ''}")))
        self.detail.load(rows, row=0)

    def status(self) -> str:
        """Return where Enter leads."""
        finding = self.finding
        if finding is None:
            return "no finding: the first divergence is on screen 1"
        if self.focused is self.detail and self.details:
            line = self.details[self.detail.row]
            if line.spot is not None:
                return f"Enter opens {line.spot.key[0]} {line.spot.key[1]} at step {line.spot.step}"
            return "Enter opens the configuration" if line.settings else line.text
        return f"{finding.code}: Enter opens its place, Tab its evidence"

    def line(self) -> str:
        """Return the finding, or the line of evidence."""
        finding = self.finding
        if finding is None:
            return ""
        if self.focused is self.detail and self.details:
            return self.details[self.detail.row].text
        return f"{finding.summary} [{finding.code}, {finding.confidence:.0%}]"

    def copies(self) -> dict[str, Callable[[], str]]:
        """Offer the remedy, where one is known."""
        finding = self.finding
        known = finding.remedy if finding is not None else None
        extra: dict[str, Callable[[], str]] = {"remedy": lambda: known} if known else {}
        return {**super().copies(), **extra}

    def sheet(self) -> Sheet:
        """Return all findings."""
        found = self.tracediff.found
        return findings_sheet(found) if found else Sheet("comparing ...")

    def moved(self, panel: Widget) -> None:
        """Let the detail follow the list."""
        if panel is self.list and self.numbers:
            self.tracediff.finding = self.numbers[self.list.row]
            self._detail()

    def action_open(self) -> None:
        """Go to the place of the finding, or of its evidence."""
        if not self.details:
            return
        line = self.details[self.detail.row if self.focused is self.detail else 0]
        if line.settings and line.spot is None:
            self.tracediff.go("settings")
        elif line.spot is not None:
            self.tracediff.spot = line.spot
            self.tracediff.go("step" if self.focused is not self.detail else "tensor")

    def action_jump(self, by: int) -> None:
        """Go to the next finding."""
        self.list.select(self.list.row + by)

    def action_confidence(self) -> None:
        """Show all, or those of 50 % and more."""
        self.sure = not self.sure
        self.show()
