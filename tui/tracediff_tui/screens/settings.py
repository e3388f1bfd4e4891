"""Screen 5: environment and configuration of both runs side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from tracediff_tui.keys import bindings_of
from tracediff_tui.palette import BLUE, ORANGE
from tracediff_tui.screens.base import View
from tracediff_tui.sheet import Sheet
from tracediff_tui.views.settings import Setting, settings, settings_sheet, shown
from tracediff_tui.widgets.lines import Bar, KeyBar
from tracediff_tui.widgets.listing import Column, Listing, Row

if TYPE_CHECKING:
    from textual.widget import Widget

_PLAIN = {"≠": "!", "≈": "~"}


class SettingsScreen(View):
    """Settings, those that differ or all."""

    NAME: ClassVar = "settings"
    BINDINGS: ClassVar = bindings_of("settings")

    def __init__(self) -> None:
        super().__init__()
        self.everything = False
        self.rows: tuple[Setting | str, ...] = ()

    def body(self) -> Iterator[Widget]:
        """Yield a summary and the table."""
        yield Bar(id="answer")
        yield Listing(
            [
                Column(""),
                Column("key", flexible=True, least=20),
                Column("A", flexible=True, least=12, style=BLUE),
                Column("B", flexible=True, least=12, style=ORANGE),
                Column("finding", drop=1),
            ],
            id="list",
        )

    @property
    def list(self) -> Listing:
        """The table."""
        return self.query_one(Listing)

    def present(self) -> None:
        """Show the settings."""
        app = self.tracediff
        single = app.b is None
        comparison = app.found.comparison if app.found else None
        everything = settings(app.a, app.b, comparison)
        chosen = shown(everything, everything=self.everything or single, keep=self.keep())
        counts = {mark: sum(row.mark == mark for row in everything) for mark in "≠+-≈="}
        self.query_one(KeyBar).relabel(
            all="Differing only" if self.everything else "All",
            open="Finding",
            next="Next difference",
        )
        if single:
            self.bar("answer").say(f" {len(everything)} settings")
        else:
            self.bar("answer").say(
                f" {counts['≠']} differ, {counts['+'] + counts['-']} only in one, "
                f"{counts['='] + counts['≈']} equal",
                f"showing: {'all' if self.everything else 'differing only'} ",
            )
        rows: list[Setting | str] = []
        for one in chosen:
            if not rows or self._section(rows[-1]) != one.section:
                rows.append(one.section)
            rows.append(one)
        self.rows = tuple(rows)
        self.list.load(
            [self._row(row) for row in self.rows],
            row=self._first(),
            empty="no setting differs: d shows all" if not self.filter else "nothing passes",
        )

    def _first(self) -> int | None:
        """Return the row to begin at: what the finding speaks of, or the first setting."""
        app = self.tracediff
        if app.setting_wanted:
            app.setting_wanted = False
            for number, row in enumerate(self.rows):
                if isinstance(row, Setting) and row.finding == app.finding:
                    return number
        here = self.list.row
        begins = not self.list.count or (here == 0 and len(self.rows) > 1)
        return 1 if begins and len(self.rows) > 1 else None

    @staticmethod
    def _section(row: Setting | str) -> str:
        return row if isinstance(row, str) else row.section

    def _row(self, row: Setting | str) -> Row:
        if isinstance(row, str):
            return Row(("", row, "", "", ""), style="bold")
        mark = _PLAIN.get(row.mark, row.mark) if self.tracediff.options.plain else row.mark
        same = row.mark in ("=", "≈")
        return Row(
            (mark, f"  {row.key}", row.a, row.b, self._code(row)), style="dim" if same else ""
        )

    def _code(self, row: Setting) -> str:
        found = self.tracediff.found
        if row.finding is None or found is None:
            return ""
        return found.comparison.causes[row.finding].code

    def status(self) -> str:
        """Return the setting under the cursor in full."""
        if not self.rows:
            return ""
        row = self.rows[self.list.row]
        if isinstance(row, str):
            return row
        if self.tracediff.b is None:
            return f"{row.section} · {row.key} · {row.a}"
        return f"{row.section} · {row.key} · A {row.a} · B {row.b} {self._code(row)}"

    def sheet(self) -> Sheet:
        """Return the settings shown."""
        found = self.tracediff.found
        rows = tuple(row for row in self.rows if isinstance(row, Setting))
        return settings_sheet(rows, found.comparison if found else None)

    def action_open(self) -> None:
        """Go to the finding that speaks of the setting."""
        row = self.rows[self.list.row] if self.rows else None
        if isinstance(row, Setting) and row.finding is not None:
            self.tracediff.finding = row.finding
            self.tracediff.go("findings")
        else:
            self.tell("no finding speaks of this")

    def action_jump(self, by: int) -> None:
        """Go to the next setting that differs."""
        row = self.list.row + by
        while 0 <= row < len(self.rows):
            one = self.rows[row]
            if isinstance(one, Setting) and one.mark not in ("=", "≈"):
                self.list.select(row)
                return
            row += by
        self.tell("no more differences")

    def action_all(self) -> None:
        """Show all settings, or those that differ."""
        self.everything = not self.everything
        self.show()
