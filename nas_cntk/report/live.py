"""The live view of a search: a line for every finished trial, and on a terminal a panel below them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import PurePath

from rich.console import Console
from rich.text import Text

from nas_cntk.architecture import Architecture
from nas_cntk.records.leases import Working
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Finished
from nas_cntk.report import text
from nas_cntk.report.bar_view import BarView
from nas_cntk.report.describe import summary
from nas_cntk.report.panel import has_letters
from nas_cntk.report.progress import Course, Running, lines_of, seconds_left
from nas_cntk.search import rungs
from nas_cntk.search.session import Plan

WAITS_SAID = 60.0  # seconds between lines on waiting for other processes


class LiveView(BarView):
    """Shows a session on a console; plain lines where that is no terminal.

    The panel is below the lines and gone at the end: nothing remains in a scrolled-back terminal but the lines.
    """

    def __init__(self, console: Console, db: str) -> None:
        super().__init__(console, db)
        self._plan: Plan | None = None
        self._done = 0
        self._best = Best("maximize")
        self._began = 0.0
        self._trial: tuple[int, str, float, float] | None = None  # number, words, predicted, when it began
        self._fraction = 0.0
        self._passed: tuple[int, int] | None = None  # the last trial begun, and the networks of its pass
        self._waiting, self._waited = 0, 0.0
        self._working: tuple[Working, ...] = ()  # processes, where there are several

    def begins(self, plan: Plan) -> None:
        """Show what is about to be done and what it will cost."""
        self._plan, self._done, self._began = plan, plan.finished, time.monotonic()
        self._best = Best(plan.bench.scores[0].direction)
        for number, value in plan.earlier:
            self._best.add(number, value)
        for line in plan_lines(plan, self._db):
            self._print(line)
        self._open()

    def trial_begins(self, number: int, architecture: Architecture, predicted: float, others: int) -> None:
        """Show a new trial in the panel."""
        words = summary(architecture) + (f", {others} more in the same pass" if others else "")
        self._trial, self._fraction, self._waiting = (number, words, predicted, time.monotonic()), 0.0, 0
        self._passed = number, others + 1
        self._refresh()

    def progress(self, fraction: float) -> None:
        """Move its bar."""
        self._fraction = fraction

    def trial_ends(self, trial: Finished) -> None:
        """Print the trial's line, with the best score so far."""
        assert self._plan is not None
        self._trial, self._fraction, self._waiting = None, 0.0, 0
        self._done += 1
        names = [kind.name for kind in self._plan.bench.scores]
        better = self._best.takes(trial, names[0])
        networks = self._passed[1] if self._passed is not None and self._passed[0] == trial.number else 1
        target = self._plan.study.target
        line = trial_line(trial, names, self._done, target, self._best, better, self._room(), networks)
        pruned = trial.verdict.outcome != "COMPLETE"
        self._print(line, "dim" if pruned else "bold" if better else None)
        if pruned and (trial.verdict.reason or "").startswith("failed:"):
            self._warned.append(f"trial {trial.number} {trial.verdict.reason}")

    def waits(self, working: int) -> None:
        """Say, once a minute, that other processes hold the last trials."""
        self._waiting = working
        if time.monotonic() - self._waited > WAITS_SAID or not self._waited:
            self._waited = time.monotonic()
            self._print(f"waiting for {working} trial(s) of other processes")

    def workers(self, working: Sequence[Working]) -> None:
        """Show in the panel who works on what."""
        self._working = tuple(working)
        self._refresh()

    def worker_died(self, pid: int, how: str) -> None:
        """Say that a worker was killed."""
        self._print(f"worker {pid} was killed ({how}); its trial comes again, and another takes its place")

    def _room(self) -> int | None:
        return self._console.width if self._console.is_terminal else None

    def _lines(self, width: int) -> Sequence[Text]:
        plan, trial, fraction = self._plan, self._trial, self._fraction
        if plan is None:
            return super()._lines(width)
        now, target = time.monotonic(), plan.study.target
        running = [under_way(one, f"process {one.pid}") for one in self._working if one.number is not None]
        if trial is not None:
            number, words, predicted, began = trial
            running = [Running(number, words, now - began, predicted, fraction)]
        parts = fraction if trial is not None else 0.0
        ahead = target - plan.finished
        left = seconds_left(
            target - self._done - parts,
            plan.forecast.total(ahead) / max(1, ahead),
            now - self._began,
            self._done - plan.finished + parts,
        )
        state = f"waiting for {self._waiting} trial(s) of other processes" if self._waiting else "proposing"
        course = Course(
            title=title(
                plan.study,
                plan.bench.dataset.spec,
                plan.bench.dataset.image_shape,
                plan.space.name,
                plan.bench.backend,
            ),
            score=plan.bench.scores[0].name,
            finished=self._done,
            target=target,
            best=self._best.value,
            best_trial=self._best.trial,
            bests=self._best.history,
            running=running,
            left=left,
            state=state,
            warnings=tuple(self._warned),
        )
        return lines_of(course, width, plain=not has_letters(self._console))


def under_way(one: Working, who: str, passed: float = 0.0) -> Running:
    """Return a trial of another process as a panel shows it.

    Args:
        who: the process, in words.
        passed: seconds since `one` was read.
    """
    seconds = (one.seconds or 0.0) + passed
    if one.architecture is None:
        return Running(one.number, who, seconds)
    words = f"{summary(Architecture.from_json(one.architecture))}  {who}"
    return Running(one.number, words, seconds, one.predicted_seconds)


class Best:
    """The best score so far, whose it is, and how it came about."""

    def __init__(self, direction: str) -> None:
        self._sign = 1.0 if direction == "maximize" else -1.0
        self.value: float | None = None
        self.trial: int | None = None
        self.history: list[float] = []  # the best after each score

    def add(self, number: int, value: float) -> bool:
        """Take a score in; returns whether it is the best so far."""
        better = self.value is None or self._sign * value > self._sign * self.value
        if better:
            self.value, self.trial = value, number
        assert self.value is not None
        self.history.append(self.value)
        return better

    def takes(self, trial: Finished, name: str) -> bool:
        """Take a finished trial in; returns whether it is the best so far."""
        if trial.verdict.outcome != "COMPLETE" or trial.score is None:
            return False
        return self.add(trial.number, trial.score.values[name])


def trial_line(
    trial: Finished,
    names: Sequence[str],
    done: int,
    target: int,
    best: Best,
    better: bool,
    room: int | None,
    networks: int = 1,
) -> str:
    """Return the line of a finished trial; the architecture is left out where it does not fit into `room` columns.

    `networks` were scored in one pass, of whose time the trial has its share.
    """
    verdict = trial.verdict
    digits = len(str(target))
    head = f"{done:>{digits}}/{target}  trial {trial.number:<{len(str(max(0, target - 1)))}}"
    if verdict.outcome != "COMPLETE" or trial.score is None:
        return f"{head}  pruned, {verdict.reason}"
    values = trial.score.values
    words = [text.score(names[0], values[names[0]])]
    if len(names) > 1:
        words = [f"{name} {text.score(name, values[name])}" for name in names]
    words.append("best so far" if better else f"best {text.score(names[0], best.value)}")
    if verdict.duplicate_of is not None:
        words.append(str(verdict.reason))
    else:
        words.append(text.duration(verdict.seconds) + (f" x {networks}" if networks > 1 else ""))
        if verdict.sibling_of is not None:
            words.append(f"with trial {verdict.sibling_of}")
    line = f"{head}  {'  '.join(words)}"
    if verdict.duplicate_of is None and trial.architecture is not None:
        what = summary(Architecture.from_json(trial.architecture))
        if room is None or len(line) + len(what) + 2 <= room:
            line += f"  {what}"
    return line


def title(study: Study, data: str, shape: Sequence[object], space: str, backend: str) -> str:
    """Return the study, its data, its space, and the backend with its measured rate, in a line."""
    kind, colon, path = data.partition(":")
    name = f"{kind}:{PurePath(path).name}" if colon else kind
    rate = "" if study.rate is None else f" at {study.rate:.2g} entry-layers/s"
    return f"{study.name} · {name} {'x'.join(map(str, shape))} · {space} · {backend}{rate}"


def plan_lines(plan: Plan, db: str) -> list[str]:
    """Return what is about to be done, and what it is predicted to cost."""
    bench, study = plan.bench, plan.study
    shape = "x".join(map(str, bench.dataset.image_shape))
    what = "new study" if plan.new else "continuing study"
    done = "" if plan.new else f": {plan.finished} of {study.target} trials finished"
    lines = [
        f"{what} {study.name} in {db}{done}",
        f"data {bench.dataset.spec}: {len(bench.dataset.x_train)} training images of {shape},"
        f" {bench.dataset.num_classes} classes; subset {bench.subset}, held out {bench.holdout}",
    ]
    lines += [f"note: {note}" for note in bench.split.notes]
    lines.append(
        f"space {plan.space.name}, sampler {study.sampler['name']}, score {','.join(bench.problem.score)},"
        f" backend {bench.backend}, seed {bench.problem.seed}"
    )
    if plan.manner.prune_level > 0:
        parts, level = ", ".join(map(str, bench.rungs(plan.manner))), f"{plan.manner.prune_level:g}"
        by = f"level {level}" if bench.problem.score[0] in rungs.PAIRED else f"behind the {level} quantile"
        if parts:
            lines.append(f"candidates are dropped at rungs {parts} of {bench.subset} images, {by}")
        else:
            lines.append("note: no candidate is dropped early: that takes one score, and one of the kernel alone")
    start = study.config.get("start")
    if isinstance(start, dict):
        numbers = ", ".join(map(str, start["trials"]))
        lines.append(
            f"the first {len(start['trials'])} proposals are those of study {start['study']}: trials {numbers}"
        )
    if plan.manner.batch > 1:
        lines.append(f"{plan.manner.batch} proposals are asked for at once")
    if plan.bench.cluster is not None:
        threads = plan.bench.cluster.threads()
        lines.append(f"candidates are scored by a Dask cluster of {threads} thread{'s' * (threads != 1)}, one a task")
    if plan.changed:
        lines.append(f"changed since the last run, and recorded: {', '.join(plan.changed)}")
    return [*lines, *forecast_lines(plan)]


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
