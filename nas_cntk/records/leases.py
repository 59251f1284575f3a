"""Leases: which process works on which ordinal, and what is free again after a kill.

A study of N trials has the ordinals 0..N-1. An ordinal is `open`, leased to a live process (`asking` for a proposal,
then `scoring` it), `recorded` (what it comes to is written, and Optuna is not told yet), or `done`. A process killed
while it asks or scores leaves a lease whose owner is dead: the next claim opens it again, and the ordinal, not
Optuna's number, seeds the sampler, so the same proposal returns. What is recorded, the next process tells.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from nas_cntk.errors import RecordsError
from nas_cntk.records.architectures import insert_architecture
from nas_cntk.records.database import Records
from nas_cntk.records.migrations import known_version
from nas_cntk.records.tables import ARCHITECTURES, OPTUNA_TRIALS, TRIALS

HEARTBEAT = 15.0  # seconds
STALE = 120.0  # seconds without a heartbeat after which a process on another host is dead
_WORKING = ("asking", "scoring")
_UNFINISHED = (*_WORKING, "recorded")


@dataclass(frozen=True, slots=True)
class Owner:
    """This process, as its leases name it."""

    token: str
    host: str
    pid: int
    started: str | None  # of the process, where the system tells: numbers of processes are used again

    @staticmethod
    def current() -> Owner:
        """Return a new owner for this process."""
        return Owner(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _start_of(os.getpid()))


@dataclass(frozen=True, slots=True)
class Lease:
    """An ordinal that this process may work on."""

    study_id: int
    ordinal: int
    kills: int  # processes that died while scoring it
    owner: Owner


@dataclass(frozen=True, slots=True)
class Working:
    """A live process that works on a trial."""

    number: int | None  # of the trial; None while it asks for a proposal
    host: str
    pid: int
    seconds: float | None  # since the trial began
    architecture: str | None = None  # JSON, once it is about to be scored
    predicted_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Nothing:
    """No ordinal is free: the study is complete, or other processes still work on its last ones."""

    working: int


def claim(records: Records, study_id: int, target: int, owner: Owner) -> Lease | Nothing:
    """Lease the smallest free ordinal below `target` to `owner`.

    Raises:
        RecordsError: if a newer nas-cntk has brought the database up to date in the meantime.
    """
    with records.transaction() as connection:
        known_version(records, connection)
        _reopen_dead(connection, study_id, owner)
        query = sa.select(TRIALS.c.ordinal, TRIALS.c.phase, TRIALS.c.kills).where(TRIALS.c.study_id == study_id)
        rows = {ordinal: (phase, kills) for ordinal, phase, kills in connection.execute(query)}
        ordinal = next((n for n in range(target) if rows.get(n, ("open", 0))[0] == "open"), None)
        if ordinal is None:
            return Nothing(sum(rows[n][0] in _UNFINISHED for n in range(target)))
        take(connection, study_id, ordinal, owner, {"phase": "asking"})
        kills = rows.get(ordinal, ("open", 0))[1]
    return Lease(study_id, ordinal, kills, owner)


def take(connection: sa.Connection, study_id: int, ordinal: int, owner: Owner, values: Mapping[str, object]) -> None:
    """Lease an ordinal that nobody alive holds to `owner`, with these values."""
    values = {
        "owner": owner.token,
        "host": owner.host,
        "pid": owner.pid,
        "started": owner.started,
        "heartbeat": time.time(),
        **values,
    }
    if connection.execute(_row(study_id, ordinal).values(values)).rowcount == 0:
        connection.execute(TRIALS.insert().values(study_id=study_id, ordinal=ordinal, kills=0, **values))


def free(connection: sa.Connection, study_id: int, target: int) -> list[int]:
    """Return the free ordinals below `target`, but for those whose proposal killed a process."""
    query = sa.select(TRIALS.c.ordinal).where(
        TRIALS.c.study_id == study_id, sa.or_(TRIALS.c.phase != "open", TRIALS.c.kills > 0)
    )
    taken = set(connection.execute(query).scalars())
    return [ordinal for ordinal in range(target) if ordinal not in taken]


def update(connection: sa.Connection, lease: Lease, values: Mapping[str, object]) -> bool:
    """Write to a lease's row; False if another process has taken it over."""
    return connection.execute(_mine(lease).values(values)).rowcount > 0


@dataclass(frozen=True, slots=True)
class Untold:
    """A recorded trial that Optuna has not been told of."""

    lease: Lease
    number: int | None  # of Optuna's trial; None for a sibling, which has none yet
    left: bool  # by a process that died, maybe after it told Optuna


def take_untold(records: Records, study_id: int, owner: Owner) -> list[Untold]:
    """Lease to `owner` what is recorded and no other live process will tell, by ordinal."""
    query = TRIALS.select().where(TRIALS.c.study_id == study_id, TRIALS.c.phase == "recorded")
    with records.transaction() as connection:
        rows = connection.execute(query.order_by(TRIALS.c.ordinal)).mappings().all()
        found = []
        for row in rows:
            mine = row["owner"] == owner.token
            if not mine and _alive(row, owner):
                continue
            take(connection, study_id, row["ordinal"], owner, {})
            found.append(Untold(Lease(study_id, row["ordinal"], row["kills"], owner), row["number"], not mine))
    return found


def zombies(records: Records, study_id: int, owner: Owner | None) -> list[int]:
    """Return the numbers of Optuna's RUNNING trials that no live process works on.

    A live process that is asking may have made a trial which its lease does not name yet; while there is one, trials
    that no lease names are left alone.
    """
    with records.transaction() as connection:
        unfinished = sa.select(TRIALS).where(TRIALS.c.study_id == study_id, TRIALS.c.phase.in_(_UNFINISHED))
        rows = connection.execute(unfinished).mappings().all()
        live = [row for row in rows if row["phase"] in _WORKING and _alive(row, owner)]
        if any(row["phase"] == "asking" and (owner is None or row["owner"] != owner.token) for row in live):
            return []
        held = {row["number"] for row in (*live, *(row for row in rows if row["phase"] == "recorded"))}
        query = sa.select(OPTUNA_TRIALS.c.number).where(
            OPTUNA_TRIALS.c.study_id == study_id, OPTUNA_TRIALS.c.state == "RUNNING"
        )
        return [number for number in connection.execute(query.order_by("number")).scalars() if number not in held]


def begin_scoring(records: Records, lease: Lease, number: int) -> None:
    """Note Optuna's number of the proposal: from here on a death counts as a kill."""
    with records.transaction() as connection:
        changed = connection.execute(_mine(lease).values(number=number, phase="scoring"))
        if changed.rowcount == 0:
            raise RecordsError(f"trial {number} was taken over by another process; this one was thought dead")


def claim_key(
    records: Records, lease: Lease, key: str, architecture: str, predicted_seconds: float | None = None
) -> bool:
    """Note which architecture is about to be scored; False while another process scores or records an equal one.

    Whoever waits holds no key, so no two processes wait for each other. What is recorded is waited for until Optuna
    has been told of it: before, it is among the finished trials of no one, and would not be seen as the original.

    Args:
        key: canonical, of the architecture.
        architecture: its JSON, for whoever watches.
        predicted_seconds: that its score takes.
    """
    with records.transaction() as connection:
        others = TRIALS.select().where(
            TRIALS.c.study_id == lease.study_id,
            TRIALS.c.ordinal != lease.ordinal,
            TRIALS.c.phase.in_(("scoring", "recorded")),
            TRIALS.c.key == key,
        )
        rows = connection.execute(others).mappings().all()
        if any(row["phase"] == "recorded" or _alive(row, None) for row in rows):
            return False
        connection.execute(_mine(lease).values(key=key, predicted_seconds=predicted_seconds))
        insert_architecture(connection, key, architecture)
        return True


def release(records: Records, lease: Lease) -> bool:
    """Give the ordinal back unfinished, without counting a kill; False if it is recorded, which it stays."""
    with records.transaction() as connection:
        unfinished = _mine(lease).where(TRIALS.c.phase.in_(_WORKING))
        return connection.execute(unfinished.values(phase="open", owner=None, number=None, key=None)).rowcount > 0


def finish(records: Records, lease: Lease, number: int) -> None:
    """Mark the ordinal as done; Optuna's trial `number` is finished."""
    with records.transaction() as connection:
        connection.execute(_mine(lease).values(phase="done", owner=None, number=number))


@contextmanager
def heartbeat(records: Records, owner: Owner, every: float = HEARTBEAT) -> Iterator[None]:
    """Renew this process's leases in the background, for processes on other hosts to see."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(every):
            try:
                with records.transaction() as connection:
                    update = TRIALS.update().where(TRIALS.c.owner == owner.token)
                    connection.execute(update.values(heartbeat=time.time()))
            except RecordsError:
                # The main thread meets the same trouble at its next write, and reports it.
                continue

    thread = threading.Thread(target=beat, name="nas-cntk heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def any_alive(connection: sa.Connection, study_id: int) -> bool:
    """Return whether a live process holds a lease of the study."""
    query = sa.select(TRIALS).where(TRIALS.c.study_id == study_id, TRIALS.c.phase.in_(_WORKING))
    return any(_alive(row, None) for row in connection.execute(query).mappings())


def working(records: Records, study_id: int) -> list[Working]:
    """Return who works on the study now, by ordinal."""
    query = (
        sa.select(TRIALS, OPTUNA_TRIALS.c.datetime_start, ARCHITECTURES.c.json)
        .select_from(
            TRIALS.outerjoin(
                OPTUNA_TRIALS,
                sa.and_(OPTUNA_TRIALS.c.study_id == TRIALS.c.study_id, OPTUNA_TRIALS.c.number == TRIALS.c.number),
            ).outerjoin(ARCHITECTURES, ARCHITECTURES.c.key == TRIALS.c.key)
        )
        .where(TRIALS.c.study_id == study_id, TRIALS.c.phase.in_(_WORKING))
        .order_by(TRIALS.c.ordinal)
    )
    with records.transaction() as connection:
        rows = connection.execute(query).mappings().all()
    return [
        Working(
            number=row["number"],
            host=row["host"],
            pid=row["pid"],
            seconds=_since(row["datetime_start"]),
            architecture=row["json"],
            predicted_seconds=None if row["json"] is None else row["predicted_seconds"],
        )
        for row in rows
        if _alive(row, None)
    ]


def _since(start: datetime | None) -> float | None:
    # Optuna writes local time without a zone.
    return None if start is None else max(0.0, (datetime.now() - start).total_seconds())


def reopen_dead(records: Records, study_id: int) -> None:
    """Open again what dead processes left leased."""
    with records.transaction() as connection:
        _reopen_dead(connection, study_id, None)


def _reopen_dead(connection: sa.Connection, study_id: int, owner: Owner | None) -> None:
    query = (
        sa.select(TRIALS, OPTUNA_TRIALS.c.state)
        .select_from(
            TRIALS.outerjoin(
                OPTUNA_TRIALS,
                sa.and_(OPTUNA_TRIALS.c.study_id == TRIALS.c.study_id, OPTUNA_TRIALS.c.number == TRIALS.c.number),
            )
        )
        .where(TRIALS.c.study_id == study_id, TRIALS.c.phase.in_(_WORKING))
    )
    for row in connection.execute(query).mappings().all():
        if _alive(row, owner):
            continue
        if row["state"] in ("COMPLETE", "PRUNED"):
            # Killed between telling Optuna and finishing the lease.
            values: dict[str, object] = {"phase": "done", "owner": None}
        else:
            killed = int(row["phase"] == "scoring")
            values = {"phase": "open", "owner": None, "number": None, "key": None, "kills": row["kills"] + killed}
        connection.execute(_row(study_id, row["ordinal"]).values(values))


def _alive(row: sa.RowMapping, owner: Owner | None) -> bool:
    if owner is not None and row["owner"] == owner.token:
        return True
    if row["host"] != socket.gethostname():
        return bool(time.time() - (row["heartbeat"] or 0.0) < STALE)
    if owner is not None and row["pid"] == owner.pid:
        return False  # our own number in an earlier life, as in a container that was started again
    try:
        os.kill(row["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and another user's
    return row["started"] is None or row["started"] == _start_of(row["pid"])


def _start_of(pid: int) -> str | None:
    # Linux alone tells; the name in parentheses may hold spaces, so fields are counted after it.
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] == "Z":
        return "dead, not yet waited for"
    return fields[19]


def _row(study_id: int, ordinal: int) -> sa.Update:
    return TRIALS.update().where(TRIALS.c.study_id == study_id, TRIALS.c.ordinal == ordinal)


def _mine(lease: Lease) -> sa.Update:
    return _row(lease.study_id, lease.ordinal).where(TRIALS.c.owner == lease.owner.token)
