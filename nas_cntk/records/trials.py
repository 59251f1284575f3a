"""What became of each trial: written before Optuna is told, read joined with Optuna's states."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from nas_cntk.errors import RecordsError
from nas_cntk.records.database import Records
from nas_cntk.records.leases import Lease
from nas_cntk.records.studies import same_trial
from nas_cntk.records.tables import ARCHITECTURES, OPTUNA_PARAMS, OPTUNA_TRIALS, SCORES, TRIALS


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trial comes to."""

    outcome: str  # COMPLETE | PRUNED
    reason: str | None = None
    key: str | None = None
    duplicate_of: int | None = None
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
class Finished:
    """A finished trial with its architecture's score."""

    ordinal: int
    number: int
    verdict: Verdict
    score: Score | None
    architecture: str | None  # JSON
    completed: str | None


def record_verdict(
    records: Records, lease: Lease, verdict: Verdict, architecture: str | None, score: Score | None
) -> None:
    """Write what the trial comes to, its architecture and its score, in one transaction.

    The trial is finished when Optuna is told, after this: killed in between, its proposal returns and finds its score.

    Raises:
        RecordsError: if another process has taken the ordinal over.
    """
    with records.transaction() as connection:
        changed = connection.execute(
            TRIALS.update()
            .where(
                TRIALS.c.study_id == lease.study_id,
                TRIALS.c.ordinal == lease.ordinal,
                TRIALS.c.owner == lease.owner.token,
            )
            .values(
                outcome=verdict.outcome,
                reason=verdict.reason,
                key=verdict.key,
                duplicate_of=verdict.duplicate_of,
                parameters=json.dumps(verdict.parameters or {}, sort_keys=True, default=str),
                params=verdict.params,
                flops=verdict.flops,
                subset=verdict.subset,
                predicted_seconds=verdict.predicted_seconds,
                seconds=verdict.seconds,
            )
        )
        if changed.rowcount == 0:
            raise RecordsError(f"trial {lease.ordinal} was taken over by another process; this one was thought dead")
        if verdict.key is not None and architecture is not None:
            known = sa.select(ARCHITECTURES.c.key).where(ARCHITECTURES.c.key == verdict.key)
            if connection.execute(known).first() is None:
                connection.execute(ARCHITECTURES.insert().values(key=verdict.key, json=architecture))
        if score is not None:
            _insert_score(connection, lease.study_id, score)


def record_rung(records: Records, lease: Lease, score: Score) -> None:
    """Write what was found on a part of the subset, by a trial that is not finished."""
    with records.transaction() as connection:
        _insert_score(connection, lease.study_id, score)


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


def scores(records: Records, study_id: int) -> list[Score]:
    """Return every recorded score of a study, by subset."""
    query = SCORES.select().where(SCORES.c.study_id == study_id).order_by(SCORES.c.subset)
    with records.transaction() as connection:
        return [_score_of(row) for row in connection.execute(query).mappings()]


def finished_trials(records: Records, study_id: int) -> list[Finished]:
    """Return every COMPLETE or PRUNED trial of the study, by ordinal."""
    join = (
        TRIALS.join(OPTUNA_TRIALS, same_trial())
        .outerjoin(ARCHITECTURES, ARCHITECTURES.c.key == TRIALS.c.key)
        .outerjoin(
            SCORES,
            sa.and_(
                SCORES.c.study_id == TRIALS.c.study_id,
                SCORES.c.key == TRIALS.c.key,
                SCORES.c.subset == TRIALS.c.subset,
            ),
        )
    )
    query = (
        sa.select(
            *TRIALS.c,
            OPTUNA_TRIALS.c.datetime_complete,
            ARCHITECTURES.c.json,
            SCORES.c.holdout,
            SCORES.c.measured,
            SCORES.c.result,
            SCORES.c.correct,
        )
        .select_from(join)
        .where(TRIALS.c.study_id == study_id, OPTUNA_TRIALS.c.state.in_(("COMPLETE", "PRUNED")))
        .order_by(TRIALS.c.ordinal)
    )
    with records.transaction() as connection:
        rows = connection.execute(query).mappings().all()
    return [_finished(row) for row in rows]


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


def _finished(row: sa.RowMapping) -> Finished:
    verdict = Verdict(
        outcome=row["outcome"],
        reason=row["reason"],
        key=row["key"],
        duplicate_of=row["duplicate_of"],
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
    return Finished(row["ordinal"], row["number"], verdict, score, row["json"], row["datetime_complete"])


def _score(connection: sa.Connection, study_id: int, key: str, subset: int) -> Score | None:
    query = SCORES.select().where(SCORES.c.study_id == study_id, SCORES.c.key == key, SCORES.c.subset == subset)
    row = connection.execute(query).mappings().first()
    return None if row is None else _score_of(row)


def _score_of(row: sa.RowMapping) -> Score:
    return Score(row["key"], row["subset"], row["holdout"], row["measured"], json.loads(row["result"]), row["correct"])
