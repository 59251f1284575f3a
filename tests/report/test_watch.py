"""Watching a study: what is shown of it, when it ends, and that nothing is written."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from nas_cntk import Builder
from nas_cntk.errors import StudyError
from nas_cntk.records import leases, studies, trials
from nas_cntk.records.database import Records
from nas_cntk.records.leases import Lease, Owner
from nas_cntk.records.migrations import open_records
from nas_cntk.records.trials import Finished, Outcome, Score, Verdict
from nas_cntk.report import text
from nas_cntk.report import watch as watching
from nas_cntk.report.describe import summary
from nas_cntk.report.watch import WatchLines, WatchView, snapshot, watch
from nas_cntk.search.storage import open_storage

TARGET = 3


class Searcher:
    """A study that trials are put into by hand, as a search would."""

    def __init__(self, db: str) -> None:
        import optuna

        self.db = db
        self.records: Records = open_records(db, write=True)
        self.storage = open_storage(self.records)
        self.optuna: Any = optuna.create_study(study_name="one", storage=self.storage, direction="maximize")
        self.owner = Owner.current()
        studies.insert_study(
            self.records,
            self.optuna._study_id,
            target=TARGET,
            identity={"seed": 0, "score": ["holdout_accuracy"], "space": "plain"},
            config={"data": "npz:/somewhere/photos.npz", "image_shape": [8, 8, 1]},
            sampler={"name": "random"},
            versions={},
            space_source="",
            rate=1e9,
            rate_backend="cpu",
        )
        self.study = studies.find_study(self.records, "one")

    def begin(self) -> tuple[Lease, Any]:
        lease = leases.claim(self.records, self.study.study_id, TARGET, self.owner)
        assert isinstance(lease, Lease)
        trial = self.optuna.ask()
        leases.begin_scoring(self.records, lease, trial.number)
        return lease, trial

    def end(self, begun: tuple[Lease, Any], accuracy: float | None) -> None:
        from optuna.trial import TrialState

        lease, trial = begun
        if accuracy is None:
            outcome = Outcome(Verdict("PRUNED", "cost: too dear"), None, None)
            trials.record_outcomes(self.records, [(lease, outcome)])
            self.optuna.tell(trial.number, state=TrialState.PRUNED)
        else:
            result: dict[str, object] = {"values": {"holdout_accuracy": accuracy}, "proxy_accuracy": accuracy}
            score = Score(f"k{trial.number}", 70, 70, "holdout_accuracy", result, None)
            verdict = Verdict("COMPLETE", key=score.key, subset=70, seconds=2.0)
            trials.record_outcomes(self.records, [(lease, Outcome(verdict, None, score))])
            self.optuna.tell(trial.number, accuracy)
        leases.finish(self.records, lease, trial.number)


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    made = Searcher(str(tmp_path / "nas.db"))
    yield made
    made.storage.engine.dispose()
    made.records.close()


def watched(searcher: Searcher, steps: list[Callable[[], object]], monkeypatch: pytest.MonkeyPatch, **kind: Any) -> str:
    """Watch while each step is done in a pause between two looks at the records."""
    monkeypatch.setattr(watching, "IDLE_LOOKS", kind.get("idle_looks", 1))
    left = iter(steps)
    monkeypatch.setattr(watching.time, "sleep", lambda _: next(left)())
    out = io.StringIO()
    if kind.get("lines"):
        monkeypatch.setattr(sys, "stdout", out)
        view: Any = WatchLines(searcher.db)
    else:
        view = WatchView(Console(file=out, width=80, force_terminal=kind.get("terminal", False)), searcher.db)
    with watching.opened(searcher.db) as records, view:
        watch(records, None, view, once=False)
    return out.getvalue()


def course(searcher: Searcher) -> list[Callable[[], object]]:
    begun = [searcher.begin()]
    return [
        lambda: searcher.end(begun[-1], 0.5),
        lambda: begun.append(searcher.begin()),
        lambda: searcher.end(begun[-1], None),
        lambda: searcher.end(searcher.begin(), 0.8),
    ]


def test_a_line_for_every_trial_until_the_study_is_complete(
    searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = watched(searcher, course(searcher), monkeypatch)
    assert said.splitlines() == [
        f"study one in {searcher.db}: 0 of 3 trials finished",
        "1/3  trial 0  50.00 %  best so far  2.0 s",
        f"no process searches it now; `nas-cntk resume --study one --db {searcher.db}` goes on",
        "2/3  trial 1  pruned, cost: too dear",
        f"no process searches it now; `nas-cntk resume --study one --db {searcher.db}` goes on",
        "3/3  trial 2  80.00 %  best so far  2.0 s",
    ]


def test_a_moment_between_two_trials_is_not_called_idle(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = [searcher.begin()]
    steps: list[Callable[[], object]] = [
        lambda: searcher.end(begun[-1], 0.5),
        lambda: None,
        lambda: begun.append(searcher.begin()),
        lambda: searcher.end(begun[-1], 0.4),
        lambda: searcher.end(searcher.begin(), 0.8),
    ]
    assert "no process" not in watched(searcher, steps, monkeypatch, idle_looks=3)


def test_events_for_programs(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [json.loads(line) for line in watched(searcher, course(searcher), monkeypatch, lines=True).splitlines()]
    assert [one["event"] for one in said] == ["begins", "trial_ends", "trial_begins", "trial_ends", "trial_ends"]
    assert said[0]["finished"] == 0 and said[0]["target"] == 3 and said[0]["running"][0]["trial"] == 0
    assert said[0]["running"][0]["pid"] == os.getpid() and said[0]["data"] == "npz:/somewhere/photos.npz"
    assert [(one.get("trial"), one.get("best"), one.get("finished")) for one in said[1:]] == [
        (0, 0.5, 1),
        (1, None, None),
        (1, 0.5, 2),
        (2, 0.8, 3),
    ]
    assert said[3]["state"] == "PRUNED" and said[3]["reason"] == "cost: too dear"


def test_the_panel_has_the_trial_under_way(searcher: Searcher) -> None:
    searcher.end(searcher.begin(), 0.5)
    searcher.end(searcher.begin(), 0.4)
    searcher.begin()
    view = WatchView(Console(file=io.StringIO(), width=80), searcher.db)
    now = snapshot(searcher.records, "one")
    view.begins(now, once=False)
    lines = [line.plain for line in view._lines(78)]
    assert lines[0].startswith("── one · npz:photos.npz 8x8x1 · plain · cpu at 1e+09 entry-layers/s ──")
    assert lines[1].startswith("2/3 ") and lines[1].endswith(" left")
    assert lines[2].startswith(f"trial 2  process {os.getpid()} on ") and lines[3].startswith("best 50.00 % (trial 0)")


def test_the_panel_and_the_events_say_which_network_runs(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    b = Builder()
    b.dense(b.global_avg_pool(b.relu(b.conv(b.input(), 3))))
    architecture = b.build()
    lease, _ = searcher.begin()
    assert leases.claim_key(searcher.records, lease, architecture.key, architecture.to_json(), 150.0)
    now = snapshot(searcher.records, "one")
    view = WatchView(Console(file=io.StringIO(), width=100), searcher.db)
    view.begins(now, once=False)
    line = view._lines(98)[2].plain
    assert line.startswith(f"trial 0  {summary(architecture)}  process {os.getpid()} on ")
    assert line.endswith(f" of about {text.duration(150.0)}")
    lines = WatchLines(searcher.db)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    lines.begins(now, once=True)
    (running,) = json.loads(out.getvalue())["running"]
    assert (running["architecture"], running["predicted_seconds"]) == (summary(architecture), 150.0)


def test_the_time_left_is_by_the_clock_since_the_last_pause() -> None:
    def ended(number: int, at: float) -> Finished:
        when = datetime.fromtimestamp(1.8e9 + at).isoformat(sep=" ")
        return Finished(number, number, Verdict("COMPLETE", seconds=0.5), None, None, when)

    study = SimpleNamespace(target=10)
    times = [0.0, 1.0, 90000.0, 90010.0, 90020.0, 90020.0]  # the last two of one pass
    now = watching.Snapshot(study, tuple(ended(n, at) for n, at in enumerate(times)), ())  # type: ignore[arg-type]
    assert now.seconds_left() == pytest.approx(4 * 20 / 3)
    alone = watching.Snapshot(study, (ended(0, 0.0),), ())  # type: ignore[arg-type]
    assert alone.seconds_left() is None


def test_a_long_study_is_not_read_anew_where_nothing_is_new(searcher: Searcher) -> None:
    searcher.end(searcher.begin(), 0.5)
    first = snapshot(searcher.records, "one")
    again = snapshot(searcher.records, "one", first)
    assert again.finished is first.finished
    searcher.end(searcher.begin(), 0.6)
    assert [trial.number for trial in snapshot(searcher.records, "one", again).finished] == [0, 1]


def test_a_study_deleted_meanwhile_ends_it_with_an_error(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def delete() -> None:
        studies.delete_study(searcher.records, "one")

    with pytest.raises(StudyError, match="holds no study"):
        watched(searcher, [delete], monkeypatch)


def test_watching_changes_no_byte(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    for accuracy in (0.1, 0.2, 0.3):
        searcher.end(searcher.begin(), accuracy)
    searcher.storage.engine.dispose()
    searcher.records.close()
    before = Path(searcher.db).read_bytes()
    watched(searcher, [], monkeypatch)
    assert Path(searcher.db).read_bytes() == before


def test_ctrl_c_ends_it_with_130_and_no_traceback(searcher: Searcher, repository: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, "-m", "nas_cntk", "watch", "--db", searcher.db, "--json-lines"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "begins"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and not err
    assert json.loads(out)["event"] == "ends" and json.loads(out)["how"] == "interrupted"
