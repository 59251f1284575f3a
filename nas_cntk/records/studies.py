"""Studies: made, found, listed, renamed, deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from nas_cntk.errors import StudyError, UsageError
from nas_cntk.records.database import Records
from nas_cntk.records.leases import any_alive
from nas_cntk.records.tables import (
    ARCHITECTURES,
    CHANGES,
    OPTUNA_STUDIES,
    OPTUNA_TRIALS,
    POINTS,
    SCORES,
    STUDIES,
    TRIALS,
    VALIDATIONS,
)

LONGEST_NAME = 200  # Optuna's column holds 512 characters, a screen fewer


@dataclass(frozen=True, slots=True)
class Study:
    """A study as it is stored."""

    study_id: int
    name: str
    created: str
    target: int
    identity: dict[str, object]
    config: dict[str, object]
    sampler: dict[str, object]
    versions: dict[str, str]
    rate: float | None
    rate_backend: str | None


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A line of the list of studies."""

    name: str
    created: str
    finished: int
    target: int
    scores: str
    data: str
    space: str
    sampler: str
    running: bool


def insert_study(
    records: Records,
    study_id: int,
    *,
    target: int,
    identity: Mapping[str, object],
    config: Mapping[str, object],
    sampler: Mapping[str, object],
    versions: Mapping[str, str],
    space_source: str,
    rate: float | None,
    rate_backend: str | None,
) -> bool:
    """Record a new study beside the one that Optuna has just made; False if another process was faster."""
    with records.transaction() as connection:
        if connection.execute(sa.select(STUDIES.c.study_id).where(STUDIES.c.study_id == study_id)).first():
            return False
        connection.execute(
            STUDIES.insert().values(
                study_id=study_id,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                target=target,
                identity=_json(identity),
                config=_json(config),
                sampler=_json(sampler),
                versions=_json(versions),
                space_source=space_source,
                rate=rate,
                rate_backend=rate_backend,
            )
        )
    return True


def find_study(records: Records, name: str | None) -> Study:
    """Return the study called `name`, the newest one if it is None.

    Raises:
        StudyError: if there is none; the message says which there are.
    """
    with records.transaction() as connection:
        if not _optuna_is_there(connection):
            raise StudyError(f"database {records.location} holds no study yet; run `nas-cntk search`")
        query = _joined().order_by(STUDIES.c.created.desc(), STUDIES.c.study_id.desc())
        if name is not None:
            query = query.where(OPTUNA_STUDIES.c.study_name == name)
        row = connection.execute(query).mappings().first()
        if row is None:
            known = connection.execute(_joined().order_by(STUDIES.c.created.desc())).mappings().all()
            if not known or name is None:
                raise StudyError(f"database {records.location} holds no study yet; run `nas-cntk search`")
            names = ", ".join(str(other["study_name"]) for other in known[:5])
            raise StudyError(f"no study {name!r} in {records.location}; it has {names}")
    return Study(
        study_id=row["study_id"],
        name=row["study_name"],
        created=row["created"],
        target=row["target"],
        identity=json.loads(row["identity"]),
        config=json.loads(row["config"]),
        sampler=json.loads(row["sampler"]),
        versions=json.loads(row["versions"]),
        rate=row["rate"],
        rate_backend=row["rate_backend"],
    )


def study_names(records: Records) -> dict[str, bool]:
    """Return the name of every study in the file, Optuna's own among them, and whether it is one of ours."""
    with records.transaction() as connection:
        if not _optuna_is_there(connection):
            return {}
        ours = set(connection.execute(sa.select(STUDIES.c.study_id)).scalars())
        rows = connection.execute(sa.select(OPTUNA_STUDIES.c.study_name, OPTUNA_STUDIES.c.study_id)).all()
        return {name: study_id in ours for name, study_id in rows}


def check_name(name: str) -> None:
    """Refuse a name that nobody could type or read in a list.

    Raises:
        UsageError: if it is empty, too long, or holds line breaks or other unprintable characters.
    """
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise UsageError(
            f"{name[:60]!r} is no name for a study; give 1 to {LONGEST_NAME} printable characters, no space at the ends"
        )


def free_name(records: Records, stem: str) -> str:
    """Return the first of stem-1, stem-2, ... that no study has."""
    taken = study_names(records)
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def list_studies(records: Records) -> list[StudyRow]:
    """Return every study of ours, the newest first."""
    with records.transaction() as connection:
        if not _optuna_is_there(connection):
            return []
        rows = connection.execute(_joined().order_by(STUDIES.c.created.desc(), STUDIES.c.study_id.desc())).mappings()
        return [
            StudyRow(
                name=row["study_name"],
                created=row["created"],
                finished=count_finished(connection, row["study_id"]),
                target=row["target"],
                scores=",".join(json.loads(row["identity"]).get("score", [])),
                data=str(json.loads(row["config"]).get("data", "")),
                space=str(json.loads(row["identity"]).get("space", "")),
                sampler=str(json.loads(row["sampler"]).get("name", "")),
                running=any_alive(connection, row["study_id"]),
            )
            for row in rows.all()
        ]


def count_finished(connection: sa.Connection, study_id: int) -> int:
    """Return how many trials of the study are COMPLETE or PRUNED."""
    return int(connection.execute(_finished_count(study_id)).scalar_one())


def _finished_count(study_id: int) -> sa.Select[Any]:
    joined = TRIALS.join(OPTUNA_TRIALS, same_trial())
    return sa.select(sa.func.count()).select_from(joined).where(*is_finished(study_id))


def is_finished(study_id: int) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions of a finished trial of a study, in that join."""
    return TRIALS.c.study_id == study_id, OPTUNA_TRIALS.c.state.in_(("COMPLETE", "PRUNED"))


def same_trial() -> sa.ColumnElement[bool]:
    """Return the condition that joins our trials with Optuna's."""
    return sa.and_(OPTUNA_TRIALS.c.study_id == TRIALS.c.study_id, OPTUNA_TRIALS.c.number == TRIALS.c.number)


def change_study(
    records: Records,
    study: Study,
    *,
    target: int,
    sampler: Mapping[str, object],
    config: Mapping[str, object],
) -> list[str]:
    """Store what a new run of the study changes, and that it changed; return the names of what did."""
    stored: dict[str, object] = {"trials": study.target, "sampler": study.sampler, **study.config}
    asked: dict[str, object] = {"trials": target, "sampler": sampler, **config}
    changed = [setting for setting in asked if stored.get(setting) != asked[setting]]
    if not changed:
        return []
    with records.transaction() as connection:
        connection.execute(
            STUDIES.update()
            .where(STUDIES.c.study_id == study.study_id)
            .values(target=target, sampler=_json(sampler), config=_json({**study.config, **config}))
        )
        finished = count_finished(connection, study.study_id)
        for setting in changed:
            connection.execute(
                CHANGES.insert().values(
                    study_id=study.study_id,
                    finished=finished,
                    changed=datetime.now(UTC).isoformat(timespec="seconds"),
                    setting=setting,
                    before=json.dumps(stored.get(setting)),
                    after=json.dumps(asked[setting]),
                )
            )
    return changed


def changes(records: Records, study_id: int) -> list[dict[str, object]]:
    """Return what was changed on resuming, in order."""
    with records.transaction() as connection:
        query = CHANGES.select().where(CHANGES.c.study_id == study_id).order_by(CHANGES.c.change_id)
        return [
            {
                "finished": row["finished"],
                "changed": row["changed"],
                "setting": row["setting"],
                "before": json.loads(row["before"]),
                "after": json.loads(row["after"]),
            }
            for row in connection.execute(query).mappings()
        ]


def rename_study(records: Records, name: str, to: str) -> None:
    """Rename a study; Optuna's table is the only place that holds names.

    Raises:
        StudyError: if there is no such study, or the new name is taken.
        UsageError: if the new name is none.
    """
    check_name(to)
    study = find_study(records, name)
    if to in study_names(records):
        raise StudyError(f"there is already a study {to!r}; choose another name")
    with records.transaction() as connection:
        update = sa.update(OPTUNA_STUDIES).where(OPTUNA_STUDIES.c.study_id == study.study_id)
        connection.execute(update.values(study_name=to))


def delete_study(records: Records, name: str) -> int:
    """Delete a study, ours and Optuna's rows in one transaction; return how many trials it had.

    Raises:
        StudyError: if there is no such study, or a live process is searching it.
    """
    study = find_study(records, name)
    with records.transaction() as connection:
        if any_alive(connection, study.study_id):
            raise StudyError(f"study {name!r} is being searched; stop that process first (Ctrl-C)")
        finished = count_finished(connection, study.study_id)
        for table in (TRIALS, SCORES, CHANGES, VALIDATIONS, POINTS, STUDIES):
            connection.execute(table.delete().where(table.c.study_id == study.study_id))
        delete_from_optuna(connection, study.study_id)
        drop_unused_architectures(connection)
    return finished


def delete_from_optuna(connection: sa.Connection, study_id: int) -> None:
    """Delete a study's rows from whatever tables Optuna has."""
    # Optuna's own delete opens a transaction of its own: a kill between it and ours would leave half a study.
    metadata = sa.MetaData()
    metadata.reflect(connection, only=lambda table, _: not table.startswith("ncntk_"))
    trials = sa.select(OPTUNA_TRIALS.c.trial_id).where(OPTUNA_TRIALS.c.study_id == study_id)
    for table in reversed(metadata.sorted_tables):
        if table.name != "trials" and "trial_id" in table.c:
            connection.execute(table.delete().where(table.c.trial_id.in_(trials)))
        elif "study_id" in table.c:
            connection.execute(table.delete().where(table.c.study_id == study_id))


def drop_unused_architectures(connection: sa.Connection) -> None:
    """Delete the architectures that no trial has any more."""
    used = sa.select(TRIALS.c.key).where(TRIALS.c.key.is_not(None))
    connection.execute(ARCHITECTURES.delete().where(ARCHITECTURES.c.key.not_in(used)))


def _joined() -> sa.Select[tuple[object, ...]]:
    joined = STUDIES.join(OPTUNA_STUDIES, OPTUNA_STUDIES.c.study_id == STUDIES.c.study_id)
    return sa.select(*STUDIES.c, OPTUNA_STUDIES.c.study_name).select_from(joined)


def _optuna_is_there(connection: sa.Connection) -> bool:
    # Between our tables and Optuna's the first process may have been killed.
    return sa.inspect(connection).has_table("trials")


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)
