"""The loop: lease ordinals, ask for proposals, judge them, record them, tell Optuna; until the total is reached."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from nas_cntk.errors import IllegalArchitecture
from nas_cntk.records import leases, trials
from nas_cntk.records.database import Records, one_line
from nas_cntk.records.leases import Lease, Nothing, Owner
from nas_cntk.records.studies import Study
from nas_cntk.records.trials import Finished, Outcome, Verdict
from nas_cntk.search.evaluation import Evaluation, Limits, Observer
from nas_cntk.search.family import most_siblings
from nas_cntk.search.judging import Candidate, known_outcome, measure
from nas_cntk.search.samplers import fixed_sampler, make_sampler, random_sampler
from nas_cntk.search.start import points_of
from nas_cntk.search.storage import optuna_errors
from nas_cntk.search.telling import attributes, fail, tell_recorded

if TYPE_CHECKING:
    import optuna

_Settled = tuple["Lease", "optuna.Trial", "Outcome"]

REPEATS = 3  # duplicates in a row, after which a proposal is drawn at random


class _Ended(Exception):
    """The run ends in the middle of a trial."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What every step of a run needs."""

    records: Records
    optuna: optuna.Study
    study: Study
    evaluation: Evaluation
    limits: Limits
    observer: Observer
    owner: Owner
    history: trials.History

    @property
    def start(self) -> Sequence[Mapping[str, Any]]:
        """The parameters of the first proposals, by ordinal, where they are given."""
        return points_of(self.study.config)

    def tell(self) -> None:
        """Tell Optuna, then the observer, of what is recorded."""
        for trial in tell_recorded(self.records, self.study.study_id, self.optuna, self.evaluation, self.owner):
            self.observer.trial_ends(trial)


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
        whole = _Run(
            records, optuna_study, study, evaluation, limits, observer, owner, trials.History(records, study.study_id)
        )
        while True:
            whole.tell()  # first what a process left that was killed: a sampler is to know of it
            ended = limits.ends()
            if ended is not None:
                return ended
            held = _claim(whole)
            if isinstance(held, Nothing):
                if not held.working:
                    return "complete"
                observer.waits(held.working)
                time.sleep(1.0)
                continue
            try:
                _round(whole, held)
            except _Ended:
                return limits.ends() or "interrupted"


def _claim(run: _Run) -> list[Lease] | Nothing:
    """Lease as many ordinals as are asked for at once, fewer at the end of the study."""
    held: list[Lease] = []
    while len(held) < run.evaluation.batch:
        lease = leases.claim(run.records, run.study.study_id, run.limits.target, run.owner)
        if isinstance(lease, Nothing):
            return held or lease
        held.append(lease)
    return held


def _round(run: _Run, held: Sequence[Lease]) -> None:
    """Take some ordinals from the proposals to the records."""
    asked: list[optuna.Trial] = []
    try:
        # A zombie RUNNING trial would be counted by TPE as a bad one, and change what it proposes next.
        for number in leases.zombies(run.records, run.study.study_id, run.owner):
            fail(run.optuna, number)
        earlier = run.history.trials()
        settled: list[_Settled] = []  # recorded with the others: what is asked after a kill must find the same records
        waiting: list[Candidate] = []
        for lease in held:
            sampler = _sampler(run.study, lease.ordinal, earlier)
            given = run.start[lease.ordinal] if lease.ordinal < len(run.start) else None
            run.optuna.sampler = sampler if given is None else fixed_sampler(given, sampler)
            asked.append(run.optuna.ask())
            proposal = _propose(run, lease, asked[-1])
            if isinstance(proposal, Candidate):
                waiting.append(proposal)
            else:
                settled.append((lease, asked[-1], proposal))
        while waiting or settled:
            # Another process may score an equal architecture: its score will be ours. Whoever waits holds no key.
            ready = [c for c in waiting if _claim_key(run, c)]
            if ready or settled:
                keys = {c.key for c in ready}
                twins = [c for c in waiting if c not in ready and c.key in keys]
                _judge(run, ready, twins, settled, earlier)
                settled, waiting = [], [c for c in waiting if c.key not in keys]
                earlier = run.history.trials() if waiting else earlier
            elif run.limits.ends() is not None:
                raise KeyboardInterrupt
            else:
                time.sleep(0.2)
                run.tell()  # of what they wait for, where whoever recorded it has died
    except BaseException as error:
        # Whatever ends the run, what is not recorded is free for the next one; if even that cannot be written, the
        # next one finds a dead owner.
        for lease, trial in zip_longest(held, asked):
            with suppress(Exception):
                if leases.release(run.records, lease) and trial is not None:
                    fail(run.optuna, trial.number)
        if isinstance(error, KeyboardInterrupt):
            raise _Ended from None
        raise


def _claim_key(run: _Run, candidate: Candidate) -> bool:
    text, predicted = candidate.architecture.to_json(), candidate.proposal.predicted_seconds
    return leases.claim_key(run.records, candidate.lease, candidate.key, text, predicted)


def _propose(run: _Run, lease: Lease, trial: optuna.Trial) -> Candidate | Outcome:
    """Ask the space for an architecture; return it as a candidate, or what becomes of an illegal one."""
    illegal = None
    try:
        architecture = run.evaluation.propose(trial)
        params, flops = run.evaluation.sizes(architecture)
        key = architecture.key
    except IllegalArchitecture as error:
        illegal = one_line(error)
    leases.begin_scoring(run.records, lease, trial.number)
    parameters = dict(trial.params)
    if illegal is not None:
        return Outcome(Verdict("PRUNED", reason=f"illegal: {illegal}", parameters=parameters), None, None)
    predicted = run.evaluation.predict([architecture])
    proposal = Verdict(
        "PRUNED", key=key, parameters=parameters, params=params, flops=flops, predicted_seconds=predicted
    )
    return Candidate(lease, trial, proposal, architecture)


def _judge(
    run: _Run,
    ready: Sequence[Candidate],
    twins: Sequence[Candidate],
    settled: Sequence[_Settled],
    earlier: Sequence[Finished],
) -> None:
    """Record what candidates, those with equal keys, and their siblings come to, and tell Optuna."""
    outcomes = [known_outcome(run.records, run.evaluation, run.limits, one) for one in ready]
    new = [candidate for candidate, outcome in zip(ready, outcomes, strict=True) if outcome is None]
    others: Sequence[Outcome] = ()
    if new:
        measured = measure(run.records, run.evaluation, run.limits, run.observer, new, earlier)
        fresh = iter(measured.leaders)
        outcomes = [next(fresh) if outcome is None else outcome for outcome in outcomes]
        others = measured.siblings
    found = [*settled]
    by_key: dict[str, tuple[int, Outcome]] = {}
    for candidate, outcome in zip(ready, outcomes, strict=True):
        assert outcome is not None
        found.append((candidate.lease, candidate.trial, outcome))
        by_key[candidate.key] = candidate.trial.number, outcome
    found += [(twin.lease, twin.trial, twin.like(*by_key[twin.key])) for twin in twins]
    for lease, trial, outcome in found:
        told = Finished(lease.ordinal, trial.number, outcome.verdict, None, None, None)
        for name, value in attributes(told).items():
            trial.set_user_attr(name, value)
    trials.record_outcomes(
        run.records,
        [(lease, outcome) for lease, _, outcome in found],
        others,
        target=run.limits.target,
        most=most_siblings(run.limits.target, len(new)),
        first=len(run.start),
    )
    run.tell()


def _sampler(study: Study, ordinal: int, earlier: list[Finished]) -> optuna.samplers.BaseSampler:
    seed = study.identity["seed"]
    assert isinstance(seed, int)
    before = {trial.ordinal: trial for trial in earlier}
    last = [before.get(n) for n in range(ordinal - REPEATS, ordinal)]
    if all(trial is not None and trial.verdict.duplicate_of is not None for trial in last):
        return random_sampler(seed, ordinal)
    return make_sampler(study.sampler, seed, ordinal)
