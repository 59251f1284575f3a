"""The loop: lease an ordinal, ask for a proposal, judge it, record it, tell Optuna; until the total is reached."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nas_cntk.architecture import Architecture
from nas_cntk.errors import BackendUnavailable, IllegalArchitecture, NasCntkError
from nas_cntk.records import leases, trials
from nas_cntk.records.database import Records, one_line
from nas_cntk.records.leases import Lease, Nothing, Owner
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Finished, Score, Verdict
from nas_cntk.search import rungs
from nas_cntk.search.samplers import make_sampler, random_sampler
from nas_cntk.search.storage import optuna_errors

if TYPE_CHECKING:
    import optuna

    from nas_cntk.scoring import ArchitectureScores

MOST_KILLS = 2  # a proposal whose process was killed comes again this often
ATTEMPTS = 2  # at a score that fails
REPEATS = 3  # duplicates in a row, after which a proposal is drawn at random

Cancelled = Callable[[], bool]
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a proposal is made and measured; the loop knows nothing of data and kernels."""

    propose: Callable[[Any], Architecture]  # of an Optuna trial
    score: Callable[
        ..., ArchitectureScores
    ]  # of an architecture, a Progress, a Cancelled, and `at_rung` if there are rungs
    predict: Callable[[Architecture], float]  # seconds
    sizes: Callable[[Architecture], tuple[int, int]]  # parameters, FLOPs
    names: tuple[str, ...]  # of the scores that Optuna is told
    subset: int
    holdout: int
    rungs: tuple[int, ...] = ()  # parts of the subset at which a candidate may be dropped; none: it never is
    prune_level: float = 0.0  # of the test that drops it


class Observer(Protocol):
    """Who is told how the search goes."""

    def trial_begins(self, number: int, architecture: Architecture, predicted: float) -> None:
        """The score of trial `number` is about to be computed; `predicted` seconds."""

    def progress(self, fraction: float) -> None:
        """That much of the score is computed."""

    def trial_ends(self, trial: Finished) -> None:
        """A trial is finished and recorded."""

    def waits(self, working: int) -> None:
        """Other processes work on the last trials."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop, and what not to begin."""

    target: int
    max_trial_seconds: float
    ends: Callable[[], str | None]  # "interrupted", "timeout" or None


class _Ended(Exception):
    """The run ends in the middle of a trial."""


def run(
    records: Records,
    storage: optuna.storages.RDBStorage,
    study: Study,
    evaluation: Evaluation,
    limits: Limits,
    observer: Observer,
) -> str:
    """Search until the study has its total; return "complete", "timeout" or "interrupted".

    Raises:
        SpaceError: if the space raises anything but IllegalArchitecture.
        RecordsError: if the database refuses.
    """
    import optuna

    owner = Owner.current()
    with optuna_errors(records), leases.heartbeat(records, owner):
        optuna_study = optuna.load_study(study_name=study.name, storage=storage)
        while True:
            ended = limits.ends()
            if ended is not None:
                return ended
            lease = leases.claim(records, study.study_id, limits.target, owner)
            if isinstance(lease, Nothing):
                if not lease.working:
                    return "complete"
                observer.waits(lease.working)
                time.sleep(1.0)
                continue
            try:
                finished = _one_trial(records, optuna_study, study, evaluation, limits, observer, lease)
            except _Ended:
                return limits.ends() or "interrupted"
            if finished is not None:
                observer.trial_ends(finished)


def _one_trial(
    records: Records,
    optuna_study: optuna.Study,
    study: Study,
    evaluation: Evaluation,
    limits: Limits,
    observer: Observer,
    lease: Lease,
) -> Finished | None:
    """Take one ordinal from the proposal to the record; None if another process took it over."""
    from optuna.trial import TrialState

    trial = None
    try:
        # A zombie RUNNING trial would be counted by TPE as a bad one, and change what it proposes next.
        for number in leases.zombies(records, study.study_id, lease.owner):
            _tell(optuna_study, number, None, TrialState.FAIL)
        earlier = trials.finished_trials(records, study.study_id)
        optuna_study.sampler = _sampler(study, lease.ordinal, earlier)
        trial = optuna_study.ask()
        verdict: Verdict | None = None
        architecture = None
        try:
            architecture = evaluation.propose(trial)
            params, flops = evaluation.sizes(architecture)
            key = architecture.key
        except IllegalArchitecture as error:
            verdict = Verdict("PRUNED", reason=f"illegal: {one_line(error)}", parameters=dict(trial.params))
        leases.begin_scoring(records, lease, trial.number)
        score = None
        if verdict is None:
            assert architecture is not None
            proposal = Verdict("PRUNED", key=key, parameters=dict(trial.params), params=params, flops=flops)
            verdict, score = _judge(
                records, evaluation, limits, observer, lease, trial, proposal, architecture, earlier
            )
        text = None if architecture is None else architecture.to_json()
        trials.record_verdict(records, lease, verdict, text, score)
        for name, value in (
            ("ordinal", lease.ordinal),
            ("key", verdict.key),
            ("reason", verdict.reason),
            ("duplicate_of", verdict.duplicate_of),
        ):
            if value is not None:
                trial.set_user_attr(name, value)
        state = TrialState.COMPLETE if verdict.outcome == "COMPLETE" else TrialState.PRUNED
        values = None
        if verdict.outcome == "COMPLETE":
            assert score is not None
            values = [float(score.values[name]) for name in evaluation.names]
        if not _tell(optuna_study, trial.number, values, state):
            return None
        leases.finish(records, lease)
        return Finished(lease.ordinal, trial.number, verdict, score, text, None)
    except BaseException as error:
        # Whatever ends the run, the ordinal is free for the next one; if even that cannot be written, the next one
        # finds a dead owner.
        with suppress(Exception):
            if trial is not None:
                _tell(optuna_study, trial.number, None, TrialState.FAIL)
            leases.release(records, lease)
        if isinstance(error, KeyboardInterrupt):
            raise _Ended from None
        raise


def _sampler(study: Study, ordinal: int, earlier: list[Finished]) -> optuna.samplers.BaseSampler:
    seed = study.identity["seed"]
    assert isinstance(seed, int)
    before = {trial.ordinal: trial for trial in earlier}
    last = [before.get(n) for n in range(ordinal - REPEATS, ordinal)]
    if all(trial is not None and trial.verdict.duplicate_of is not None for trial in last):
        return random_sampler(seed, ordinal)
    return make_sampler(study.sampler, seed, ordinal)


def _judge(
    records: Records,
    evaluation: Evaluation,
    limits: Limits,
    observer: Observer,
    lease: Lease,
    trial: optuna.Trial,
    proposal: Verdict,
    architecture: Architecture,
    earlier: list[Finished],
) -> tuple[Verdict, Score | None]:
    """Return what a legal proposal comes to: a recorded score, a new one, or a reason why there is none."""
    key = proposal.key
    assert key is not None
    predicted = evaluation.predict(architecture)
    proposal = replace(proposal, predicted_seconds=predicted)
    while not leases.claim_key(records, lease, key):
        # Another process scores an equal architecture: its score will be ours.
        if limits.ends() is not None:
            raise KeyboardInterrupt
        time.sleep(0.2)
    recorded = trials.find_score(records, lease.study_id, key, evaluation.subset)
    if recorded is not None:
        earlier = trials.finished_trials(records, lease.study_id)  # another process may have finished it meanwhile
    twins = [t for t in earlier if t.verdict.key == key and t.ordinal != lease.ordinal]
    for twin in twins:
        number = twin.number if twin.verdict.duplicate_of is None else twin.verdict.duplicate_of
        if twin.verdict.outcome == "COMPLETE" and recorded is not None:
            reason = f"duplicate of trial {number}"
            return _complete(proposal, recorded, reason=reason, duplicate_of=number, seconds=0.0), recorded
        if (twin.verdict.reason or "").startswith(("failed:", "rung ")):
            return replace(proposal, reason=twin.verdict.reason, duplicate_of=number, subset=twin.verdict.subset), None
    if recorded is not None:
        # Killed after the score was recorded and before Optuna was told.
        return _complete(proposal, recorded, seconds=_number(recorded.result.get("seconds"))), recorded
    if lease.kills > MOST_KILLS:
        return replace(proposal, reason=f"failed: its process was killed {lease.kills} times"), None
    if predicted > limits.max_trial_seconds:
        reason = f"cost: predicted {_seconds(predicted)}, the limit is {_seconds(limits.max_trial_seconds)}"
        return replace(proposal, reason=reason), None
    observer.trial_begins(trial.number, architecture, predicted)
    judge = _Rungs(records, evaluation, lease, trial, earlier)
    extra: dict[str, Any] = {"at_rung": judge.drops} if evaluation.rungs else {}
    began = time.monotonic()
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            result = evaluation.score(architecture, observer.progress, lambda: limits.ends() is not None, **extra)
            if result.subset < evaluation.subset:
                score = _score_of(result, key, evaluation)
                spent = time.monotonic() - began
                return replace(proposal, reason=judge.reason, subset=result.subset, seconds=spent), score
            bad = [name for name in evaluation.names if not math.isfinite(result.values[name])]
            if not bad:
                score = _score_of(result, key, evaluation)
                return _complete(proposal, score, seconds=time.monotonic() - began), score
            reason = f"failed: {bad[0]} is {result.values[bad[0]]}"
        except IllegalArchitecture as error:
            return replace(proposal, reason=f"illegal: {one_line(error)}"), None
        except BackendUnavailable:
            raise
        except MemoryError:
            reason = "failed: out of memory"
        except NasCntkError as error:
            reason = f"failed: {one_line(error)}"
        except Exception as error:
            reason = f"failed: {type(error).__name__}: {one_line(error)}"
    return replace(proposal, reason=reason, seconds=time.monotonic() - began), None


class _Rungs:
    """Compares a candidate with the best so far at every rung, tells Optuna, and records what was found there."""

    def __init__(
        self, records: Records, evaluation: Evaluation, lease: Lease, trial: optuna.Trial, earlier: list[Finished]
    ) -> None:
        self._records, self._evaluation, self._lease, self._trial = records, evaluation, lease, trial
        name = evaluation.names[0]
        scored = [t for t in earlier if t.verdict.outcome == "COMPLETE" and t.score is not None]
        best = max(scored, key=lambda t: (t.score.values[name] if t.score else 0.0, -t.ordinal), default=None)
        self._best = None if best is None else best.verdict.key
        self.reason = ""

    def drops(self, scores: ArchitectureScores) -> bool:
        """Return whether the candidate is dropped at this rung."""
        name, size = self._evaluation.names[0], scores.subset
        trials.record_rung(self._records, self._lease, _score_of(scores, scores.key, self._evaluation))
        self._trial.report(float(scores.values[name]), size)
        if size < self._evaluation.subset // rungs.LEAST_DIVISOR or self._best is None:
            return False
        known = trials.find_score(self._records, self._lease.study_id, self._best, size)
        if known is None or known.correct is None or scores.holdout_correct is None:
            return False
        best = np.unpackbits(np.frombuffer(known.correct, np.uint8), count=len(scores.holdout_correct)).astype(bool)
        p = rungs.p_value(best, scores.holdout_correct)
        self.reason = rungs.reason(size, scores.values[name], known.values[name], p)
        return p < self._evaluation.prune_level


def _score_of(result: ArchitectureScores, key: str, evaluation: Evaluation) -> Score:
    correct = result.holdout_correct
    return Score(
        key=key,
        subset=result.subset,
        holdout=evaluation.holdout,
        measured=",".join(evaluation.names),
        result=_plain(result.to_dict()),
        correct=None if correct is None else np.packbits(correct).tobytes(),
    )


def _plain(value: Any) -> Any:
    # NumPy's numbers are no JSON, and neither are NaN and infinity, which a score nobody ranks by may be.
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _complete(proposal: Verdict, score: Score, **fields: Any) -> Verdict:
    return replace(proposal, outcome="COMPLETE", subset=score.subset, **fields)


def _tell(study: optuna.Study, number: int, values: list[float] | None, state: optuna.trial.TrialState) -> bool:
    """Tell Optuna; False if the trial is finished already, by a process that thought this one dead."""
    try:
        study.tell(number, values, state=state)
    except ValueError as error:
        if "Cannot tell" not in str(error):
            raise
        return False
    return True
