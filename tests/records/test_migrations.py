"""The schema's history: old databases are brought up to date, newer ones refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from nas_cntk.errors import RecordsError
from nas_cntk.records import migrations, studies, validations
from nas_cntk.records.migrations import MIGRATIONS, open_records
from nas_cntk.records.tables import METADATA, SCHEMA, TRIALS
from nas_cntk.records.validations import Validation
from nas_cntk.report.board import load_board

FIRST = Path(__file__).with_name("schema_1.sql")
SECOND = Path(__file__).with_name("schema_2.sql")


def write_previous(path: Path, dump: Path = FIRST) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))
    connection.close()


def versions(path: Path) -> list[int]:
    with sqlite3.connect(path) as connection:
        found = [row[0] for row in connection.execute("SELECT version FROM ncntk_schema ORDER BY version")]
    connection.close()
    return found


@pytest.mark.parametrize("write", [True, False], ids=["writer", "reader"])
def test_a_database_of_the_previous_schema_opens_with_everything_in_it(tmp_path: Path, write: bool) -> None:
    path = tmp_path / "old.db"
    write_previous(path)
    assert versions(path) == [1]
    records = open_records(str(path), write=write)
    study = studies.find_study(records, None)
    assert studies.changes(records, study.study_id) == []  # the table that version 2 brought
    records.close()
    assert versions(path) == list(range(1, len(MIGRATIONS) + 1))

    board = load_board(str(path), None)
    assert board.study.name == "digits-plain-1" and board.study.target == 4
    assert [(row.trial, row.state, row.proxy_accuracy) for row in board.rows] == [
        (1, "COMPLETE", 0.9),
        (0, "COMPLETE", 0.75),
        (3, "COMPLETE", 0.75),
        (2, "PRUNED", None),
    ]
    assert board.rows[2].duplicate_of == 0


@pytest.mark.parametrize("write", [True, False], ids=["writer", "reader"])
def test_a_database_of_schema_2_opens_and_takes_validations(tmp_path: Path, write: bool) -> None:
    path = tmp_path / "old.db"
    write_previous(path, SECOND)
    assert versions(path) == [1, 2]
    records = open_records(str(path), write=write)
    study = studies.find_study(records, None)
    assert [change["setting"] for change in studies.changes(records, study.study_id)] == ["trials", "sampler"]
    assert validations.validations(records, study.study_id) == []  # the table that version 3 brought
    records.close()
    assert versions(path) == list(range(1, len(MIGRATIONS) + 1))

    board = load_board(str(path), None)
    states = [row.state for row in board.rows]
    assert board.study.name == "digits-plain-1" and states == 4 * ["COMPLETE"] + 2 * ["PRUNED"]
    best = board.rows[0]
    assert best.key is not None and best.cnn_accuracy is None and best.full_kernel_accuracy is None
    records = open_records(str(path), write=True)
    found = Validation(study.study_id, best.key, best.trial, "cnn", "standard", 0.9, 0.01, 1400, 397, 3.0)
    validations.record_validation(records, found)
    records.close()
    after = load_board(str(path), None)
    assert after.rows[0].cnn_accuracy == 0.9 and [row.trial for row in after.rows] == [row.trial for row in board.rows]


def test_migrating_twice_does_nothing(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    write_previous(path)
    open_records(str(path), write=True).close()
    before = path.read_bytes()
    open_records(str(path), write=True).close()
    assert path.read_bytes() == before


def test_a_failing_migration_leaves_the_database_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.db"
    write_previous(path)

    def fails(connection: sa.Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE ncntk_half (x INTEGER)")
        connection.exec_driver_sql("SELECT * FROM not_there")

    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS[:1], fails))
    with pytest.raises(RecordsError, match="not_there"):
        open_records(str(path), write=True)
    monkeypatch.undo()
    assert versions(path) == [1]
    with sqlite3.connect(path) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert "ncntk_half" not in names


@pytest.mark.parametrize("write", [True, False])
def test_a_newer_schema_is_refused(tmp_path: Path, write: bool) -> None:
    path = tmp_path / "new.db"
    records = open_records(str(path), write=True)
    with records.transaction() as connection:
        connection.execute(SCHEMA.insert().values(version=99, applied="", package="9.0"))
    records.close()
    with pytest.raises(RecordsError, match="newer nas-cntk"):
        open_records(str(path), write=write)


def test_the_migrations_make_exactly_the_tables_that_the_queries_use(tmp_path: Path) -> None:
    records = open_records(str(tmp_path / "nas.db"), write=True)
    with records.transaction() as connection:
        inspector = sa.inspect(connection)
        made = {
            name: {column["name"] for column in inspector.get_columns(name)} for name in inspector.get_table_names()
        }
        indexes = {index["name"]: index["column_names"] for index in inspector.get_indexes("ncntk_trials")}
    records.close()
    assert made == {name: set(table.columns.keys()) for name, table in METADATA.tables.items()}
    assert indexes == {index.name: index.columns.keys() for index in TRIALS.indexes}
