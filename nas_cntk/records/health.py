"""Whether a database is whole, ours and writable: looked at without changing anything in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from nas_cntk.errors import RecordsError
from nas_cntk.records import cleaning
from nas_cntk.records.database import Location, Records, check_file, connect, locate
from nas_cntk.records.leases import any_alive
from nas_cntk.records.migrations import MIGRATIONS, schema_version
from nas_cntk.records.tables import STUDIES

LARGE = 256 << 20  # bytes from which only the pages are checked, not every index against its table
MOST_WORDS = 3  # of what SQLite finds damaged


@dataclass(frozen=True, slots=True)
class Health:
    """What was found in a database."""

    where: str  # its file, or the server's URL
    size: int  # bytes, with its write-ahead log; 0: there is no database yet
    version: int  # of the schema
    newest: int  # schema that this program knows
    studies: int
    running: int  # of them, searched by a live process now
    dead: tuple[tuple[str, int], ...]  # study and number of trials whose process was killed
    writable: bool


def examine(db: str) -> Health:
    """Return the health of the database that `--db` names; one that is not there yet, or is empty, is healthy.

    Raises:
        RecordsError: if it is damaged, locked, of another program, or of a newer nas-cntk: "what; what to do".
        UsageError: if `--db` names no database.
    """
    location = locate(db)
    where = location.given if location.server else str(location.path)
    if location.server:
        return _opened(location, where, None, True)
    if not location.path.exists() and not location.path.is_symlink():
        return Health(where, 0, 0, len(MIGRATIONS), 0, 0, (), True)
    check_file(location.path, location.given, read_only=True)
    writable = os.access(location.path, os.W_OK) and os.access(location.path.parent, os.W_OK)
    size = _size(location.path)
    if not location.path.stat().st_size:
        return Health(where, 0, 0, len(MIGRATIONS), 0, 0, (), writable)
    return _opened(location, where, size, writable)


def _opened(location: Location, where: str, size: int | None, writable: bool) -> Health:
    """Return the health of a database that is there; of a server's, whose pages are its own business, None as size."""
    records = connect(location, read_only=True)
    try:
        if size is None:
            with records.transaction() as connection:
                size = int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
        else:
            _check_whole(records, size)
        version = schema_version(records, write=True)
        if not version:
            return Health(where, size, 0, len(MIGRATIONS), 0, 0, (), writable)
        with records.transaction() as connection:
            known = connection.execute(sa.select(STUDIES.c.study_id)).scalars().all()
            running = sum(any_alive(connection, study_id) for study_id in known)
        dead = cleaning.find_waste(records).dead_trials
    finally:
        records.close()
    return Health(where, size, version, len(MIGRATIONS), len(known), running, dead, writable)


def _check_whole(records: Records, size: int) -> None:
    pragma = "quick_check" if size > LARGE else "integrity_check"
    with records.transaction() as connection:
        words = [str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA {pragma}({MOST_WORDS})")]
    if words != ["ok"]:
        found = " ".join(", ".join(words).split())[:200]
        raise RecordsError(
            f"database {records.location} is damaged ({found}); restore a copy, or name another file with --db"
        )


def _size(path: Path) -> int:
    log = path.with_name(path.name + "-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)
