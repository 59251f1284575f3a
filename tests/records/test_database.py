"""Opening databases: what is refused, in one line, and what transactions promise."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from nas_cntk.errors import RecordsError, UsageError
from nas_cntk.records import database
from nas_cntk.records.database import Records, locate
from nas_cntk.records.migrations import open_records
from nas_cntk.records.tables import ARCHITECTURES

SQLITE = pytest.mark.parametrize("db", ["sqlite"], indirect=True)  # what a server has no like of


def one_line(caught: pytest.ExceptionInfo[Exception]) -> str:
    text = str(caught.value)
    assert "\n" not in text and text
    return text


@pytest.mark.parametrize("given", ["x.db", "sqlite:///x.db", "sqlite:////tmp/x.db"])
def test_locate_makes_paths_absolute(given: str) -> None:
    found = locate(given)
    assert found.path.is_absolute() and found.path.name == "x.db"
    assert str(found.path) in found.url
    assert str(found) == given


@pytest.mark.parametrize(
    "given", ["", "sqlite://", "sqlite:///:memory:", "mysql://u:secret@h/db", "postgresql://u:secret@h", "no://e:f:g"]
)
def test_locate_refuses(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        locate(given)
    assert "secret" not in one_line(caught)


def test_a_server_is_named_without_its_password() -> None:
    found = locate("postgresql://u:secret@h/studies")
    assert found.server and found.url == found.argument == "postgresql+psycopg://u:secret@h/studies"
    assert str(found) == "postgresql+psycopg://u:***@h/studies" and found.path == Path("runs/studies.db").absolute()


def test_a_server_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="database postgresql") as caught:
        open_records(f"postgresql://u:secret@/studies?host={tmp_path}", write=True)
    assert "secret" not in one_line(caught)


def foreign_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    connection.close()


def other_tool(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
    connection.close()


def damaged(path: Path) -> None:
    open_records(str(path), write=True).close()
    content = bytearray(path.read_bytes())
    content[100:3000] = b"\xff" * 2900
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    "make, says",
    [
        (lambda p: p.write_text("hello, this is text and no database"), "not a SQLite database"),
        (lambda p: p.mkdir(), "is a folder"),
        (foreign_table, "another program|holds no study"),
        (other_tool, "another program|holds no study"),
        (damaged, "damaged|not a SQLite"),
    ],
    ids=["text", "folder", "foreign", "other-tool", "damaged"],
)
def test_what_is_no_database_of_ours_is_refused_and_left_as_it_is(
    tmp_path: Path, make: object, says: str, write: bool
) -> None:
    path = tmp_path / "nas.db"
    make(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(RecordsError, match=says) as caught:
        open_records(str(path), write=write)
    assert str(path) in one_line(caught)
    if before is not None:
        assert path.read_bytes() == before


def test_a_reader_never_makes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "nas.db"
    with pytest.raises(RecordsError, match="there is no database"):
        open_records(str(path), write=False)
    assert not path.parent.exists()


def test_a_writer_makes_the_folder_too(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "nas.db"
    open_records(str(path), write=True).close()
    assert path.exists()
    assert not path.with_name("nas.db-wal").exists(), "after a close the file is whole by itself"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordsError, match="cannot make the folder"):
        open_records(str(tmp_path / "file" / "nas.db"), write=True)


@SQLITE
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write read-only files")
def test_a_read_only_file_is_refused_for_writing_and_can_be_read(db: str, records: Records) -> None:
    records.close()
    Path(db).chmod(0o444)
    Path(db).parent.chmod(0o555)
    try:
        with pytest.raises(RecordsError, match="cannot be written"):
            open_records(db, write=True)
        open_records(db, write=False).close()
    finally:
        Path(db).parent.chmod(0o755)


@pytest.mark.parametrize("write", [True, False])
def test_a_database_whose_making_was_killed_goes_on(tmp_path: Path, write: bool) -> None:
    open_records(str(tmp_path / "made.db"), write=True).close()
    with sqlite3.connect(tmp_path / "made.db") as made:
        made.execute("PRAGMA journal_mode = DELETE")
        made.execute("PRAGMA cache_size = 1")
        made.execute("CREATE TABLE half_made (x)")
        made.executemany("INSERT INTO half_made VALUES (?)", [("y" * 500,)] * 2000)
        for suffix in ("", "-journal"):  # as a kill at this moment leaves them
            shutil.copy(tmp_path / f"made.db{suffix}", tmp_path / f"killed.db{suffix}")
        made.rollback()
    made.close()
    reader = sqlite3.connect(f"{(tmp_path / 'killed.db').as_uri()}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("SELECT name FROM sqlite_master").fetchall()
    reader.close()
    records = open_records(str(tmp_path / "killed.db"), write=write)
    with records.transaction() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM half_made")).scalar() == 0
    records.close()


def test_the_databases_own_refusal_to_write_is_one_line(db: str, records: Records) -> None:
    reader = open_records(db, write=False)
    with pytest.raises(RecordsError, match="cannot be written"), reader.transaction() as connection:
        connection.execute(ARCHITECTURES.insert().values(key="k", json="{}"))


def test_a_locked_database(db: str, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.05)
    with records.transaction():
        late = open_records(db, write=True)
        with pytest.raises(RecordsError, match="locked by another program"), late.transaction():
            pass
        late.close()
        with open_records(db, write=False).transaction():
            pass  # readers do not wait for writers


@SQLITE
def test_a_full_disk(db: str, records: Records) -> None:
    with records.transaction() as connection:
        connection.execute(ARCHITECTURES.insert().values(key="first", json="{}"))

    @sa.event.listens_for(records.engine, "begin")
    def _no_room(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite takes the pages in use as the least

    with pytest.raises(RecordsError, match="disk is full"), records.transaction() as connection:
        connection.execute(ARCHITECTURES.insert().values(key="second", json="x" * 100_000))
    records.close()
    reader = open_records(db, write=False)
    with reader.transaction() as connection:
        assert connection.execute(sa.select(ARCHITECTURES.c.key)).scalars().all() == ["first"]


def test_a_transaction_is_all_or_nothing(records: Records) -> None:
    with pytest.raises(ZeroDivisionError), records.transaction() as connection:
        connection.execute(ARCHITECTURES.insert().values(key="k", json="{}"))
        raise ZeroDivisionError
    with records.transaction() as connection:
        assert connection.execute(sa.select(ARCHITECTURES)).all() == []


def test_read_and_write_in_one_transaction_never_interleave(db: str, records: Records) -> None:
    # Four writers count up together; with a deferred BEGIN some would read the same number.
    with records.transaction() as connection:
        connection.execute(ARCHITECTURES.insert().values(key="n", json="0"))
    failures: list[Exception] = []

    def count_up() -> None:
        mine = open_records(db, write=True)
        try:
            for _ in range(25):
                with mine.transaction() as connection:
                    number = int(connection.execute(sa.select(ARCHITECTURES.c.json)).scalar_one())
                    connection.execute(ARCHITECTURES.update().values(json=str(number + 1)))
        except Exception as error:
            failures.append(error)
        finally:
            mine.close()

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with records.transaction() as connection:
        assert connection.execute(sa.select(ARCHITECTURES.c.json)).scalar_one() == "100"
