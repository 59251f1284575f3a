"""Several processes on one study: started, followed through the records, replaced when they die, ended together.

A worker is `python -m nas_cntk.search.worker`; it takes ordinals as any other process on the study does. The parent
scores nothing. It holds the write end of every worker's standard input: when that closes, because the parent ends or
was killed, the worker ends too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from nas_cntk.errors import StudyError
from nas_cntk.records import leases, studies, trials
from nas_cntk.records.database import Records, one_line
from nas_cntk.records.leases import Working
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Finished
from nas_cntk.search.settings import Manner

POLL = 0.25  # seconds
PATIENCE = 5.0  # seconds that a worker has to end by itself
MOST_REPLACED = 20  # workers that were killed, after which the machine itself is in trouble
_BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NAS_CNTK_THREADS")


class Screen(Protocol):
    """Who is told how the workers get on."""

    def trial_ends(self, trial: Finished) -> None:
        """A trial is finished and recorded."""

    def workers(self, working: Sequence[Working]) -> None:
        """That is who works on what now."""

    def worker_died(self, pid: int, how: str) -> None:
        """A worker was killed; its trial comes again, and another worker takes its place."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is told."""

    db: str
    study: str
    data: str
    backend: str
    max_trial_seconds: float
    manner: Manner
    seconds: float | None  # after which it begins nothing more
    cluster: str | None = None  # a scheduler's address
    devices: tuple[int, ...] = ()  # numbers of GPUs; none: the backend's own choice

    @classmethod
    def read(cls, line: str) -> Order:
        """Return what `line` says."""
        fields = json.loads(line)
        return cls(**{**fields, "manner": Manner(**fields["manner"]), "devices": tuple(fields["devices"])})

    def line(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps(asdict(self)) + "\n"


def run(
    records: Records, study: Study, order: Order, count: int, ends: Callable[[], str | None], screen: Screen
) -> str:
    """Have `count` workers search the study; return "complete", "timeout" or "interrupted".

    Raises:
        StudyError: if a worker ends with an error, with what it said.
    """
    began = time.monotonic()
    threads = _threads(count)
    history = trials.History(records, study.study_id)
    shown = {trial.ordinal for trial in history.trials()}
    running = [_start(_share(order, place, count), threads) for place in range(count)]
    replaced = 0
    try:
        while True:
            how = ends()
            if how is not None:
                return how
            time.sleep(POLL)
            _show(records, study, history, shown, screen)
            for place, worker in enumerate(running):
                code = worker.poll()
                if code is None or code == 0:
                    continue
                if code > 0:
                    raise StudyError(f"a worker ended with an error: {_said(worker)}")
                screen.worker_died(worker.pid, f"signal {-code}")
                replaced += 1
                if replaced > MOST_REPLACED:
                    raise StudyError(f"{replaced} workers were killed; the study is kept, and `resume` goes on")
                left = None if order.seconds is None else max(0.0, order.seconds - (time.monotonic() - began))
                running[place] = _start(_share(replace(order, seconds=left), place, count), threads)
            if all(worker.poll() == 0 for worker in running):
                _show(records, study, history, shown, screen)
                with records.transaction() as connection:
                    complete = studies.count_finished(connection, study.study_id) >= study.target
                return "complete" if complete else ends() or "timeout"
    finally:
        _end(running)
        _show(records, study, history, shown, screen)


def _threads(count: int) -> int:
    from nas_cntk.kernels.backends import cpu

    return max(1, cpu.threads() // count)


def _share(order: Order, place: int, count: int) -> Order:
    """Return the order of one of `count` workers: among more GPUs than workers several each, else one each in turn."""
    gpus = order.devices
    return replace(order, devices=gpus[place::count] or (gpus[place % len(gpus)],)) if gpus else order


def _start(order: Order, threads: int) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "nas_cntk.search.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {name: str(threads) for name in _BLAS},
        # Ctrl-C is the parent's to hear: it closes the pipe, and all end together.
        start_new_session=True,
    )
    assert worker.stdin is not None
    try:
        worker.stdin.write(order.line())
        worker.stdin.flush()
    except BrokenPipeError:
        pass  # it is dead already, and says so by its exit code
    return worker


def _show(records: Records, study: Study, history: trials.History, shown: set[int], screen: Screen) -> None:
    new = [trial for trial in history.trials() if trial.ordinal not in shown]
    for trial in sorted(new, key=lambda trial: (str(trial.completed), trial.ordinal)):
        shown.add(trial.ordinal)
        screen.trial_ends(trial)
    screen.workers(leases.working(records, study.study_id))


def _said(worker: subprocess.Popen[str]) -> str:
    text = worker.stderr.read() if worker.stderr is not None else ""
    last = text.strip().splitlines()[-1:] or ["nothing was said"]
    return one_line(Exception(last[0].removeprefix("error: ")))


def _end(running: Sequence[subprocess.Popen[str]]) -> None:
    for worker in running:
        if worker.stdin is not None:
            try:
                worker.stdin.close()
            except BrokenPipeError:
                pass
    deadline = time.monotonic() + PATIENCE
    for worker in running:
        try:
            worker.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()  # its lease is found dead, and its trial comes again
            worker.wait()
        if worker.stderr is not None:
            worker.stderr.close()
