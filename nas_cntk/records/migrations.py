"""The schema's history: functions in a list, each run in a transaction and recorded in the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa

from nas_cntk.errors import RecordsError
from nas_cntk.records.database import Location, Records, check_file, connect, locate
from nas_cntk.records.tables import SCHEMA

Migration = Callable[[sa.Connection], None]


def _first_tables(connection: sa.Connection) -> None:
    for statement in _VERSION_1:
        connection.exec_driver_sql(statement)


def _changes(connection: sa.Connection) -> None:
    """Changes of the sampler and its settings on resume are kept."""
    connection.exec_driver_sql(
        "CREATE TABLE ncntk_changes (change_id INTEGER PRIMARY KEY, study_id INTEGER NOT NULL,"
        " finished INTEGER NOT NULL, changed TEXT NOT NULL, setting TEXT NOT NULL, before TEXT NOT NULL,"
        " after TEXT NOT NULL)"
    )


def _validations(connection: sa.Connection) -> None:
    """Validated architectures, and the points of their grids."""
    connection.exec_driver_sql(
        'CREATE TABLE ncntk_validations (study_id INTEGER NOT NULL, "key" TEXT NOT NULL, kind TEXT NOT NULL,'
        " recipe TEXT NOT NULL, number INTEGER NOT NULL, accuracy FLOAT, stderr FLOAT, train_images INTEGER NOT NULL,"
        " test_images INTEGER NOT NULL, seconds FLOAT NOT NULL, finished TEXT NOT NULL, details TEXT NOT NULL,"
        ' PRIMARY KEY (study_id, "key", kind, recipe))'
    )
    connection.exec_driver_sql(
        'CREATE TABLE ncntk_validation_points (study_id INTEGER NOT NULL, "key" TEXT NOT NULL, recipe TEXT NOT NULL,'
        ' settings TEXT NOT NULL, result TEXT NOT NULL, PRIMARY KEY (study_id, "key", recipe, settings))'
    )


def _paper(connection: sa.Connection) -> None:
    """Cells of the paper's tables and plots, and the parts of those under way."""
    connection.exec_driver_sql(
        "CREATE TABLE ncntk_paper_cells (settings TEXT PRIMARY KEY, experiment TEXT NOT NULL,"
        " column_name TEXT NOT NULL, depth INTEGER NOT NULL, accuracy FLOAT, stderr FLOAT,"
        " train_images INTEGER NOT NULL, test_images INTEGER NOT NULL, seconds FLOAT NOT NULL,"
        " finished TEXT NOT NULL, details TEXT NOT NULL)"
    )
    connection.exec_driver_sql(
        "CREATE TABLE ncntk_paper_parts (settings TEXT NOT NULL, part TEXT NOT NULL, result TEXT NOT NULL,"
        " PRIMARY KEY (settings, part))"
    )


def _benchmark(connection: sa.Connection) -> None:
    """What benchmarks measured."""
    connection.exec_driver_sql(
        "CREATE TABLE ncntk_benchmark_scores (settings TEXT PRIMARY KEY, benchmark TEXT NOT NULL,"
        " subject TEXT NOT NULL, part TEXT NOT NULL, seconds FLOAT NOT NULL, finished TEXT NOT NULL,"
        " result TEXT NOT NULL)"
    )


def _siblings(connection: sa.Connection) -> None:
    """Trials whose score came with another's."""
    connection.exec_driver_sql("ALTER TABLE ncntk_trials ADD COLUMN sibling_of INTEGER")


# What a database of version n + 1 has beyond one of version n. Append; never edit: old files were made by these.
MIGRATIONS: tuple[Migration, ...] = (_first_tables, _changes, _validations, _paper, _benchmark, _siblings)

_VERSION_1 = (
    "CREATE TABLE ncntk_studies (study_id INTEGER PRIMARY KEY, created TEXT NOT NULL, target INTEGER NOT NULL,"
    " identity TEXT NOT NULL, config TEXT NOT NULL, sampler TEXT NOT NULL, versions TEXT NOT NULL,"
    " space_source TEXT NOT NULL, rate FLOAT, rate_backend TEXT)",
    "CREATE TABLE ncntk_trials (study_id INTEGER NOT NULL, ordinal INTEGER NOT NULL, phase TEXT NOT NULL,"
    " kills INTEGER NOT NULL, number INTEGER, owner TEXT, host TEXT, pid INTEGER, started TEXT, heartbeat FLOAT,"
    ' "key" TEXT, outcome TEXT, reason TEXT, duplicate_of INTEGER, parameters TEXT, params BIGINT, flops BIGINT,'
    " subset INTEGER, predicted_seconds FLOAT, seconds FLOAT, PRIMARY KEY (study_id, ordinal))",
    'CREATE TABLE ncntk_scores (study_id INTEGER NOT NULL, "key" TEXT NOT NULL, subset INTEGER NOT NULL,'
    " holdout INTEGER NOT NULL, measured TEXT NOT NULL, result TEXT NOT NULL, correct BLOB,"
    ' PRIMARY KEY (study_id, "key", subset))',
    'CREATE TABLE ncntk_architectures ("key" TEXT PRIMARY KEY, json TEXT NOT NULL)',
)


def open_records(db: str, *, write: bool) -> Records:
    """Open the database that `--db` names, bringing its schema up to date.

    A reader of an older database brings it up to date too, then reads; a reader never makes a database.

    Raises:
        RecordsError: if the file is missing (for a reader), not ours, read-only, locked, or of a newer version.
    """
    location = locate(db)
    check_file(location.path, location.given, read_only=not write)
    version = 0
    if location.path.exists() and location.path.stat().st_size > 0:
        # Looked at read-only first: opening for writing would turn another program's file to write-ahead logging.
        with _opened(location, read_only=True) as reader:
            version = schema_version(reader, write=write)
    elif not write:
        raise RecordsError(f"database {location} is empty; run `nas-cntk search`, or name another with --db")
    if version < len(MIGRATIONS):
        with _opened(location, read_only=False) as writer:
            _migrate(writer)
    return connect(location, read_only=not write)


@contextmanager
def _opened(location: Location, *, read_only: bool) -> Iterator[Records]:
    records = connect(location, read_only=read_only)
    try:
        yield records
    finally:
        records.close()


def schema_version(records: Records, *, write: bool) -> int:
    """Return the schema's version, 0 for a database that has none of our tables yet.

    Raises:
        RecordsError: if the file belongs to another program, or was written by a newer nas-cntk.
    """
    with records.transaction() as connection:
        names = set(sa.inspect(connection).get_table_names())
        if "ncntk_schema" not in names:
            if not write:
                raise RecordsError(f"database {records.location} holds no study of nas-cntk; name another with --db")
            # Optuna's own tables are welcome: a first run may have been killed after they were made.
            foreign = sorted(names) if "version_info" not in names or "studies" not in names else []
            if foreign:
                raise RecordsError(
                    f"database {records.location} belongs to another program (it has a table {foreign[0]!r});"
                    " name another file with --db"
                )
            return 0
        version = connection.execute(sa.select(sa.func.max(SCHEMA.c.version))).scalar() or 0
    if version > len(MIGRATIONS):
        raise RecordsError(
            f"database {records.location} was written by a newer nas-cntk (schema {version}, this one knows"
            f" {len(MIGRATIONS)}); upgrade nas-cntk or name another file with --db"
        )
    return int(version)


def _migrate(records: Records) -> None:
    from nas_cntk import __version__

    with records.transaction() as connection:
        SCHEMA.create(connection, checkfirst=True)
    for number, migration in enumerate(MIGRATIONS, start=1):
        with records.transaction() as connection:
            # Asked again inside the transaction: another process may have been faster.
            if connection.execute(sa.select(SCHEMA.c.version).where(SCHEMA.c.version == number)).first() is None:
                migration(connection)
                now = datetime.now(UTC).isoformat(timespec="seconds")
                connection.execute(SCHEMA.insert().values(version=number, applied=now, package=__version__))
