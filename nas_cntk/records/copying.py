"""A study copied from one database to another, and compared with the original row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from nas_cntk.errors import RecordsError, StudyError
from nas_cntk.records import studies
from nas_cntk.records.architectures import insert_architecture
from nas_cntk.records.database import Records
from nas_cntk.records.leases import any_alive
from nas_cntk.records.tables import ARCHITECTURES, CHANGES, POINTS, SCORES, STUDIES, TRIALS, VALIDATIONS

if TYPE_CHECKING:
    import optuna

_OF_A_STUDY = (STUDIES, TRIALS, SCORES, CHANGES, VALIDATIONS, POINTS)
_OWNERSHIP = ("owner", "host", "pid", "started", "heartbeat")  # of a lease: means nothing elsewhere
_MARK = "nas_cntk_copy_of"  # the user attribute of a copy that is not finished


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied of a study, and compared."""

    study: str
    trials: int  # Optuna's
    rows: int  # ours


def copy_study(
    source: Records,
    target: Records,
    storages: tuple[optuna.storages.RDBStorage, optuna.storages.RDBStorage],
    name: str,
) -> Copied:
    """Copy the study called `name`, Optuna's part first, and compare. Killed in between, it is done anew the next time.

    Raises:
        StudyError: if there is no such study, it is being searched, or the target has one of that name.
        RecordsError: if the copy is not what the original is.
    """
    import optuna

    study = studies.find_study(source, name)
    with source.transaction() as connection:
        if any_alive(connection, study.study_id):
            raise StudyError(f"study {name!r} is being searched; stop that process first (Ctrl-C)")
    _make_room(target, storages[1], name)
    original = optuna.load_study(study_name=name, storage=storages[0])
    made = optuna.create_study(study_name=name, storage=storages[1], directions=original.directions)
    made.set_user_attr(_MARK, str(source.location))
    made.add_trials(original.get_trials(deepcopy=False))
    for key, value in original.user_attrs.items():
        made.set_user_attr(key, value)
    ours = _ours(source, study.study_id)
    with target.transaction() as connection:
        for key, text in _architectures(source, study.study_id).items():
            insert_architecture(connection, key, text)
        for table, rows in ours.items():
            if rows:
                connection.execute(table.insert(), [{**row, "study_id": made._study_id} for row in rows])
    if _ours(target, made._study_id) != ours:
        raise RecordsError(f"the copy of study {name!r} in {target.location} differs from the original")
    _compare(original, made, target)
    return Copied(name, len(original.get_trials(deepcopy=False)), sum(map(len, ours.values())))


def _make_room(target: Records, storage: optuna.storages.RDBStorage, name: str) -> None:
    import optuna

    known = studies.study_names(target)
    if name not in known:
        return
    left = not known[name] and _MARK in optuna.load_study(study_name=name, storage=storage).user_attrs
    if not left:
        raise StudyError(f"{target.location} has a study {name!r} already; rename one of them")
    optuna.delete_study(study_name=name, storage=storage)  # what a copy that was killed has left


def _ours(records: Records, study_id: int) -> dict[sa.Table, list[dict[str, Any]]]:
    """Return our rows of a study, in an order of their own, without what a database numbers by itself."""
    found = {}
    with records.transaction() as connection:
        for table in _OF_A_STUDY:
            left_out = {"study_id", "change_id", *(_OWNERSHIP if table is TRIALS else ())}
            columns = [column for column in table.c if column.name not in left_out]
            query = sa.select(*columns).where(table.c.study_id == study_id).order_by(*table.primary_key.columns)
            found[table] = [_plain(dict(row)) for row in connection.execute(query).mappings()]
    return found


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()}


def _architectures(records: Records, study_id: int) -> dict[str, str]:
    keys = sa.select(TRIALS.c.key).where(TRIALS.c.study_id == study_id)
    query = sa.select(ARCHITECTURES.c.key, ARCHITECTURES.c.json).where(ARCHITECTURES.c.key.in_(keys))
    with records.transaction() as connection:
        return {key: text for key, text in connection.execute(query)}


def _compare(original: optuna.Study, made: optuna.Study, target: Records) -> None:
    before, after = (_told(study) for study in (original, made))
    if before != after:
        raise RecordsError(
            f"Optuna's trials of study {made.study_name!r} in {target.location} differ from the original"
        )


def _told(study: optuna.Study) -> Sequence[tuple[Any, ...]]:
    return [
        (t.number, t.state, t.values, t.params, t.distributions, t.user_attrs, t.intermediate_values, t.datetime_start)
        for t in study.get_trials(deepcopy=False)
    ]
