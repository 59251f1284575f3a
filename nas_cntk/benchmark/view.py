"""The live view of a benchmark: what it will cost, and a bar for the part under way."""

from __future__ import annotations

import time

from rich.console import Console

from nas_cntk.benchmark.bench import KERNELS, TRAINING
from nas_cntk.benchmark.session import Plan
from nas_cntk.report import text
from nas_cntk.report.bar_view import BarView

_SAID_EVERY = 60.0  # seconds between lines on a part under way, off a terminal


class BenchmarkView(BarView):
    """Shows a run on a console; plain lines where that is no terminal."""

    def __init__(self, console: Console, db: str) -> None:
        super().__init__(console, db)
        self._part, self._cells, self._predicted = "", 0, 0.0
        self._began = self._said = 0.0

    def begins(self, plan: Plan) -> None:
        """Show what is about to be done and what it will cost."""
        wishes, dead = plan.wishes, sum(not cell.live for cell in plan.cells)
        rows = f"{len(plan.table.cells):,} cells with a {wishes.target}"
        rows += f" ({plan.table.blank:,} rows without)" if plan.table.blank else ""
        self._print(
            f"table {wishes.table}: {rows}; sample of {len(plan.cells):,} with seed {wishes.seed}:"
            f" {plan.distinct:,} distinct, {dead} dead" + ("; each network counts once" if wishes.distinct else "")
        )
        stage = "one cell a stage" if wishes.cells_per_stage == 1 else f"{wishes.cells_per_stage} cells a stage"
        self._print(
            f"data {wishes.data}: kernels on {plan.subset:,} + {plan.holdout:,} images of"
            f" {wishes.image_size}x{wishes.image_size}, {stage}, backend {plan.backend}; results in {self._db}"
        )
        for note in plan.notes:
            self._print(f"note: {note}")
        if not any(plan.missing.values()):
            self._print("nothing to compute")
            return
        for part, cells in plan.missing.items():
            if cells:
                limit = f" (ends after {text.duration(wishes.train_seconds)})" if part == TRAINING else ""
                self._print(f"{_words(part)}: {cells:,} cells, about {text.duration(plan.seconds[part])}{limit}")
        self._print(f"predicted: {text.duration(sum(plan.seconds.values()))} in all")

    def part_begins(self, part: str, cells: int, seconds: float) -> None:
        """Show a bar for the part."""
        self._part, self._cells, self._predicted = part, cells, seconds
        self._began = self._said = time.monotonic()
        self.progress(0.0)

    def progress(self, cells: float) -> None:
        """Bring the bar up to date."""
        now = time.monotonic()
        spent = now - self._began
        left = self._predicted * (1 - cells / self._cells)
        if cells >= 1:  # its own pace says more than the prediction
            left = spent / cells * (self._cells - cells)
        ahead = f"{int(cells):,} of {self._cells:,} cells, {text.duration(left)} left"
        self._show(_words(self._part), cells / self._cells, ahead)
        if not self._console.is_terminal and now - self._said > _SAID_EVERY:
            self._said = now
            self._print(f"{_words(self._part)}: {ahead}")

    def part_ends(self, part: str, cells: int, seconds: float) -> None:
        """Print the part's line."""
        self._hide()
        each = f", {text.duration(seconds / cells)} a cell" if cells else ""
        self._print(f"{_words(part)}: {cells:,} cells in {text.duration(seconds)}{each}")


def _words(part: str) -> str:
    return "exact kernels" if part == KERNELS else part
