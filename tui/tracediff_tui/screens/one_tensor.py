"""What the screens of one tensor share: step, moment, and what is known without elements."""

from __future__ import annotations

from tracediff_tui.screens.base import View
from tracediff_tui.views.places import Shown, Spot
from tracediff_tui.views.summaries import Summary
from tracediff_tui.widgets.known import KnownPane
from tracediff_tui.widgets.listing import Listing
from tracediff_tui.widgets.panel import Panel

_MOMENTS: tuple[Shown, ...] = ("after", "before", "update")


class OneTensor(View):
    """A screen of one tensor at one step.

    Attributes:
        summary: What is known of it over the steps, where it has no elements here.
        no_more: What is said where no step follows that is worth a look.
    """

    no_more = "no more steps that differ"

    def __init__(self) -> None:
        super().__init__()
        self.summary: Summary | None = None

    @property
    def known(self) -> KnownPane:
        """What there is where no elements were kept."""
        return self.query_one(KnownPane)

    @property
    def elements_list(self) -> Listing:
        """The elements that are listed."""
        return self.query_one("#list", Listing)

    def home_pane(self) -> Panel:
        """Return the elements, or the steps where there are none."""
        return self.known.steps if self.summary is not None else self.elements_list

    def is_state(self, spot: Spot) -> bool:
        """Say whether the tensor has a value before and after a step."""
        raise NotImplementedError

    def draw_known(self, summary: Summary) -> None:
        """Show what is known without elements."""
        plain, tall = self.tracediff.options.plain, self.has_class("-tall")
        self.known.load(summary, self.size.width, plain=plain, tall=tall)

    def jump_known(self, by: int) -> bool:
        """Go to the next step that is worth a look; say whether there are no elements to go to."""
        if self.summary is None:
            return False
        step = self.summary.next(self.summary.spot.step, by)
        if step is None:
            self.tell(self.no_more)
        else:
            self.action_step(step - self.summary.spot.step)
        return True

    def open_known(self) -> bool:
        """Go to the step under the cursor; say whether there are no elements to go to."""
        if self.summary is None:
            return False
        self.action_step(self.known.steps.row - self.summary.spot.step)
        return True

    def action_step(self, by: int) -> None:
        """Go to another step, at the same tensor."""
        app = self.tracediff
        if app.spot is None or not app.steps:
            return
        step = max(0, min(app.spot.step + by, app.steps - 1))
        if step != app.spot.step:
            app.spot = Spot(app.spot.key, step, app.spot.shown)
            self.show()

    def action_moment(self) -> None:
        """Look at the state after the step, before it, or at the update."""
        app = self.tracediff
        if app.spot is None:
            return
        if not self.is_state(app.spot):
            self.tell("only state has a value before and after a step")
            return
        shown = _MOMENTS[(_MOMENTS.index(app.spot.shown) + 1) % len(_MOMENTS)]
        app.spot = Spot(app.spot.key, app.spot.step, shown)
        self.show()
