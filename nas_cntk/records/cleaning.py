"""What a database no longer needs, and its removal."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from nas_cntk.records import leases, studies
from nas_cntk.records.database import SQLITE, Records
from nas_cntk.records.tables import ARCHITECTURES, OPTUNA_STUDIES, OPTUNA_TRIALS, STUDIES, TRIALS


@dataclass(frozen=True, slots=True)
class Waste:
    """What may go: nothing here is a finished trial, a score, or anything of a live process."""

    empty_studies: tuple[str, ...]  # named, then killed before they were recorded: no trial, nothing of ours
    dead_trials: tuple[tuple[str, int], ...]  # study and number of trials whose process was killed
    architectures: int  # that no trial has
    free_bytes: int  # inside the file

    def __bool__(self) -> bool:
        return bool(self.empty_studies or self.dead_trials or self.architectures or self.free_bytes)

    def lines(self) -> list[str]:
        """Return what may go, one line each."""
        found = [f"the empty study {name}, killed while it was made" for name in self.empty_studies]
        found += [
            f"the running state of trial {number} of {name}, whose process is dead" for name, number in self.dead_trials
        ]
        if self.architectures:
            found.append(f"{self.architectures} architectures that no trial has")
        if self.free_bytes:
            found.append(f"{self.free_bytes} unused bytes of the file")
        return found


def find_waste(records: Records) -> Waste:
    """Return what is no longer needed."""
    with records.transaction() as connection:
        unused = sa.select(sa.func.count()).where(
            ARCHITECTURES.c.key.not_in(sa.select(TRIALS.c.key).where(TRIALS.c.key.is_not(None)))
        )
        architectures = connection.execute(unused).scalar_one()
        free = _free_bytes(connection)
        if not sa.inspect(connection).has_table("trials"):
            return Waste((), (), architectures, free)
        ours = sa.select(STUDIES.c.study_id)
        busy = sa.select(OPTUNA_TRIALS.c.study_id)
        empty = sa.select(OPTUNA_STUDIES.c.study_name).where(
            OPTUNA_STUDIES.c.study_id.not_in(ours), OPTUNA_STUDIES.c.study_id.not_in(busy)
        )
        empty_studies = tuple(connection.execute(empty.order_by("study_name")).scalars())
        known = connection.execute(
            sa.select(OPTUNA_STUDIES.c.study_id, OPTUNA_STUDIES.c.study_name).where(OPTUNA_STUDIES.c.study_id.in_(ours))
        ).all()
    dead = [(name, number) for study_id, name in known for number in leases.zombies(records, study_id, None)]
    return Waste(empty_studies, tuple(dead), architectures, free)


def _free_bytes(connection: sa.Connection) -> int:
    if connection.dialect.name != SQLITE:
        return 0  # a server uses its own again
    pages = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    return int(pages * size)


def remove_waste(records: Records, waste: Waste) -> None:
    """Remove it: the dead trials become FAIL, the rest goes, and the file shrinks."""
    for name in dict.fromkeys(name for name, _ in waste.dead_trials):
        leases.reopen_dead(records, studies.find_study(records, name).study_id)
    with records.transaction() as connection:
        for name, number in waste.dead_trials:
            study_id = sa.select(OPTUNA_STUDIES.c.study_id).where(OPTUNA_STUDIES.c.study_name == name).scalar_subquery()
            connection.execute(
                sa.update(OPTUNA_TRIALS)
                .where(
                    OPTUNA_TRIALS.c.study_id == study_id,
                    OPTUNA_TRIALS.c.number == number,
                    OPTUNA_TRIALS.c.state == "RUNNING",
                )
                .values(state="FAIL", datetime_complete=sa.func.current_timestamp())
            )
        for name in waste.empty_studies:
            found = sa.select(OPTUNA_STUDIES.c.study_id).where(OPTUNA_STUDIES.c.study_name == name)
            for study_id in connection.execute(found).scalars().all():
                studies.delete_from_optuna(connection, study_id)
        studies.drop_unused_architectures(connection)
    if records.location.server:
        return  # which looks after its own space
    # VACUUM runs outside any transaction.
    connection_proxy = records.engine.raw_connection()
    try:
        connection_proxy.execute("VACUUM")
        connection_proxy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection_proxy.close()
