"""Watching a study that another process searches: its records are read again every second, and never written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from rich.console import Console
from rich.text import Text

from nas_cntk.architecture import Architecture
from nas_cntk.records import leases, studies, trials
from nas_cntk.records.database import Records
from nas_cntk.records.leases import Working
from nas_cntk.records.migrations import open_records
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Finished
from nas_cntk.report import text
from nas_cntk.report.bar_view import BarView
from nas_cntk.report.describe import summary
from nas_cntk.report.json_lines import JsonLines
from nas_cntk.report.live import Best, title, trial_line, under_way
from nas_cntk.report.panel import WIDEST, has_letters
from nas_cntk.report.progress import Course, lines_of
from nas_cntk.report.rows import directions_of, row_of

POLL = 1.0  # seconds
BEFORE = 5  # trials finished before, whose lines are shown at first
IDLE_LOOKS = 5  # at which nobody worked on a trial, after which a search is said to be idle
PACE = 21  # trials that the time left is judged by
PAUSE = 3600.0  # seconds without a finished trial after which a search went on anew


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A study at one moment."""

    study: Study
    finished: tuple[Finished, ...]  # by the time at which they were finished
    working: tuple[Working, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing more is to come."""
        return len(self.finished) >= self.study.target

    @property
    def names(self) -> list[str]:
        """The scores of the study; the first ranks."""
        return list(directions_of(self.study))

    def best(self, count: int | None = None) -> Best:
        """Return the best of the first `count` finished trials, or of all."""
        found = Best(directions_of(self.study)[self.names[0]])
        for trial in self.finished[:count]:
            found.takes(trial, self.names[0])
        return found

    def seconds_left(self) -> float | None:
        """Return the seconds to go at the pace of the last trials; None before two are finished.

        The pace is of the clock, as the trials of one pass end together, and networks are scored that are no trials.
        """
        ends = [datetime.fromisoformat(str(trial.completed)) for trial in self.finished[-PACE:]]
        gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(ends)]
        going = len(gaps)  # those since the search went on after a pause
        while going and gaps[going - 1] <= PAUSE:
            going -= 1
        gaps = gaps[going:]
        if not gaps:
            return None
        each = sum(gaps) / len(gaps)
        begun = min(each, max((one.seconds or 0.0 for one in self.working), default=0.0))
        return max(0.0, each * (self.study.target - len(self.finished)) - begun)


@contextmanager
def opened(db: str) -> Iterator[Records]:
    """Open the records to read them."""
    records = open_records(db, write=False)
    try:
        yield records
    finally:
        records.close()


def snapshot(records: Records, name: str | None, before: Snapshot | None = None) -> Snapshot:
    """Return the study called `name` as it is now, the newest if None.

    Raises:
        StudyError: if there is no such study, or not any more.
    """
    study = studies.find_study(records, name)
    with records.transaction() as connection:
        count = studies.count_finished(connection, study.study_id)
    if before is not None and count == len(before.finished):
        finished = before.finished  # so that a long study is not read anew every second
    else:
        found = trials.finished_trials(records, study.study_id)
        finished = tuple(sorted(found, key=lambda trial: (str(trial.completed), trial.ordinal)))
    return Snapshot(study, finished, tuple(leases.working(records, study.study_id)))


def watch(records: Records, name: str | None, view: WatchView | WatchLines, *, once: bool) -> Snapshot:
    """Show a study until it is complete, or its present state alone.

    Raises:
        StudyError: if there is no such study, or not any more.
        KeyboardInterrupt: on Ctrl-C.
    """
    now = snapshot(records, name)
    view.begins(now, once=once)
    while not once and not now.complete:
        time.sleep(POLL)
        before, now = now, snapshot(records, now.study.name, now)
        view.changes(before, now)
    return now


class WatchView(BarView):
    """A study on a console: the last trials, those that finish while it watches, and on a terminal a panel."""

    def __init__(self, console: Console, db: str) -> None:
        super().__init__(console, db)
        self._now: tuple[Snapshot, Best, float] | None = None  # and when it was taken
        self._idle, self._idle_looks = False, 0
        self.changed = False  # while it watched

    def begins(self, now: Snapshot, *, once: bool) -> None:
        """Show the study as it is."""
        count, target = len(now.finished), now.study.target
        self._print(f"study {now.study.name} in {self._db}: {count} of {target} trials finished")
        if count > BEFORE:
            self._print(f"the last {BEFORE}:")
        self._trials(now, max(0, count - BEFORE))
        self._take(now)
        if once:
            width = self._console.width - 1 if self._console.is_terminal else WIDEST
            for line in self._lines(width)[1:]:
                self._print(line.plain)
        else:
            self._idle_looks = IDLE_LOOKS  # at first there is nothing to wait for
            self._say_idle(now)
            self._open()

    def changes(self, before: Snapshot, now: Snapshot) -> None:
        """Show what is new."""
        self.changed = True
        if now.study.target != before.study.target:
            self._print(f"the total is {now.study.target} trials now")
        self._trials(now, len(before.finished))
        self._take(now)
        self._say_idle(now)

    def _trials(self, now: Snapshot, first: int) -> None:
        room = self._console.width if self._console.is_terminal else None
        best = now.best(first)
        for done, trial in enumerate(now.finished[first:], start=first + 1):
            better = best.takes(trial, now.names[0])
            line = trial_line(trial, now.names, done, now.study.target, best, better, room)
            self._print(line, "dim" if trial.verdict.outcome != "COMPLETE" else "bold" if better else None)

    def _take(self, now: Snapshot) -> None:
        best = now.best() if self._now is None or self._now[0].finished is not now.finished else self._now[1]
        self._now = now, best, time.monotonic()

    def _say_idle(self, now: Snapshot) -> None:
        idle = not now.working and not now.complete
        # Between two trials of a search nobody works on one for a moment.
        self._idle_looks = self._idle_looks + 1 if idle else 0
        idle = self._idle_looks >= IDLE_LOOKS
        if idle and not self._idle:
            command = text.command("resume", db=self._db, study=now.study.name)
            self._print(f"no process searches it now; `{command}` goes on")
        self._idle = idle

    def _lines(self, width: int) -> Sequence[Text]:
        return [] if self._now is None else lines_of(self._course(), width, plain=not has_letters(self._console))

    def _course(self) -> Course:
        assert self._now is not None
        now, best, taken = self._now
        passed = time.monotonic() - taken
        running = [under_way(one, f"process {one.pid} on {one.host}", passed) for one in now.working]
        return Course(
            title=title_of(now.study),
            score=now.names[0],
            finished=len(now.finished),
            target=now.study.target,
            best=best.value,
            best_trial=best.trial,
            bests=best.history,
            running=running,
            left=now.seconds_left() if now.working else None,
            state="complete" if now.complete else "no process searches it now",
            warnings=tuple(self._warned),
        )


class WatchLines(JsonLines):
    """A study for programs: one JSON object an event."""

    def begins(self, now: Snapshot, *, once: bool) -> None:
        """Say how the study stands."""
        study = now.study
        self.say(
            "begins",
            study=study.name,
            db=self._db,
            data=study.config.get("data"),
            image_shape=study.config.get("image_shape"),
            space=study.identity.get("space"),
            sampler=study.sampler.get("name"),
            scores=now.names,
            backend=study.rate_backend,
            entry_layers_per_second=study.rate,
            running=[_running(one) for one in now.working],
            **_state(now, len(now.finished)),
        )

    def changes(self, before: Snapshot, now: Snapshot) -> None:
        """Say what is new."""
        known = {one.number for one in before.working}
        done = {trial.number for trial in now.finished}
        for count, trial in enumerate(now.finished[len(before.finished) :], start=len(before.finished) + 1):
            self.say("trial_ends", **row_of(trial).to_dict(), **_state(now, count))
        for one in now.working:
            if one.number is not None and one.number not in known | done:
                self.say("trial_begins", **_running(one))


def title_of(study: Study) -> str:
    """Return the title of a study from its records alone."""
    shape = study.config.get("image_shape")
    return title(
        study,
        str(study.config.get("data", "")),
        shape if isinstance(shape, list) else [],
        str(study.identity.get("space", "")),
        str(study.rate_backend or study.config.get("backend", "")),
    )


def _running(one: Working) -> dict[str, object]:
    return {
        "trial": one.number,
        "host": one.host,
        "pid": one.pid,
        "seconds": one.seconds,
        "predicted_seconds": one.predicted_seconds,
        "architecture": None if one.architecture is None else summary(Architecture.from_json(one.architecture)),
    }


def _state(now: Snapshot, count: int) -> dict[str, object]:
    best = now.best(count)
    return {"finished": count, "target": now.study.target, "best": best.value, "best_trial": best.trial}
