"""Cells of the paper: one row of each settings, parts until the cell is finished."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from nas_cntk.records import paper
from nas_cntk.records.database import Records
from nas_cntk.records.migrations import MIGRATIONS, open_records
from nas_cntk.records.paper import PaperCell

CELL = PaperCell("a", "table1", "CNTK-V", 3, 0.5, 0.05, 60, 100, 1.5, {"side": 8})


def test_a_cell_comes_back_as_it_was(records: Records) -> None:
    paper.record_cell(records, CELL)
    paper.record_cell(records, replace(CELL, settings="b", accuracy=None, stderr=None))
    found = paper.find_cell(records, "a")
    assert found is not None and found.finished and replace(found, finished="") == CELL
    assert [cell.settings for cell in paper.cells(records)] == ["a", "b"]
    paper.record_cell(records, replace(CELL, accuracy=0.75))
    assert {cell.settings: cell.accuracy for cell in paper.cells(records)} == {"a": 0.75, "b": None}
    assert paper.find_cell(records, "c") is None


def test_parts_live_until_their_cell(records: Records) -> None:
    for settings, part in (("a", "draw 0"), ("a", "draw 1"), ("b", "draw 0")):
        paper.record_part(records, settings, part, {"accuracy": 0.5})
    paper.record_part(records, "a", "draw 1", {"accuracy": 0.25})
    assert paper.find_part(records, "a", "draw 1") == {"accuracy": 0.25}
    assert paper.count_parts(records, "a") == 2 and paper.find_part(records, "a", "draw 2") is None
    paper.record_cell(records, CELL)
    assert paper.count_parts(records, "a") == 0 and paper.count_parts(records, "b") == 1


def test_a_database_of_schema_3_takes_cells(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    open_records(str(path), write=True).close()
    with sqlite3.connect(path) as connection:  # what schema 3 was: everything but the migrations since
        for table in ("ncntk_paper_cells", "ncntk_paper_parts", "ncntk_benchmark_scores"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("ALTER TABLE ncntk_trials DROP COLUMN sibling_of")
        connection.execute("DELETE FROM ncntk_schema WHERE version > 3")
    connection.close()
    opened = open_records(str(path), write=False)
    assert paper.cells(opened) == []
    opened.close()
    opened = open_records(str(path), write=True)
    paper.record_cell(opened, CELL)
    assert len(paper.cells(opened)) == 1
    with opened.transaction() as transaction:
        versions = [row[0] for row in transaction.exec_driver_sql("SELECT version FROM ncntk_schema ORDER BY version")]
    opened.close()
    assert versions == list(range(1, len(MIGRATIONS) + 1)) and len(MIGRATIONS) >= 4
