"""What became of each trial: written before Optuna is told, read joined with Optuna's states."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from nas_cntk.errors import RecordsError
from nas_cntk.records import leases
from nas_cntk.records.architectures import insert_architecture
from nas_cntk.records.database import Records
from nas_cntk.records.leases import Lease
from nas_cntk.records.studies import is_finished, same_trial
from nas_cntk.records.tables import ARCHITECTURES, OPTUNA_PARAMS, OPTUNA_TRIALS, SCORES, TRIALS

FEW = 100  # trials that are read one by one; more in one pass over all


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trial comes to."""

    outcome: str  # COMPLETE | PRUNED
    reason: str | None = None
    key: str | None = None
    duplicate_of: int | None = None
    sibling_of: int | None = None  # the trial whose score this one came with
    parameters: Mapping[str, object] | None = None
    params: int | None = None
    flops: int | None = None
    subset: int | None = None
    predicted_seconds: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A recorded score of an architecture in a study."""

    key: str
    subset: int
    holdout: int
    measured: str
    result: dict[str, object]  # what scoring returned: values, standard_error, proxy_accuracy, seconds, ...
    correct: bytes | None  # one bit a held-out image, most significant first

    @property
    def values(self) -> dict[str, float]:
        """The scores by name."""
        values = self.result["values"]
        assert isinstance(values, dict)
        return values


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be recorded of a trial."""

    verdict: Verdict
    architecture: str | None  # JSON
    score: Score | None


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished trial with its architecture's score."""

    ordinal: int
    number: int
    verdict: Verdict
    score: Score | None
    architecture: str | None  # JSON
    completed: str | None


def record_outcomes(
    records: Records,
    held: Sequence[tuple[Lease, Outcome]],
    siblings: Sequence[Outcome] = (),
    *,
    target: int = 0,
    most: int = 0,
    first: int = 0,
) -> None:
    """Write what a family comes to in one transaction: Optuna is told of it after this.

    Of `siblings` at most `most` become trials of their own, under free ordinals from `first` up to `target`, and none
    whose architecture has a trial already; all their scores are kept, for when they are proposed.

    Raises:
        RecordsError: if another process has taken an ordinal of `held` over.
    """
    with records.transaction() as connection:
        for lease, outcome in held:
            values = {**_columns(outcome.verdict), "phase": "recorded"}
            if not leases.update(connection, lease, values):
                raise RecordsError(
                    f"trial {lease.ordinal} was taken over by another process; this one was thought dead"
                )
            _insert_architecture(connection, outcome)
        if siblings and most:
            lease = held[0][0]
            taken = set(
                connection.execute(
                    sa.select(TRIALS.c.key).where(TRIALS.c.study_id == lease.study_id, TRIALS.c.key.is_not(None))
                ).scalars()
            )
            new = [outcome for outcome in siblings if outcome.verdict.key not in taken]
            free = [ordinal for ordinal in leases.free(connection, lease.study_id, target) if ordinal >= first]
            for ordinal, outcome in zip(free, new[:most], strict=False):
                values = {**_columns(outcome.verdict), "phase": "recorded"}
                leases.take(connection, lease.study_id, ordinal, lease.owner, values)
                _insert_architecture(connection, outcome)
        for outcome in (*(outcome for _, outcome in held), *siblings):
            if outcome.score is not None:
                _insert_score(connection, held[0][0].study_id, outcome.score)


def _columns(verdict: Verdict) -> dict[str, object]:
    values = {name: getattr(verdict, name) for name in Verdict.__slots__}
    values["parameters"] = json.dumps(verdict.parameters or {}, sort_keys=True, default=str)
    return values


def _insert_architecture(connection: sa.Connection, outcome: Outcome) -> None:
    key = outcome.verdict.key
    if key is not None and outcome.architecture is not None:
        insert_architecture(connection, key, outcome.architecture)


def record_scores(records: Records, study_id: int, scores: Sequence[Score]) -> None:
    """Write what was found on a part of the subset, by trials that are not finished."""
    with records.transaction() as connection:
        for score in scores:
            _insert_score(connection, study_id, score)


def _insert_score(connection: sa.Connection, study_id: int, score: Score) -> None:
    if _score(connection, study_id, score.key, score.subset) is None:
        connection.execute(
            SCORES.insert().values(
                study_id=study_id,
                key=score.key,
                subset=score.subset,
                holdout=score.holdout,
                measured=score.measured,
                result=json.dumps(score.result),  # unsorted: the scores asked for come first
                correct=score.correct,
            )
        )


def find_score(records: Records, study_id: int, key: str, subset: int) -> Score | None:
    """Return the recorded score of an architecture in a study, if there is one."""
    with records.transaction() as connection:
        return _score(connection, study_id, key, subset)


def scored_keys(records: Records, study_id: int, subset: int) -> set[str]:
    """Return the keys of the architectures that have a recorded score on `subset` images."""
    query = sa.select(SCORES.c.key).where(SCORES.c.study_id == study_id, SCORES.c.subset == subset)
    with records.transaction() as connection:
        return set(connection.execute(query).scalars())


def scores(records: Records, study_id: int, subset: int | None = None) -> list[Score]:
    """Return every recorded score of a study, by subset; or those on one of so many images."""
    query = SCORES.select().where(SCORES.c.study_id == study_id).order_by(SCORES.c.subset)
    if subset is not None:
        query = query.where(SCORES.c.subset == subset)
    with records.transaction() as connection:
        return [_score_of(row) for row in connection.execute(query).mappings()]


def finished_trials(records: Records, study_id: int, key: str | None = None) -> list[Finished]:
    """Return every COMPLETE or PRUNED trial of the study, or of one architecture in it, by ordinal."""
    query = _finished_query(study_id)
    if key is not None:
        query = query.where(TRIALS.c.key == key)
    with records.transaction() as connection:
        return _read(connection, query)


class History:
    """The finished trials of a study for a process that asks again and again: each is read once, as none changes."""

    def __init__(self, records: Records, study_id: int) -> None:
        self._records, self._study_id = records, study_id
        self._known: dict[int, Finished] = {}

    def trials(self) -> list[Finished]:
        """Return every trial that is finished by now, by ordinal."""
        query = sa.select(TRIALS.c.ordinal).select_from(TRIALS.join(OPTUNA_TRIALS, same_trial()))
        with self._records.transaction() as connection:
            ordinals = connection.execute(query.where(*is_finished(self._study_id))).scalars()
            new = [ordinal for ordinal in ordinals if ordinal not in self._known]
            if new:
                found = _finished_query(self._study_id)
                if len(new) <= FEW:
                    found = found.where(TRIALS.c.ordinal.in_(new))
                self._known |= {trial.ordinal: trial for trial in _read(connection, found)}
        return [self._known[ordinal] for ordinal in sorted(self._known)]


def _finished_query(study_id: int) -> sa.Select[Any]:
    query = _with_scores(TRIALS.join(OPTUNA_TRIALS, same_trial()), OPTUNA_TRIALS.c.datetime_complete)
    return query.where(*is_finished(study_id))


def _read(connection: sa.Connection, query: sa.Select[Any]) -> list[Finished]:
    # Ordered here: asked to, SQLite reads all of Optuna's trials for each of ours.
    found = [_finished(row, str(row["datetime_complete"])) for row in connection.execute(query).mappings()]
    return sorted(found, key=lambda trial: trial.ordinal)


def recorded_trial(records: Records, study_id: int, ordinal: int, number: int) -> Finished:
    """Return what was recorded under an ordinal, as the trial `number` that it is about to be."""
    query = _with_scores(TRIALS).where(TRIALS.c.study_id == study_id, TRIALS.c.ordinal == ordinal)
    with records.transaction() as connection:
        return replace(_finished(connection.execute(query).mappings().one(), None), number=number)


def _with_scores(trials: sa.FromClause, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    join = trials.outerjoin(ARCHITECTURES, ARCHITECTURES.c.key == TRIALS.c.key).outerjoin(
        SCORES,
        sa.and_(
            SCORES.c.study_id == TRIALS.c.study_id,
            SCORES.c.key == TRIALS.c.key,
            SCORES.c.subset == TRIALS.c.subset,
        ),
    )
    found = (ARCHITECTURES.c.json, SCORES.c.holdout, SCORES.c.measured, SCORES.c.result, SCORES.c.correct)
    return sa.select(*TRIALS.c, *columns, *found).select_from(join)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A value that the sampler suggested for a parameter, as Optuna stores both."""

    name: str
    value: float  # of a choice, its place among the choices
    distribution: str  # JSON


def suggestions(records: Records, study_id: int) -> dict[int, list[Suggestion]]:
    """Return what was suggested for every trial, by its number; a trial without parameters is not there."""
    query = (
        sa.select(OPTUNA_TRIALS.c.number, *OPTUNA_PARAMS.c)
        .select_from(OPTUNA_PARAMS.join(OPTUNA_TRIALS, OPTUNA_TRIALS.c.trial_id == OPTUNA_PARAMS.c.trial_id))
        .where(OPTUNA_TRIALS.c.study_id == study_id)
        .order_by(OPTUNA_TRIALS.c.number, OPTUNA_PARAMS.c.param_name)
    )
    found: dict[int, list[Suggestion]] = {}
    with records.transaction() as connection:
        for row in connection.execute(query).mappings():
            one = Suggestion(row["param_name"], row["param_value"], row["distribution_json"])
            found.setdefault(row["number"], []).append(one)
    return found


def _finished(row: sa.RowMapping, completed: str | None) -> Finished:
    verdict = Verdict(
        outcome=row["outcome"],
        reason=row["reason"],
        key=row["key"],
        duplicate_of=row["duplicate_of"],
        sibling_of=row["sibling_of"],
        parameters=json.loads(row["parameters"] or "{}"),
        params=row["params"],
        flops=row["flops"],
        subset=row["subset"],
        predicted_seconds=row["predicted_seconds"],
        seconds=row["seconds"],
    )
    score = None
    if row["result"] is not None:
        score = Score(
            row["key"],
            row["subset"],
            row["holdout"],
            row["measured"],
            json.loads(row["result"]),
            row["correct"],
        )
    return Finished(row["ordinal"], row["number"], verdict, score, row["json"], completed)


def _score(connection: sa.Connection, study_id: int, key: str, subset: int) -> Score | None:
    query = SCORES.select().where(SCORES.c.study_id == study_id, SCORES.c.key == key, SCORES.c.subset == subset)
    row = connection.execute(query).mappings().first()
    return None if row is None else _score_of(row)


def _score_of(row: sa.RowMapping) -> Score:
    return Score(row["key"], row["subset"], row["holdout"], row["measured"], json.loads(row["result"]), row["correct"])
