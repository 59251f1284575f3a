"""The live view of a search: a line for every finished trial, and on a terminal a bar below them."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from nas_cntk.architecture import Architecture
from nas_cntk.records.trials import Finished
from nas_cntk.report import text
from nas_cntk.report.describe import summary
from nas_cntk.search.session import Plan

_WORDS = 40  # columns beside the bar, which leave room in 80 for the ^C that a terminal echoes


class LiveView:
    """Shows a session on a console; plain lines where that is no terminal.

    The bar is redrawn four times a second at most, below the lines, and is gone at the end: nothing flickers and
    nothing remains in a scrolled-back terminal but the lines.
    """

    def __init__(self, console: Console, db: str) -> None:
        self._console = console
        self._db = db
        self._plan: Plan | None = None
        self._done = 0
        self._best: float | None = None
        self._waited = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> LiveView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begins(self, plan: Plan) -> None:
        """Show what is about to be done and what it will cost."""
        self._plan, self._done, self._best = plan, plan.finished, plan.best
        bench, study = plan.bench, plan.study
        shape = "x".join(map(str, bench.dataset.image_shape))
        what = "new study" if plan.new else "continuing study"
        done = "" if plan.new else f": {plan.finished} of {study.target} trials finished"
        self._print(f"{what} {study.name} in {self._db}{done}")
        self._print(
            f"data {bench.dataset.spec}: {len(bench.dataset.x_train)} training images of {shape},"
            f" {bench.dataset.num_classes} classes; subset {bench.subset}, held out {bench.holdout}"
        )
        for note in bench.split.notes:
            self._print(f"note: {note}")
        self._print(
            f"space {plan.space.name}, sampler {study.sampler['name']}, score {','.join(bench.problem.score)},"
            f" backend {bench.backend}, seed {bench.problem.seed}"
        )
        if plan.changed:
            self._print(f"changed since the last run, and recorded: {', '.join(plan.changed)}")
        for line in forecast_lines(plan):
            self._print(line)
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
                refresh_per_second=4,
            )
            self._bar.start()

    def trial_begins(self, ordinal: int, architecture: Architecture, predicted: float) -> None:
        """Set the bar to a new trial."""
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            assert self._plan is not None
            words = f"{self._done + 1}/{self._plan.study.target} {summary(architecture)}"
            about = f", about {text.duration(predicted)}"
            self._task = self._bar.add_task(words[: _WORDS - len(about)] + about, total=1.0)

    def progress(self, fraction: float) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=fraction)

    def trial_ends(self, trial: Finished) -> None:
        """Print the trial's line, with the best score so far."""
        assert self._plan is not None
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        self._done += 1
        target = self._plan.study.target
        head = f"{self._done:>{len(str(target))}}/{target}"
        verdict = trial.verdict
        if verdict.outcome != "COMPLETE" or trial.score is None:
            self._print(f"{head}  pruned, {verdict.reason}", style="dim")
            return
        kind = self._plan.bench.scores[0]
        value = trial.score.values[kind.name]
        better = self._best is None or (value > self._best if kind.direction == "maximize" else value < self._best)
        self._best = value if better else self._best
        words = [f"{kind.name} {text.score(kind.name, value)}"]
        words += [f"{k.name} {text.score(k.name, trial.score.values[k.name])}" for k in self._plan.bench.scores[1:]]
        words.append("best so far" if better else f"best {text.score(kind.name, self._best)}")
        if verdict.duplicate_of is not None:
            words.append(str(verdict.reason))
        else:
            words.append(text.duration(verdict.seconds))
            if trial.architecture is not None:
                words.append(summary(Architecture.from_json(trial.architecture)))
        self._print(f"{head}  {'  '.join(words)}", style="bold" if better else None)

    def waits(self, working: int) -> None:
        """Say, once a minute, that other processes hold the last trials."""
        if time.monotonic() - self._waited > 60 or not self._waited:
            self._waited = time.monotonic()
            self._print(f"waiting for {working} trial(s) of other processes")

    def _print(self, line: str, style: str | None = None) -> None:
        # Off a terminal a line stays one line, for programs; on one it is folded between words.
        self._console.print(Text(line, style=style or ""), soft_wrap=not self._console.is_terminal)


def forecast_lines(plan: Plan) -> list[str]:
    """Return what the search is predicted to cost."""
    seen, left = plan.forecast, plan.study.target - plan.finished
    if plan.study.rate is None:
        return ["predicted: no kernel is needed, every trial takes an instant"]
    lines = [
        f"predicted: {text.duration(seen.least)} to {text.duration(seen.most)} a trial,"
        f" about {text.duration(seen.total(left))} for {left} trials"
        f" (at {plan.study.rate:.2g} entry-layers/s)"
    ]
    if seen.dear:
        lines.append(
            f"note: {seen.dear} of {seen.proposals} proposals tried are predicted beyond"
            f" {text.duration(plan.max_trial_seconds)} and would be skipped; --max-trial-seconds raises the limit,"
            " a smaller --subset or --image-size lowers the cost"
        )
    return lines
