"""The live view of a run: what it will cost, a line for every cell, and on a terminal a bar below them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console

from nas_cntk.paper.rows import DONE, Row
from nas_cntk.paper.session import Plan, Planned
from nas_cntk.report import text
from nas_cntk.report.bar_view import BarView

_SAID_EVERY = 60.0  # seconds between lines on a unit under way, off a terminal
_BEFORE_REMAINING = 0.03  # of a unit, below which its own pace says less than the prediction


class PaperView(BarView):
    """Shows a run on a console; plain lines where that is no terminal."""

    def __init__(self, console: Console, db: str) -> None:
        super().__init__(console, db)
        self._what = ""
        self._predicted = 0.0
        self._began, self._first, self._said = 0.0, -1.0, 0.0

    def measures(self, what: str) -> None:
        """Say that a timing is taken."""
        self._show(f"predicting {what}", 0.0, "")

    def begins(self, plans: Sequence[Plan]) -> None:
        """Show what is about to be done and what it will cost."""
        self._hide()
        bench = plans[0].bench
        raw = bench.source.raw
        shape = "x".join(map(str, raw.image_shape))
        self._print(
            f"data {raw.spec}: {len(raw.y_train):,} training and {len(raw.y_test):,} test images of {shape},"
            f" {raw.num_classes} classes; kernel backend {bench.backend}; results in {self._db}"
        )
        for plan in plans:
            for one in plan.units:
                for line in _unit_lines(plan, one, many=len(plans) > 1):
                    self._print(line)
        seconds = sum(plan.seconds for plan in plans)
        if any(one.missing and not one.left_out for plan in plans for one in plan.units):
            disk = max((u.forecast.disk for p in plans for u in p.units if u.missing and not u.left_out), default=0.0)
            room = f", and {_bytes(disk)} of disk while kernels are solved" if disk else ""
            self._print(f"predicted: {text.duration(seconds)} in all{room}")
        else:
            self._print("nothing to compute")

    def unit_begins(self, plan: Plan, one: Planned) -> None:
        """Show a bar for the unit."""
        self._what, self._predicted = f"{plan.experiment} {one.unit.name}", one.forecast.seconds
        self._began, self._first, self._said = time.monotonic(), -1.0, time.monotonic()
        self.progress(0.0)

    def progress(self, fraction: float) -> None:
        """Bring the bar up to date."""
        now = time.monotonic()
        if fraction > 0 and self._first < 0:
            self._first, self._began = fraction, now  # a resumed unit does not begin at 0
        done = fraction - max(0.0, self._first)
        left = self._predicted * (1 - fraction)
        if done > _BEFORE_REMAINING:
            left = (now - self._began) * (1 - fraction) / done
        ahead = f"{text.duration(left)} left"
        self._show(self._what, fraction, ahead)
        if not self._console.is_terminal and now - self._said > _SAID_EVERY:
            self._said = now
            self._print(f"{self._what}: {100 * fraction:.0f} %, {ahead}")

    def cell_ends(self, row: Row) -> None:
        """Print the cell's line."""
        self._hide()
        if row.state != DONE:
            found = f"{row.state}{': ' if row.reason else ''}{row.reason}"
        elif row.accuracy is not None:
            found = text.score("accuracy", row.accuracy, row.standard_error)
            found += f"  (paper {text.score('accuracy', row.paper)})" if row.paper is not None else ""
        else:
            found = f"distance {row.number('distance'):.4f} ± {row.number('distance_error') or 0:.4f}"
        kappa, width = row.number("kappa"), row.number("width")
        where = f"depth {row.depth}"
        if row.accuracy is None and width is not None:
            where += f"  width {width:g}" + (f"  kappa {kappa:g}" if kappa is not None else "")
        seconds = f"  {text.duration(row.seconds)}" if row.seconds is not None else ""
        self._print(f"{row.experiment} {row.column:<11}  {where:<8}  {found}{seconds}")


def _unit_lines(plan: Plan, one: Planned, *, many: bool) -> list[str]:
    cells = one.unit.cells
    name = f"{plan.experiment} {one.unit.name}" if many else one.unit.name
    depths = ", ".join(str(depth) for depth in sorted({cell.depth for cell in cells}))
    known = len(cells) - len(one.missing)
    if not one.missing:
        cost = "recorded already"
    elif one.left_out:
        cost = f"left out: {one.left_out}"
    else:
        cost = f"about {text.duration(one.forecast.seconds)}"
        cost += f" ({known} of {len(cells)} cells are recorded already)" if known else ""
    lines = [f"{name}, depth {depths}, {cells[0].size.words()}: {cost}"]
    return [*lines, f"note: {one.forecast.note}"] if one.forecast.note and one.missing else lines


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
