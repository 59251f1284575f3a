"""The loop: what N trials means, and what becomes of every kind of proposal."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import optuna
import pytest

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.errors import BackendUnavailable, IllegalArchitecture, KernelError, SpaceError
from nas_cntk.records import leases, studies, trials
from nas_cntk.records.database import Records
from nas_cntk.records.leases import Owner
from nas_cntk.records.migrations import open_records
from nas_cntk.records.tables import TRIALS
from nas_cntk.records.trials import Finished, Outcome, Verdict
from nas_cntk.search.judging import score_of
from nas_cntk.search.storage import open_storage
from nas_cntk.search.telling import tell_recorded


def stored(db: str, name: str = "drill") -> list[Finished]:
    records = open_records(db, write=False)
    try:
        return trials.finished_trials(records, studies.find_study(records, name).study_id)
    finally:
        records.close()


def optuna_trials(db: str) -> list[Any]:
    return optuna.load_study(study_name="drill", storage=f"sqlite:///{db}").get_trials()


def conv(kernel: int) -> Architecture:
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), kernel))))
    return b.build()


def one_of(*kernels: int) -> Any:
    """A space that proposes convs of these kernels in turn, by the trial's number."""

    def propose(trial: Any) -> Architecture:
        trial.suggest_categorical("kernel", [1, 3, 5, 7, 9, 11])
        return conv(kernels[trial.number % len(kernels)])

    return propose


def test_the_total_is_reached_and_raised(fake: ModuleType, db: str) -> None:
    how, first = fake.search(db, target=6)
    assert (how, len(first)) == ("complete", 6)
    how, none = fake.search(db, target=6)
    assert (how, none) == ("complete", [])
    how, more = fake.search(db, target=9)
    assert [t.ordinal for t in more] == [6, 7, 8]
    assert [t.ordinal for t in stored(db)] == list(range(9))
    told = optuna_trials(db)
    assert [t.state.name for t in told] == [t.verdict.outcome for t in stored(db)]


def test_two_runs_of_one_seed_are_equal_and_another_seed_differs(fake: ModuleType, tmp_path: Path) -> None:
    boards = []
    for name in ("a", "b"):
        fake.search(str(tmp_path / name), target=12, sampler="tpe")
        boards.append([(t.verdict.key, t.verdict.outcome) for t in stored(str(tmp_path / name))])
    assert boards[0] == boards[1]
    records = open_records(str(tmp_path / "c"), write=True)
    fake.make_study(records, "drill", "tpe", ("holdout_accuracy",), seed=1)
    records.close()
    fake.search(str(tmp_path / "c"), target=12, sampler="tpe")
    assert [(t.verdict.key, t.verdict.outcome) for t in stored(str(tmp_path / "c"))] != boards[0]


def test_a_duplicate_carries_the_recorded_score_and_is_not_scored(fake: ModuleType, db: str) -> None:
    scored: list[str] = []
    base = fake.evaluation()

    def score(family: list[Architecture], *rest: Any) -> Any:
        scored.extend(arch.key for arch in family)
        return base.score(family, *rest)

    fake.search(db, target=4, fake=fake.evaluation(propose=one_of(1, 3, 1, 1), score=score))
    assert scored == [conv(1).key, conv(3).key]
    found = stored(db)
    assert [t.verdict.duplicate_of for t in found] == [None, None, 0, 0]
    assert found[2].verdict.reason == "duplicate of trial 0"
    assert found[2].score == found[0].score
    told = optuna_trials(db)
    assert told[2].state.name == "COMPLETE" and told[2].value == told[0].value
    assert told[2].user_attrs["duplicate_of"] == 0


def test_after_repeats_a_proposal_is_drawn_at_random(fake: ModuleType, db: str) -> None:
    samplers: list[str] = []

    def propose(trial: Any) -> Architecture:
        samplers.append(type(trial.study.sampler).__name__)
        trial.suggest_categorical("kernel", [1, 3])
        return conv(1)

    fake.search(db, target=6, sampler="tpe", fake=fake.evaluation(propose=propose))
    assert samplers == ["TPESampler"] * 4 + ["RandomSampler"] * 2  # the original, three repeats, then
    assert all(t.user_attrs.get("duplicate_of") == 0 for t in optuna_trials(db)[1:])


def test_illegal_and_dear_proposals_are_pruned_with_a_reason_and_count(fake: ModuleType, db: str) -> None:
    def propose(trial: Any) -> Architecture:
        if trial.number == 0:
            raise IllegalArchitecture("node 3\nis not legal")
        return conv(3)

    how, ended = fake.search(db, target=2, fake=fake.evaluation(propose=propose, predict=lambda _: 301.0))
    assert how == "complete"
    assert [t.verdict.reason for t in ended] == [
        "illegal: node 3 is not legal",
        "cost: predicted 301 s, the limit is 300 s",
    ]
    assert [t.state.name for t in optuna_trials(db)] == ["PRUNED", "PRUNED"]
    assert stored(db)[1].verdict.key == conv(3).key and stored(db)[1].architecture == conv(3).to_json()


@pytest.mark.parametrize(
    "error, reason",
    [
        (KernelError("the kernel overflows"), "failed: the kernel overflows"),
        (MemoryError(), "failed: out of memory"),
        (ValueError("two\nlines"), "failed: ValueError: two lines"),
    ],
)
def test_a_failing_score_is_tried_once_more_then_pruned(
    fake: ModuleType, db: str, error: Exception, reason: str
) -> None:
    attempts: list[str] = []

    def score(family: list[Architecture], *_: Any) -> Any:
        attempts.extend(arch.key for arch in family)
        raise error

    how, ended = fake.search(db, target=2, fake=fake.evaluation(propose=one_of(1, 1), score=score))
    assert how == "complete"
    assert [t.verdict.reason for t in ended] == [reason, reason]
    assert ended[1].verdict.duplicate_of == 0
    assert len(attempts) == 2, "the duplicate is not tried again"


def test_a_score_that_fails_once_is_kept(fake: ModuleType, db: str) -> None:
    base = fake.evaluation()
    calls: list[int] = []

    def score(family: list[Architecture], *rest: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a passing trouble")
        return base.score(family, *rest)

    fake.search(db, target=1, fake=fake.evaluation(propose=one_of(3), score=score))
    assert stored(db)[0].verdict.outcome == "COMPLETE" and len(calls) == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32(np.nan)])
def test_nan_and_infinity_never_become_a_best(fake: ModuleType, db: str, value: float) -> None:
    def score(family: list[Architecture], *_: Any) -> Any:
        return [fake.scores_of(arch, {"holdout_accuracy": value}) for arch in family]

    bad = fake.evaluation(propose=one_of(3), score=score)
    how, ended = fake.search(db, target=1, fake=bad)
    assert how == "complete" and ended[0].verdict.outcome == "PRUNED"
    assert str(ended[0].verdict.reason).startswith("failed: holdout_accuracy is")


def test_numpy_numbers_and_unasked_nans_are_recorded(fake: ModuleType, db: str) -> None:
    values = {"holdout_accuracy": np.float32(0.5), "alignment": math.nan}

    def score(family: list[Architecture], *_: Any) -> Any:
        return [fake.scores_of(arch, values) for arch in family]

    fake.search(db, target=1, fake=fake.evaluation(propose=one_of(3), score=score))
    score = stored(db)[0].score
    assert score is not None and score.values == {"holdout_accuracy": 0.5, "alignment": None}
    assert optuna_trials(db)[0].value == 0.5


@pytest.mark.parametrize("kills, outcome", [(2, "COMPLETE"), (3, "PRUNED")])
def test_a_killed_proposal_comes_again_twice_at_most(fake: ModuleType, db: str, kills: int, outcome: str) -> None:
    fake.search(db, target=1, fake=fake.evaluation(propose=one_of(1)))
    records = open_records(db, write=True)
    study = studies.find_study(records, "drill")
    with records.transaction() as connection:
        connection.execute(TRIALS.insert().values(study_id=study.study_id, ordinal=1, phase="open", kills=kills))
    records.close()
    _, ended = fake.search(db, target=2, fake=fake.evaluation(propose=one_of(1, 3)))
    assert ended[0].verdict.outcome == outcome
    if outcome == "PRUNED":
        assert ended[0].verdict.reason == "failed: its process was killed 3 times"


@pytest.mark.parametrize("error", [SpaceError("propose raised"), BackendUnavailable("gone"), ZeroDivisionError()])
def test_what_ends_the_run_leaves_the_ordinal_free(fake: ModuleType, db: str, error: Exception) -> None:
    def propose(trial: Any) -> Architecture:
        trial.suggest_int("x", 0, 9)
        if trial.number == 1:
            raise error
        return conv(3)

    with pytest.raises(type(error)):
        fake.search(db, target=3, fake=fake.evaluation(propose=propose))
    assert len(stored(db)) == 1
    how, ended = fake.search(db, target=3, fake=fake.evaluation(propose=propose))
    assert how == "complete" and [t.ordinal for t in ended] == [1, 2]
    states = [t.state.name for t in optuna_trials(db)]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


@pytest.mark.parametrize("how", ["interrupted", "timeout"])
def test_an_ended_run_keeps_what_is_finished_and_repeats_the_rest(fake: ModuleType, tmp_path: Path, how: str) -> None:
    quiet, db = str(tmp_path / "quiet"), str(tmp_path / "ended")
    fake.search(quiet, target=8, sampler="tpe")
    base, begun = fake.evaluation(), []

    def ends() -> str | None:
        return how if len(begun) == 3 else None

    def score(family: list[Architecture], progress: Any, cancelled: Any) -> Any:
        begun.extend(arch.key for arch in family)
        if cancelled():
            raise KeyboardInterrupt
        return base.score(family, progress, cancelled)

    ended, _ = fake.search(db, target=8, sampler="tpe", ends=ends, fake=fake.evaluation(score=score))
    assert ended == how
    kept = stored(db)
    fake.search(db, target=8, sampler="tpe")
    assert stored(db)[: len(kept)] == kept
    assert [t.verdict.key for t in stored(db)] == [t.verdict.key for t in stored(quiet)]
    records = open_records(db, write=False)
    with records.transaction() as connection:
        assert sum(row["kills"] for row in connection.execute(TRIALS.select()).mappings()) == 0
    records.close()


def test_several_scores_are_told_in_order_and_pruning_works(fake: ModuleType, db: str) -> None:
    names = ("holdout_accuracy", "flops")
    fake.search(db, target=14, sampler="nsga2", names=names)
    told = optuna_trials(db)
    assert len(told) == 14
    for trial, kept in zip(told, stored(db), strict=True):
        if kept.verdict.outcome == "COMPLETE":
            assert kept.score is not None
            assert trial.values == [kept.score.values[name] for name in names]


@pytest.mark.parametrize("lives", [True, False])
@pytest.mark.parametrize("outcome", ["COMPLETE", "PRUNED"])
def test_what_another_process_recorded_and_has_not_told_is_the_original(
    fake: ModuleType, db: str, lives: bool, outcome: str
) -> None:
    # Seen once among four processes: the score was there, its trial not yet, and both trials were originals.
    storage: Any = None
    other = replace(Owner.current(), pid=os.getppid(), started=leases._start_of(os.getppid()))
    base, tells = fake.evaluation(), []

    def tell(records: Records, study: studies.Study) -> None:
        time.sleep(0.5)
        told = optuna.load_study(study_name="drill", storage=storage)
        tells.extend(tell_recorded(records, study.study_id, told, base, other))

    def propose(trial: Any) -> Architecture:
        trial.suggest_categorical("kernel", [1, 3])
        if trial.number == 0:
            study = studies.find_study(records, "drill")
            theirs = optuna.load_study(study_name="drill", storage=storage).ask()
            lease = leases.claim(records, study.study_id, 2, other)
            assert isinstance(lease, leases.Lease)
            leases.begin_scoring(records, lease, theirs.number)
            assert leases.claim_key(records, lease, conv(1).key, conv(1).to_json())
            (result,) = base.score([conv(1)], lambda *_: None, lambda: False)
            score = score_of(result, base) if outcome == "COMPLETE" else None
            reason = None if outcome == "COMPLETE" else "failed: out of memory"
            verdict = Verdict(outcome, reason=reason, key=conv(1).key, subset=base.subset)
            trials.record_outcomes(records, [(lease, Outcome(verdict, conv(1).to_json(), score))])
            if lives:
                threads.append(threading.Thread(target=tell, args=(records, study)))
                threads[-1].start()
            else:
                with records.transaction() as connection:
                    connection.execute(TRIALS.update().where(TRIALS.c.ordinal == 1).values(pid=2**30))  # nobody's
        return conv(1)

    fake.search(db, target=0)
    threads: list[threading.Thread] = []
    records = open_records(db, write=True)
    storage = open_storage(records)
    how, _ = fake.search(db, target=2, fake=fake.evaluation(propose=propose))
    for thread in threads:
        thread.join()
    storage.engine.dispose()
    records.close()
    assert how == "complete"
    ours, theirs = stored(db)
    assert (ours.ordinal, ours.verdict.duplicate_of, theirs.verdict.duplicate_of) == (0, theirs.number, None)
    assert ours.verdict.outcome == outcome and len(tells) == lives


def test_three_processes_share_one_study(fake: ModuleType, db: str) -> None:
    fake.search(db, target=1)
    script = str(fake.__file__)
    command = [sys.executable, script, db, "--target", "24", "--sampler", "tpe", "--delay", "0.05"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    found = stored(db)
    assert [t.ordinal for t in found] == list(range(24))
    assert len({t.number for t in found}) == 24
    states = [t.state.name for t in optuna_trials(db)]
    assert states.count("RUNNING") == 0 and states.count("FAIL") == 0
