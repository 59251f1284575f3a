"""A search or a validation for programs: one JSON object a line on standard output, as soon as it happens.

Events: begins, trial_begins, trial_ends, warning, ends. Every object has `event` and `time` (UTC); accuracies are in
[0, 1], times in seconds. `trial_ends` of a search has the fields of `leaderboard --json`, of a validation those of
`validate --json`.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from nas_cntk.architecture import Architecture
from nas_cntk.records.leases import Working
from nas_cntk.records.trials import Finished
from nas_cntk.records.validations import Validation
from nas_cntk.report.bar_view import WarningLog
from nas_cntk.report.describe import summary
from nas_cntk.report.live import Best
from nas_cntk.report.rows import row_of
from nas_cntk.search.session import Plan
from nas_cntk.validate import session as validation
from nas_cntk.validate.forecast import Unit


class JsonLines:
    """What both kinds share: events, warnings of the package, and an end that is always said."""

    def __init__(self, db: str) -> None:
        self._db = db
        self._ended = False
        self._lock = threading.Lock()  # warnings come from other threads too
        self._log = WarningLog(lambda message: self.say("warning", message=message))

    def __enter__(self) -> Self:
        self._log.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()
        if isinstance(error, KeyboardInterrupt) and not self._ended:
            self.ends(how="interrupted")
        elif error is not None and not self._ended:
            self.ends(how="failed", message=" ".join(str(error).split()))

    def say(self, event: str, **fields: object) -> None:
        """Print an event."""
        document = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields}
        with self._lock:
            sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")
            sys.stdout.flush()

    def ends(self, **fields: object) -> None:
        """Print the last event."""
        self._ended = True
        self.say("ends", **fields)


class SearchLines(JsonLines):
    """The events of a search."""

    def __init__(self, db: str) -> None:
        super().__init__(db)
        self._plan: Plan | None = None
        self._done = 0
        self._best = Best("maximize")

    def begins(self, plan: Plan) -> None:
        """Say what is about to be done, and what it is predicted to cost."""
        self._plan, self._done = plan, plan.finished
        bench, study, seen = plan.bench, plan.study, plan.forecast
        self._best = Best(bench.scores[0].direction)
        for number, value in plan.earlier:
            self._best.add(number, value)
        self.say(
            "begins",
            study=study.name,
            db=self._db,
            new=plan.new,
            data=bench.dataset.spec,
            image_shape=list(bench.dataset.image_shape),
            classes=bench.dataset.num_classes,
            subset=bench.subset,
            holdout=bench.holdout,
            space=plan.space.name,
            sampler=study.sampler["name"],
            scores=list(bench.problem.score),
            seed=bench.problem.seed,
            backend=bench.backend,
            entry_layers_per_second=study.rate,
            notes=list(bench.split.notes),
            changed=list(plan.changed),
            predicted={
                "least": seen.least,
                "most": seen.most,
                "total": seen.total(study.target - plan.finished),
                "skipped": seen.dear / seen.proposals,
            },
            **self._state(),
        )

    def trial_begins(self, number: int, architecture: Architecture, predicted: float, others: int) -> None:
        """Say that a trial is being scored."""
        self.say(
            "trial_begins",
            trial=number,
            key=architecture.key,
            architecture=summary(architecture),
            predicted_seconds=predicted,
            others=others,
        )

    def workers(self, working: Sequence[Working]) -> None:
        """Say nothing: `watch` and the records tell."""

    def worker_died(self, pid: int, how: str) -> None:
        """Say that a worker was killed."""
        self.say("warning", message=f"worker {pid} was killed ({how}); its trial comes again")

    def progress(self, fraction: float) -> None:
        """Say nothing: a program that wants a bar has the prediction."""

    def trial_ends(self, trial: Finished) -> None:
        """Say what a trial came to."""
        assert self._plan is not None
        self._done += 1
        self._best.takes(trial, self._plan.bench.scores[0].name)
        self.say("trial_ends", **row_of(trial).to_dict(), **self._state())

    def waits(self, working: int) -> None:
        """Say nothing: those trials have processes of their own, and events of their own."""

    def _state(self) -> Mapping[str, object]:
        assert self._plan is not None
        return {
            "finished": self._done,
            "target": self._plan.study.target,
            "best": self._best.value,
            "best_trial": self._best.trial,
        }


class ValidationLines(JsonLines):
    """The events of a validation; a trial begins and ends once for each kind, cnn and kernel."""

    def measures(self, done: int, total: int) -> None:
        """Say nothing of the timings that the prediction needs."""

    def begins(self, plan: validation.Plan) -> None:
        """Say what is about to be done, and what it is predicted to cost."""
        dataset = plan.bench.images.dataset
        self.say(
            "begins",
            study=plan.bench.study.name,
            db=self._db,
            data=dataset.spec,
            image_shape=list(dataset.image_shape),
            classes=dataset.num_classes,
            trials=[candidate.number for candidate in plan.candidates],
            known=len(plan.known),
            target=len(plan.units),
            train_images={"cnn": plan.sizes.cnn, "kernel": plan.sizes.kernel},
            test_images={"cnn": len(dataset.y_test), "kernel": plan.sizes.kernel_test},
            notes=[*plan.notes, *plan.sizes.notes],
            predicted={"total": plan.total()},
        )

    def unit_begins(self, one: Unit, predicted: float) -> None:
        """Say that a network is being trained or a kernel computed."""
        self.say(
            "trial_begins",
            trial=one.candidate.number,
            kind=one.kind,
            key=one.candidate.key,
            architecture=summary(one.candidate.architecture),
            predicted_seconds=predicted,
        )

    def progress(self, fraction: float) -> None:
        """Say nothing: a program that wants a bar has the prediction."""

    def unit_ends(self, one: Unit, found: Validation) -> None:
        """Say what it came to."""
        self.say("trial_ends", **found.to_dict())
