"""Opening the database: locations, transactions, and one-line errors."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from nas_cntk.errors import NasCntkError, RecordsError, UsageError

BUSY_TIMEOUT = 60.0  # seconds a writer waits for another writer
ENGINE_ARGUMENTS = {"connect_args": {"timeout": BUSY_TIMEOUT}}  # of every writer, Optuna's storage too

_SQLITE_HEADER = b"SQLite format 3\x00"
_HINTS = (
    ("file is not a database", "is not a SQLite database; name another file with --db"),
    ("file is encrypted", "is not a SQLite database; name another file with --db"),
    ("malformed", "is damaged; restore a copy, or name another file with --db"),
    (
        "readonly",
        "cannot be written (read-only file or folder); change its permissions or name another with --db",
    ),
    ("database is locked", "is locked by another program; close that program and try again"),
    (
        "disk is full",
        "cannot grow: the disk is full; free some space, then resume (nothing recorded is lost)",
    ),
    (
        "disk i/o error",
        "cannot be read or written (the disk is full, or failing); nothing recorded so far is lost",
    ),
    ("unable to open", "cannot be opened; check that its folder exists and that you may use it"),
)


@dataclass(frozen=True, slots=True)
class Location:
    """Where a database is: its SQLAlchemy URL, its file, and what the user wrote."""

    url: str
    path: Path
    given: str

    def __str__(self) -> str:
        return self.given


def locate(db: str) -> Location:
    """Return the location that `--db` names: a path, or an SQLAlchemy URL.

    Raises:
        UsageError: if it is empty, an URL that cannot be parsed, in memory, or not SQLite.
    """
    if not db.strip():
        raise UsageError("--db is empty; give a path such as runs/nas.db")
    if "://" not in db:
        path = Path(db).expanduser().absolute()
        return Location(sa.URL.create("sqlite", database=str(path)).render_as_string(), path, db)
    try:
        url = sa.make_url(db)
    except (sa.exc.ArgumentError, ValueError):
        raise UsageError(
            f"--db {db!r} is no SQLAlchemy URL; write a path, or for example sqlite:///runs/nas.db"
        ) from None
    if url.get_backend_name() != "sqlite":
        raise UsageError(f"--db names a {url.get_backend_name()} database; studies are kept in SQLite: give a path")
    if not url.database or url.database == ":memory:":
        raise UsageError("--db names a database in memory, which nothing could resume; give a file")
    path = Path(url.database).absolute()
    return Location(url.set(database=str(path)).render_as_string(), path, db)


@dataclass(frozen=True, slots=True)
class Records:
    """An open database; every query takes one."""

    location: Location
    engine: sa.Engine
    read_only: bool

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Run one transaction: committed at the end, rolled back on any exception.

        Raises:
            RecordsError: for whatever the database refuses, in one line.
        """
        with plain_errors(self.location), self.engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection; the file is then whole by itself, without a write-ahead log."""
        with plain_errors(self.location):
            self.engine.dispose()


def connect(location: Location, *, read_only: bool) -> Records:
    """Connect to the database without looking at it (see `migrations.open_records`)."""
    if read_only:
        engine = sa.create_engine(_read_only_url(location.path), poolclass=sa.NullPool)
    else:
        engine = sa.create_engine(location.url, **ENGINE_ARGUMENTS)
    install_events(engine, read_only=read_only)
    return Records(location, engine, read_only)


def install_events(engine: sa.Engine, *, read_only: bool = False) -> None:
    """Make every transaction of a SQLite engine begin with BEGIN IMMEDIATE, and its file write ahead.

    With a deferred BEGIN two processes read the same state and then both write: both claim one trial. The driver's
    own `isolation_level="IMMEDIATE"` does not help, since it begins only at the first write.
    """

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        if not read_only:
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
            connection.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def check_file(path: Path, given: str, *, read_only: bool) -> None:
    """Refuse what is visibly no database of ours, and make the folder of a new one.

    Raises:
        RecordsError: naming the path as it was given.
    """
    if path.is_dir():
        raise RecordsError(f"database {given} is a folder; name a file in it, for example {given.rstrip('/')}/nas.db")
    if not path.exists():
        if read_only:
            raise RecordsError(f"there is no database {given}; run `nas-cntk search` first, or name another with --db")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordsError(f"cannot make the folder of database {given}: {error.strerror}") from None
        return
    try:
        with path.open("rb") as file:
            header = file.read(len(_SQLITE_HEADER))
    except OSError as error:
        raise RecordsError(f"database {given} cannot be read: {error.strerror}") from None
    if header not in (b"", _SQLITE_HEADER):
        raise RecordsError(f"database {given} {_HINTS[0][1]}")
    if not read_only and not os.access(path, os.W_OK):
        raise RecordsError(f"database {given} {_HINTS[3][1]}")


@contextmanager
def plain_errors(location: Location) -> Iterator[None]:
    """Turn what SQLAlchemy, SQLite or Optuna's storage raises into one line that names the database."""
    try:
        yield
    except NasCntkError:
        raise
    except Exception as error:
        cause = _database_error(error)
        if cause is None:
            raise
        text = one_line(getattr(cause, "orig", None) or cause)
        hint = next((hint for sign, hint in _HINTS if sign in text.lower()), None)
        raise RecordsError(f"database {location} {hint}" if hint else f"database {location}: {text}") from error


def one_line(error: object) -> str:
    """Return the text of `error` in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]


def _database_error(error: BaseException | None) -> BaseException | None:
    # Optuna wraps what SQLAlchemy raised; the cause says what happened.
    while error is not None:
        if isinstance(error, (sa.exc.SQLAlchemyError, sqlite3.Error)):
            return error
        error = error.__cause__
    return None


def _read_only_url(path: Path) -> sa.URL:
    # In a folder that cannot be written SQLite cannot make the shared index that reading a write-ahead file needs;
    # without a log beside it the file is complete, and may be read as it stands.
    wal = path.with_name(path.name + "-wal")
    immutable = not os.access(path.parent, os.W_OK) and not wal.exists()
    query = {"uri": "true", "mode": "ro"} | ({"immutable": "1"} if immutable else {})
    return sa.URL.create("sqlite", database=path.as_uri(), query=query)
