"""Opening the database: locations, transactions, and one-line errors."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from nas_cntk.errors import NasCntkError, RecordsError, UsageError

BUSY_TIMEOUT = 60.0  # seconds a writer waits for another writer
CONNECT_TIMEOUT = 15  # seconds a server has to answer
SQLITE, POSTGRESQL = "sqlite", "postgresql"
_WRITERS = 0x6E63_6E74_6B  # the advisory lock that a writer's transaction holds on a server: "ncntk"

_SQLITE_HEADER = b"SQLite format 3\x00"
_HINTS = (
    ("file is not a database", "is not a SQLite database; name another file with --db"),
    ("file is encrypted", "is not a SQLite database; name another file with --db"),
    ("malformed", "is damaged; restore a copy, or name another file with --db"),
    (
        "readonly",
        "cannot be written (read-only file or folder); change its permissions or name another with --db",
    ),
    ("read-only transaction", "cannot be written: it was opened to be read"),
    ("database is locked", "is locked by another program; close that program and try again"),
    ("due to lock timeout", "is locked by another program; close that program and try again"),
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
    """Where a database is: its SQLAlchemy URL, its file, and what the user wrote, without a password.

    A server has no file; `path` is then what weights, tiles and plots are named by, in the folder `runs`.
    """

    url: str
    path: Path
    given: str
    server: bool = False

    def __str__(self) -> str:
        return self.given

    @property
    def argument(self) -> str:
        """What `--db` of another process of this user names it by, wherever that one runs."""
        return self.url if self.server else str(self.path)

    def engine_arguments(self) -> dict[str, object]:
        """Return what SQLAlchemy's engine of a writer is made with, Optuna's storage too."""
        if not self.server:
            return {"connect_args": {"timeout": BUSY_TIMEOUT}}
        wait = f"-c lock_timeout={int(BUSY_TIMEOUT * 1000)}"
        return {
            "connect_args": {"connect_timeout": CONNECT_TIMEOUT, "application_name": "nas-cntk", "options": wait},
            "pool_pre_ping": True,
        }


def locate(db: str) -> Location:
    """Return the location that `--db` names: a path, or an SQLAlchemy URL.

    Raises:
        UsageError: if it is empty, an URL that cannot be parsed, in memory, or neither SQLite nor PostgreSQL.
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
    if url.get_backend_name() == POSTGRESQL:
        return _server(url)
    if url.get_backend_name() != SQLITE:
        kind = url.get_backend_name()
        raise UsageError(f"--db names a {kind} database; studies are kept in SQLite or PostgreSQL: give a path")
    if not url.database or url.database == ":memory:":
        raise UsageError("--db names a database in memory, which nothing could resume; give a file")
    path = Path(url.database).absolute()
    return Location(url.set(database=str(path)).render_as_string(), path, db)


def take_password(db: str) -> tuple[str, str | None]:
    """Return the URL of a server without its password, and the password; anything else as it is."""
    try:
        url = sa.make_url(db)
    except (sa.exc.ArgumentError, ValueError):
        return db, None  # whoever opens it says what is wrong
    if url.password is None or url.get_backend_name() != POSTGRESQL:
        return db, None
    return url.set(password=None).render_as_string(), str(url.password)


def _server(url: sa.URL) -> Location:
    name = url.database
    if not name:
        raise UsageError("--db names a server without a database; write postgresql+psycopg://USER@HOST/DATABASE")
    if url.drivername == POSTGRESQL:
        url = url.set(drivername="postgresql+psycopg")
    return Location(
        url=url.render_as_string(hide_password=False),
        path=Path("runs").absolute() / f"{name.replace(os.sep, '_')}.db",
        given=url.render_as_string(hide_password=True),
        server=True,
    )


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
    """Connect to the database without looking at it (see `migrations.open_records`).

    Raises:
        RecordsError: if the driver of a server is not installed.
    """
    arguments: dict[str, Any] = location.engine_arguments()
    if location.server and read_only:
        arguments["poolclass"] = sa.NullPool
        del arguments["pool_pre_ping"]
        arguments["execution_options"] = {"postgresql_readonly": True, "isolation_level": "REPEATABLE READ"}
    with server_driver(location):
        if read_only and not location.server:
            engine = sa.create_engine(_read_only_url(location.path), poolclass=sa.NullPool)
        else:
            engine = sa.create_engine(location.url, **arguments)
    install_events(engine, read_only=read_only)
    return Records(location, engine, read_only)


@contextmanager
def server_driver(location: Location) -> Iterator[None]:
    """Say what to install where a server's driver is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not location.server:
            raise
        raise RecordsError(
            f"database {location} needs {error.name}, which is not installed; install nas-cntk[postgresql]"
        ) from None


def install_events(engine: sa.Engine, *, read_only: bool = False) -> None:
    """Make transactions of writers follow each other: no two read the same state and then both write.

    In SQLite each begins with BEGIN IMMEDIATE, and the file writes ahead. The driver's own
    `isolation_level="IMMEDIATE"` does not help, since it begins only at the first write. On a server each takes one
    advisory lock first.
    """
    if engine.dialect.name == POSTGRESQL:
        if not read_only:

            @event.listens_for(engine, "begin")
            def _lock(connection: sa.Connection) -> None:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")

        return

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


def roll_back(path: Path) -> None:
    """Undo what a process that was killed while it made a database left half written.

    Any writer that opens such a file does so first; a read-only connection cannot, and calls the file read-only.
    """
    if path.exists() and path.with_name(path.name + "-journal").exists() and os.access(path, os.W_OK):
        with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT)) as connection:
            connection.execute("SELECT name FROM sqlite_master").fetchone()


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
