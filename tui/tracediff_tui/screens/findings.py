"""Screen 4: the causes, ranked, and the evidence for each as places to go to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from tracediff.compare import Examination
from tracediff.model import Finding
from tracediff.report.comparison import phrases
from tracediff.report.terminal import printable
from tracediff_tui.keys import bindings_of, key_of
from tracediff_tui.screens.base import View
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.findings import (
    DetailLine,
    detail,
    finding_cells,
    findings_sheet,
    remark_detail,
)
from tracediff_tui.views.places import label
from tracediff_tui.views.remarks import Remark, remarks
from tracediff_tui.views.settings import settings
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
        self.remarks: tuple[Remark, ...] = ()
        self.details: tuple[DetailLine, ...] = ()
        self._detailed: tuple[object, object] = (None, None)
        self._linked: tuple[object, frozenset[int]] = (None, frozenset())

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
        """The finding under the cursor, if it is one."""
        found, row = self.tracediff.found, self.list.row
        if found is None or row >= len(self.numbers):
            return None
        return found.comparison.causes[self.numbers[row]]

    @property
    def remark(self) -> Remark | None:
        """The remark under the cursor, if it is one."""
        row = self.list.row - len(self.numbers)
        return self.remarks[row] if 0 <= row < len(self.remarks) else None

    def _has_setting(self, found: Examination, number: int) -> bool:
        """Say whether the configuration has a line that a finding speaks of."""
        if self._linked[0] is not found:
            app = self.tracediff
            rows = settings(app.a, app.b, found.comparison)
            linked = frozenset(row.finding for row in rows if row.finding is not None)
            self._linked = (found, linked)
        return number in self._linked[1]

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
        self.remarks = tuple(
            one
            for one in remarks(found)
            if keep is None or keep(f"{one.code} {one.summary}") or keep(str(one.sentences))
        )
        wanted = self.tracediff.finding
        # Remarks are numbered on from the findings.
        listed = [*self.numbers, *range(len(causes), len(causes) + len(self.remarks))]
        row = listed.index(wanted) if wanted in listed else 0
        rows = [Row(finding_cells(number, causes[number])) for number in self.numbers]
        rows += [Row(("", one.code, "", "", one.summary), style="dim") for one in self.remarks]
        empty = "no finding" if not causes else "nothing passes: Esc ends the filter"
        self.list.load(rows, row=row, empty=empty)
        # As high as it has rows: the rest is for what is said about one of them.
        self.list.styles.height = max(2, min(len(rows) + 1, self.size.height // 3))
        self._detail()

    def _detail(self) -> None:
        found, finding, remark = self.tracediff.found, self.finding, self.remark
        width = self.size.width - 6
        if found is None or (finding is None and remark is None):
            first = found.comparison.first_divergence if found else None
            text = "" if first is None else f" first divergence: {phrases.place(first)}"
            self.bar("cause").say(text)
            self.details = ()
            self._detailed = (None, None)
            self.detail.load(())
            return
        arrow = ">" if self.tracediff.options.plain else "⏎"
        dash = "-" if self.tracediff.options.plain else "─"
        if finding is not None:
            linked = self._has_setting(found, self.numbers[self.list.row])
            title, self.details = finding.code, detail(found, finding, width, linked=linked)
        elif remark is not None:
            title, self.details = remark.code, remark_detail(remark, width)
        self.bar("cause").say(f"{dash * 3} {title} {dash * (self.size.width - len(title) - 6)}")
        remedy = printable(finding.remedy) if finding and finding.remedy else None
        copied = f" ({self.tracediff.options.config.shown(key_of('copy'))} copies it)"
        rows = []
        last = max((i for i, one in enumerate(self.details) if one.whole == remedy), default=-1)
        for number, line in enumerate(self.details):
            leads = (line.spot is not None or line.settings) and line.head
            end = f" {arrow}" if leads else copied if number == last else ""
            rows.append(Row((line.head, line.text + end)))
        of = (found, finding or remark)
        # Whoever comes back from a piece of evidence finds the cursor there.
        self.detail.load(rows, row=None if of == self._detailed else 0)
        self._detailed = of

    def status(self) -> str:
        """Return where Enter leads."""
        finding, remark = self.finding, self.remark
        if self.focused is self.detail and self.details:
            line = self.details[self.detail.row]
            if line.spot is not None:
                name = printable(label(line.spot.key))
                return f"Enter opens {name} at step {line.spot.step}"
            return "Enter opens the configuration" if line.settings else line.whole
        if remark is not None:
            return f"{remark.code}: {remark.summary}"
        if finding is None:
            return "no finding: the first divergence is on screen 1"
        return f"{finding.code}: Enter opens its place, Tab its evidence"

    def line(self) -> str:
        """Return the finding, or the line of evidence."""
        finding, remark = self.finding, self.remark
        if self.focused is self.detail and self.details:
            return self.details[self.detail.row].whole
        if remark is not None:
            return remark.summary
        if finding is None:
            return ""
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
        if panel is self.list:
            found, row = self.tracediff.found, self.list.row
            if row < len(self.numbers):
                self.tracediff.finding = self.numbers[row]
            elif found is not None:
                beyond = len(found.comparison.causes)
                self.tracediff.finding = beyond + row - len(self.numbers)
            self._detail()

    def action_open(self) -> None:
        """Go to the place of the finding, or of its evidence."""
        if not self.details:
            return
        line = self.details[self.detail.row if self.focused is self.detail else 0]
        if line.settings and line.spot is None:
            self.tracediff.setting_wanted = True
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
