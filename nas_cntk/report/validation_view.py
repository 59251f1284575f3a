"""The live view of a validation: what it will cost, a line for every result, and on a terminal a panel below them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from nas_cntk.records.validations import Validation
from nas_cntk.report import text
from nas_cntk.report.bar_view import BarView
from nas_cntk.report.describe import summary
from nas_cntk.report.live import Best
from nas_cntk.report.panel import has_letters
from nas_cntk.report.progress import Course, Running, lines_of
from nas_cntk.validate.forecast import Unit
from nas_cntk.validate.session import Plan

_SAID_EVERY = 60.0  # seconds between lines on a unit under way, off a terminal
_BEFORE_REMAINING = 0.03  # of a unit, below which its own pace says less than the prediction


class ValidationView(BarView):
    """Shows a validation on a console; plain lines where that is no terminal."""

    def __init__(self, console: Console, db: str) -> None:
        super().__init__(console, db)
        self._plan: Plan | None = None
        self._done = 0
        self._unit: tuple[Unit, float] | None = None
        self._left_after = 0.0  # seconds predicted for the units after this one
        self._began, self._first, self._said = 0.0, 0.0, 0.0
        self._title = ""
        self._running: Running | None = None
        self._left: float | None = None  # seconds, in all
        self._best = Best("maximize")

    def measures(self, done: int, total: int) -> None:
        """Say that timings are taken."""
        if not done:
            self._print(f"timing {total} parts, about a second each")
        self._show(f"timing {done + 1} of {total}", done / total)

    def begins(self, plan: Plan) -> None:
        """Show what is about to be done and what it will cost."""
        self._hide()
        self._plan = plan
        self._left_after = plan.total()
        bench, wishes = plan.bench, plan.bench.wishes
        dataset = bench.images.dataset
        shape = "x".join(map(str, dataset.image_shape))
        where = [f"CNNs on {bench.devices.train}"] if "cnn" in wishes.kinds else []
        where += [f"kernels on {bench.backend}"] if "kernel" in wishes.kinds else []
        self._title = " · ".join([bench.study.name, f"{dataset.name} {shape}", "validation", *where])
        self._print(
            f"study {bench.study.name} in {self._db}: {len(plan.candidates)} architectures, trials"
            f" {', '.join(str(candidate.number) for candidate in plan.candidates)}"
        )
        self._print(
            f"data {dataset.spec}: {len(dataset.y_train):,} training and {len(dataset.y_test):,} test images"
            f" of {shape}, {dataset.num_classes} classes"
        )
        for note in (*plan.notes, *plan.sizes.notes):
            self._print(f"note: {note}")
        if plan.known:
            self._print(f"{len(plan.known)} results are recorded already; --force computes them again")
        kinds = [kind for kind in wishes.kinds if any(one.kind == kind for one in plan.units)]
        for kind in kinds:
            count = sum(one.kind == kind for one in plan.units)
            self._print(f"predicted: {text.duration(plan.total(kind))} for {count} {self._what(plan, kind)}")
        if len(kinds) > 1:
            self._print(f"predicted: {text.duration(plan.total())} in all")

    def unit_begins(self, one: Unit, predicted: float) -> None:
        """Show a bar for the unit."""
        self._unit = one, predicted
        self._left_after = max(0.0, self._left_after - predicted)
        self._began, self._first, self._said = time.monotonic(), -1.0, time.monotonic()
        self.progress(0.0)

    def progress(self, fraction: float) -> None:
        """Bring the bar up to date."""
        assert self._plan is not None and self._unit is not None
        one, predicted = self._unit
        now = time.monotonic()
        if fraction > 0 and self._first < 0:
            self._first, self._began = fraction, now  # a resumed unit does not begin at 0
        done = fraction - max(0.0, self._first)
        left = predicted * (1 - fraction)
        if done > _BEFORE_REMAINING:
            left = (now - self._began) * (1 - fraction) / done
        words = f"trial {one.candidate.number} {_kind(one.kind)}"
        new = self._running is None
        self._left = left + self._left_after
        self._running = Running(one.candidate.number, _kind(one.kind), now - self._began, predicted, fraction, left)
        self._open()
        if new:
            self._refresh()
        ahead = f"{text.duration(left)} left, {text.duration(self._left)} in all"
        if not self._console.is_terminal and now - self._said > _SAID_EVERY:
            self._said = now
            self._print(f"{words}: {100 * fraction:.0f} %, {ahead}")

    def unit_ends(self, one: Unit, found: Validation) -> None:
        """Print the unit's line."""
        assert self._plan is not None and self._unit is not None
        self._running = None
        self._done += 1
        if found.accuracy is not None:
            self._best.add(found.number, found.accuracy)
        total = len(self._plan.units)
        kind = "kernel" if found.kind == "kernel" else f"CNN {found.recipe}"
        result = "diverged" if found.accuracy is None else text.score("accuracy", found.accuracy, found.stderr)
        best = found.details.get("best_on_test")
        if isinstance(best, float):
            result += f" (best on test {text.score('accuracy', best)})"
        line = (
            f"{self._done:>{len(str(total))}}/{total}  trial {found.number:<3} {kind:<12}  {result}"
            f"  {text.duration(found.seconds)} (predicted {text.duration(self._unit[1])})"
        )
        what = f"  {summary(one.candidate.architecture)}"
        fits = not self._console.is_terminal or len(line) + len(what) <= self._console.width
        self._print(line + what if fits else line)

    def _lines(self, width: int) -> Sequence[Text]:
        plan, running = self._plan, self._running
        if plan is None:
            return super()._lines(width)  # timings are taken
        course = Course(
            title=self._title,
            score="accuracy",
            finished=self._done,
            target=len(plan.units),
            best=self._best.value,
            best_trial=self._best.trial,
            bests=self._best.history,
            running=() if running is None else (running,),
            left=self._left,
            warnings=tuple(self._warned),
        )
        return lines_of(course, width, plain=not has_letters(self._console))

    def _what(self, plan: Plan, kind: str) -> str:
        sizes = plan.sizes
        if kind == "kernel":
            return f"full kernels of {sizes.kernel:,} images, tested on {sizes.kernel_test:,}"
        wishes = plan.bench.wishes
        grid = ", a grid of 12 each" if wishes.recipe == "paper" else ""
        return (
            f"CNNs ({wishes.recipe} recipe{grid}): {sizes.cnn:,} images, {wishes.epochs_of_recipe} epochs,"
            f" width {wishes.width_of_recipe}, on {plan.bench.devices.train}"
        )


def _kind(kind: str) -> str:
    return "CNN" if kind == "cnn" else "kernel"
