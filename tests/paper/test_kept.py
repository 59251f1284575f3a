"""The cells beside a page of results: kept whatever machine they come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Run

from nas_cntk.errors import RecordsError
from nas_cntk.paper.kept import joined, read_cells, to_json
from nas_cntk.records.paper import PaperCell

CELL = PaperCell("h1", "table1", "CNTK-V", 3, 0.5, 0.05, 70, 97, 1.25, {"side": 8, "data_name": "digits"}, "2026-01-01")


def test_a_page_keeps_the_cells_of_another_database(run: Run) -> None:
    small = ("--columns", "CNTK-V", "--train", "70", "--test", "97", "--no-plot")
    run("paper", "table1", *small, "--depths", "3", "--db", "here.db")
    run("paper", "table1", *small, "--depths", "4", "--db", "there.db")
    assert run("paper", "results", "--to", "page", "--db", "here.db").code == 0
    assert run("paper", "results", "--to", "page", "--db", "there.db").code == 0
    page = Path("page/results.md").read_text()
    assert "|\n| 3 | " in page and "\n| 4 | " in page
    assert "--depths 3 --db here.db" in page and "--depths 4 --db there.db" in page
    assert [cell.depth for cell in read_cells(Path("page/results/cells.json"))] == [3, 4]
    before = {path: path.read_bytes() for path in Path("page").rglob("*.*")}
    assert run("paper", "results", "--to", "page", "--db", "here.db").code == 0
    assert {path: path.read_bytes() for path in Path("page").rglob("*.*")} == before


def test_what_is_written_below_a_page_is_kept(run: Run) -> None:
    small = ("--columns", "CNTK-V", "--depths", "3", "--train", "70", "--test", "97", "--no-plot")
    run("paper", "table1", *small)
    page = Path("page/results.md")
    assert run("paper", "results", "--to", "page").code == 0
    written = page.read_text()
    by_hand = "\n## Mine\n\n1 < 2 -->\n"
    page.write_text(written.replace("## Table 1", "## Mine too") + by_hand)
    assert run("paper", "results", "--to", "page").code == 0
    assert page.read_text() == written + by_hand


def test_a_page_without_its_cells_is_not_written_over(run: Run) -> None:
    run("paper", "table1", "--columns", "CNTK-V", "--depths", "3", "--train", "70", "--test", "97", "--no-plot")
    page = Path("page/results.md")
    page.parent.mkdir()
    page.write_text("mine")
    result = run("paper", "results", "--to", "page")
    assert result.code == 1 and "would be lost; move it away" in result.err and page.read_text() == "mine"
    result = run("paper", "results", "--to", "page/results.md")
    assert result.code == 1 and "page/results.md is a file; name a folder" in result.err


def test_of_equal_cells_the_newest_is_kept(tmp_path: Path) -> None:
    newer = replace(CELL, accuracy=None, stderr=None, finished="2026-01-03")
    other = replace(CELL, settings="h2", finished="2026-01-02")
    assert joined([CELL, other], [newer]) == joined([newer], [other, CELL]) == [other, newer]
    path = tmp_path / "cells.json"
    assert read_cells(path) == []
    path.write_text(to_json([other, newer]))
    assert read_cells(path) == [other, newer]


def _changed(**values: object) -> str:
    content = json.loads(to_json([CELL]))
    content["cells"][0].update(values)
    return json.dumps(content)


@pytest.mark.parametrize(
    "content, says",
    [
        ("", "holds no cells"),
        ("[" * 100_000, "holds no cells"),
        ("[]", "in format 1"),
        ('{"format": 2, "cells": []}', "in format 1"),
        ('{"format": 1, "cells": [3]}', "cell 1 has not the fields"),
        (_changed(more=1), "cell 1 has not the fields"),
        (_changed(depth="3"), "cell 1: depth cannot be '3'"),
        (_changed(depth=True), "depth cannot be 'True'"),
        (_changed(accuracy=float("nan")), "accuracy cannot be 'nan'"),
        (_changed(details=[]), "details cannot be"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "cells.json"
    path.write_text(content)
    with pytest.raises(RecordsError, match=says.replace("[", r"\[")):
        read_cells(path)
