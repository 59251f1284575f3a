"""What proposals come to: a score that is known already, a reason why there is none, or one computed in a family."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_cntk.architecture import Architecture
from nas_cntk.errors import BackendUnavailable, IllegalArchitecture, NasCntkError
from nas_cntk.records import trials
from nas_cntk.records.database import Records, one_line
from nas_cntk.records.leases import Lease
from nas_cntk.records.trials import Finished, Outcome, Score, Verdict
from nas_cntk.search import rungs
from nas_cntk.search.evaluation import Evaluation, Limits, Observer
from nas_cntk.search.family import Leader, Sibling, most_siblings, siblings

if TYPE_CHECKING:
    import optuna

    from nas_cntk.scoring import ArchitectureScores

MOST_KILLS = 2  # a proposal whose process was killed comes again this often
ATTEMPTS = 2  # at a score that fails
SCORED = ("failed:", "rung ")  # how the reasons begin of those that were scored in vain


@dataclass(frozen=True, slots=True)
class Candidate:
    """A legal proposal under its lease."""

    lease: Lease
    trial: optuna.Trial
    proposal: Verdict  # as far as it is known: key, parameters, sizes, predicted seconds
    architecture: Architecture

    @property
    def key(self) -> str:
        """Its canonical key."""
        assert self.proposal.key is not None
        return self.proposal.key

    def comes_to(self, verdict: Verdict, score: Score | None = None) -> Outcome:
        """Return what is to be recorded of it."""
        return Outcome(verdict, self.architecture.to_json(), score)

    def like(self, number: int, outcome: Outcome) -> Outcome:
        """Return what it comes to as the twin of trial `number`."""
        verdict, score = outcome.verdict, outcome.score
        if verdict.duplicate_of is not None:
            number = verdict.duplicate_of
        if verdict.outcome == "COMPLETE" and score is not None:
            reason = f"duplicate of trial {number}"
            return self.comes_to(
                _complete(self.proposal, score, reason=reason, duplicate_of=number, seconds=0.0), score
            )
        copied = replace(self.proposal, reason=verdict.reason, subset=verdict.subset)
        is_rule = not (verdict.reason or "").startswith(SCORED)
        return self.comes_to(copied if is_rule else replace(copied, duplicate_of=number))


@dataclass(frozen=True, slots=True)
class Measured:
    """What a family was scored to."""

    leaders: list[Outcome]
    siblings: list[Outcome]  # in their order; those that failed are left out


def known_outcome(records: Records, evaluation: Evaluation, limits: Limits, candidate: Candidate) -> Outcome | None:
    """Return what a candidate comes to without being scored; None if it has to be."""
    lease, proposal, key = candidate.lease, candidate.proposal, candidate.key
    recorded = trials.find_score(records, lease.study_id, key, evaluation.subset)
    # Read now, not with the round's other trials: another process may have finished it meanwhile.
    for twin in trials.finished_trials(records, lease.study_id, key):
        complete = twin.verdict.outcome == "COMPLETE" and recorded is not None
        if complete or (twin.verdict.reason or "").startswith(SCORED):
            return candidate.like(twin.number, Outcome(twin.verdict, None, recorded))
    if recorded is not None:
        # It came free with another's.
        seconds = recorded.result.get("seconds")
        spent = float(seconds) if isinstance(seconds, (int, float)) else None
        return candidate.comes_to(_complete(proposal, recorded, seconds=spent), recorded)
    if lease.kills > MOST_KILLS:
        return candidate.comes_to(replace(proposal, reason=f"failed: its process was killed {lease.kills} times"))
    predicted = proposal.predicted_seconds or 0.0
    if predicted > limits.max_trial_seconds:
        reason = f"cost: predicted {_seconds(predicted)}, the limit is {_seconds(limits.max_trial_seconds)}"
        return candidate.comes_to(replace(proposal, reason=reason))
    return None


def measure(
    records: Records,
    evaluation: Evaluation,
    limits: Limits,
    observer: Observer,
    candidates: Sequence[Candidate],
    earlier: Sequence[Finished],
) -> Measured:
    """Score candidates, and the siblings that come nearly free with them, as one family.

    Where a family fails, every candidate is scored by itself.

    Raises:
        BackendUnavailable: if the backend is gone. KeyboardInterrupt: when the limits end the run.
    """
    study_id = candidates[0].lease.study_id
    leaders = [Leader(c.trial.number, c.proposal.parameters or {}, c.architecture) for c in candidates]
    kin = []
    if evaluation.siblings is not None and most_siblings(limits.target, len(candidates)):
        known = {t.verdict.key for t in earlier if t.verdict.key is not None}
        known |= trials.scored_keys(records, study_id, evaluation.subset)
        kin = siblings(evaluation, leaders, known, limits.max_trial_seconds)
    architectures = [*(c.architecture for c in candidates), *(one.architecture for one in kin)]
    first = candidates[0]
    predicted = evaluation.predict(architectures) if len(architectures) > 1 else first.proposal.predicted_seconds or 0.0
    observer.trial_begins(first.trial.number, first.architecture, predicted, len(architectures) - 1)
    if len(architectures) == 1:
        return Measured([_alone(records, evaluation, limits, observer, first, earlier)], [])
    judge = _Rungs(records, evaluation, study_id, candidates, earlier)
    began = time.monotonic()
    try:
        results = _score(evaluation, limits, observer, architectures, judge)
    except BackendUnavailable:
        raise
    except Exception:  # of one of them, and nobody knows of which
        return Measured([_alone(records, evaluation, limits, observer, c, earlier) for c in candidates], [])
    share = predicted / len(results), (time.monotonic() - began) / len(results)
    outcomes = []
    for at, candidate in enumerate(candidates):
        verdict, score = _verdict(evaluation, _shared(candidate.proposal, *share), results[at], judge.reasons.get(at))
        outcomes.append(candidate.comes_to(verdict, score))
    others = []
    for at, one in enumerate(kin, start=len(candidates)):
        verdict, score = _verdict(
            evaluation, _shared(_proposal(evaluation, one), *share), results[at], judge.reasons.get(at)
        )
        if score is not None:
            others.append(Outcome(verdict, one.architecture.to_json(), score))
    return Measured(outcomes, others)


def _alone(
    records: Records,
    evaluation: Evaluation,
    limits: Limits,
    observer: Observer,
    candidate: Candidate,
    earlier: Sequence[Finished],
) -> Outcome:
    """Score one candidate; one that fails is tried once more."""
    proposal = candidate.proposal
    judge = _Rungs(records, evaluation, candidate.lease.study_id, [candidate], earlier)
    began = time.monotonic()
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            (result,) = _score(evaluation, limits, observer, [candidate.architecture], judge)
            spent = replace(proposal, seconds=time.monotonic() - began)
            verdict, score = _verdict(evaluation, spent, result, judge.reasons.get(0))
            if score is not None:
                return candidate.comes_to(verdict, score)
            reason = verdict.reason or ""
        except IllegalArchitecture as error:
            return candidate.comes_to(replace(proposal, reason=f"illegal: {one_line(error)}"))
        except BackendUnavailable:
            raise
        except MemoryError:
            reason = "failed: out of memory"
        except NasCntkError as error:
            reason = f"failed: {one_line(error)}"
        except Exception as error:
            reason = f"failed: {type(error).__name__}: {one_line(error)}"
    return candidate.comes_to(replace(proposal, reason=reason, seconds=time.monotonic() - began))


def _score(
    evaluation: Evaluation, limits: Limits, observer: Observer, family: Sequence[Architecture], judge: _Rungs
) -> list[ArchitectureScores]:
    extra: dict[str, Any] = {"at_rung": judge.drops} if evaluation.rungs else {}
    return evaluation.score(family, observer.progress, lambda: limits.ends() is not None, **extra)


def _verdict(
    evaluation: Evaluation, proposal: Verdict, result: ArchitectureScores, dropped: str | None
) -> tuple[Verdict, Score | None]:
    """Return the verdict and the score; no score where one that Optuna needs is not finite."""
    score = score_of(result, evaluation)
    if result.subset < evaluation.subset:
        return replace(proposal, reason=dropped, subset=result.subset), score
    bad = [name for name in evaluation.names if not math.isfinite(result.values[name])]
    if bad:
        return replace(proposal, reason=f"failed: {bad[0]} is {result.values[bad[0]]}"), None
    return _complete(proposal, score), score


def _shared(proposal: Verdict, predicted: float, spent: float) -> Verdict:
    return replace(proposal, predicted_seconds=predicted, seconds=spent)


def _proposal(evaluation: Evaluation, sibling: Sibling) -> Verdict:
    params, flops = evaluation.sizes(sibling.architecture)
    return Verdict(
        "PRUNED",
        key=sibling.architecture.key,
        sibling_of=sibling.leader,
        parameters=sibling.parameters,
        params=params,
        flops=flops,
    )


def _complete(proposal: Verdict, score: Score, **fields: Any) -> Verdict:
    return replace(proposal, outcome="COMPLETE", subset=score.subset, **fields)


class _Rungs:
    """Compares a family with the best or all so far at every rung, tells Optuna, and records what was found there."""

    def __init__(
        self,
        records: Records,
        evaluation: Evaluation,
        study_id: int,
        candidates: Sequence[Candidate],
        earlier: Sequence[Finished],
    ) -> None:
        self._records, self._evaluation, self._study_id = records, evaluation, study_id
        self._asked = [candidate.trial for candidate in candidates]
        name = evaluation.names[0]
        scored = [t for t in earlier if t.verdict.outcome == "COMPLETE" and t.score is not None]
        best = max(scored, key=lambda t: (t.score.values[name] if t.score else 0.0, -t.ordinal), default=None)
        self._best = None if best is None else best.verdict.key
        self.reasons: dict[int, str] = {}  # of those that were dropped, by place

    def drops(self, found: Mapping[int, ArchitectureScores]) -> list[int]:
        """Return which of those that are left are dropped at this rung."""
        name, size = self._evaluation.names[0], next(iter(found.values())).subset
        trials.record_scores(self._records, self._study_id, [score_of(one, self._evaluation) for one in found.values()])
        for at, scores in found.items():
            if at < len(self._asked):
                self._asked[at].report(float(scores.values[name]), size)
        if name not in rungs.PAIRED:
            return self._behind(found, size)
        if size < self._evaluation.subset // rungs.LEAST_DIVISOR or self._best is None:
            return []
        known = trials.find_score(self._records, self._study_id, self._best, size)
        if known is None or known.correct is None:
            return []
        bits = np.frombuffer(known.correct, np.uint8)
        best = np.unpackbits(bits, count=self._evaluation.holdout).astype(bool)
        dropped = []
        for at, scores in found.items():
            if scores.holdout_correct is None:
                continue
            p = rungs.p_value(best, scores.holdout_correct)
            if p < self._evaluation.prune_level:
                self.reasons[at] = rungs.paired_reason(size, scores.values[name], known.values[name], p)
                dropped.append(at)
        return dropped

    def _behind(self, found: Mapping[int, ArchitectureScores], size: int) -> list[int]:
        """Return which are behind the quantile of those that were scored on as many images before them."""
        name, level = self._evaluation.names[0], self._evaluation.prune_level
        own = {scores.key for scores in found.values()}
        known = trials.scores(self._records, self._study_id, size)
        bound = rungs.quantile(name, [one.values[name] for one in known if one.key not in own], level)
        dropped = []
        for at, scores in found.items():
            if bound is not None and rungs.is_behind(name, scores.values[name], bound):
                self.reasons[at] = rungs.quantile_reason(size, scores.values[name], bound, level)
                dropped.append(at)
        return dropped


def score_of(result: ArchitectureScores, evaluation: Evaluation) -> Score:
    """Return a result as it is recorded."""
    correct = result.holdout_correct
    return Score(
        key=result.key,
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
