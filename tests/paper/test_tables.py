"""Table 1, Table 2 and gp on the digits: JSON, resuming, states, files."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run

from nas_cntk import kernel, regression, solver
from nas_cntk.paper import kernel_column, networks, session
from nas_cntk.paper.bench import Bench, packed, unpacked
from nas_cntk.paper.columns import TABLE_1, Size
from nas_cntk.paper.images import ImageSource
from nas_cntk.paper.rows import paired
from nas_cntk.paper.wishes import Wishes

KEYS = ["column", "depth", "accuracy", "paper", "difference", "standard_error", "train", "test", "seconds", "state"]
SMALL = ("--columns", "CNTK-V,CNTK-GAP", "--depths", "3,4", "--train", "60", "--test", "50", "--image-size", "4")


def test_table_1_as_json_and_on_the_screen(run: Run) -> None:
    rows = run("paper", "table1", *SMALL, "--json").json()
    assert [(row["column"], row["depth"]) for row in rows] == [
        ("CNTK-V", 3),
        ("CNTK-V", 4),
        ("CNTK-GAP", 3),
        ("CNTK-GAP", 4),
    ]
    for row in rows:
        assert list(row)[: len(KEYS)] == KEYS
        assert 0 <= row["accuracy"] <= 1 and row["state"] == "done" and row["paper"] is row["difference"] is None
        assert (row["train"], row["test"]) == (60, 50)
        assert row["standard_error"] == pytest.approx(regression.standard_error(row["accuracy"], 50))
    assert json.loads(Path("runs/nas-paper/table1.json").read_text()) == rows
    assert Path("runs/nas-paper/table1.png").read_bytes().startswith(b"\x89PNG")
    assert not list(Path("runs/nas-paper").rglob("c/*")), "tiles go when they are solved"
    shown = run("paper", "table1", *SMALL).out
    assert "nothing to compute" in shown and max(map(len, shown.splitlines())) <= 80 + 60
    assert "CNTK-V: 60 + 50 images of 4x4 (paper: 50,000 + 10,000 of 32x32)" in shown


def test_a_cell_is_kernel_regression_with_the_papers_kernel(run: Run, digits: ImageSource) -> None:
    rows = run("paper", "table1", *SMALL, "--no-plot", "--json").json()
    sample = digits.sample(Size(4, 60, 50))
    assert np.bincount(sample.y).min() >= 5, "every beginning of the order has all classes"
    for row in rows:
        arch = (networks.vanilla if row["column"] == "CNTK-V" else networks.pooled)(row["depth"])
        fitted = regression.fit(kernel(arch, sample.x), sample.y, 10)
        scores = regression.holdout_scores(fitted, kernel(arch, sample.x_test, sample.x), sample.y_test)
        assert row["accuracy"] == scores.accuracy


def test_a_finished_cell_is_never_computed_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("paper", "table1", *SMALL, "--no-plot", "--json").json()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(kernel_column, "gram_family", never)
    assert run("paper", "table1", *SMALL, "--no-plot", "--json").json() == first


def test_tiles_of_the_pass_outlive_a_kill_between_two_depths(make_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench: Bench = make_bench(columns=("CNTK-V",), depths=(3, 4, 6), train=60, test=50)
    (unit,) = session.EXPERIMENTS["table1"](bench)
    found = unit.run(unit.cells, lambda _: None)
    cell, first = next(found)
    assert cell.depth == 3
    found.close()  # type: ignore[attr-defined]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(kernel_column, "gram_family", never)
    rest = {cell.depth: value.accuracy for cell, value in unit.run(unit.cells[1:], lambda _: None)}
    monkeypatch.undo()
    again = {cell.depth: value.accuracy for cell, value in unit.run(unit.cells, lambda _: None)}
    assert again == {3: first.accuracy, **rest}
    assert not list((bench.folder / "tiles").iterdir())


def test_without_room_for_all_depths_they_go_one_after_the_other(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench: Bench = make_bench(columns=("CNTK-V",), depths=(3, 4), train=60, test=50)
    (unit,) = session.EXPERIMENTS["table1"](bench)
    whole = {cell.depth: value.accuracy for cell, value in unit.run(unit.cells, lambda _: None)}
    families: list[int] = []
    honest = kernel_column.gram_family

    def noted(archs: Any, *arguments: Any, **named: Any) -> Any:
        families.append(len(archs))
        return honest(archs, *arguments, **named)

    monkeypatch.setattr(kernel_column, "gram_family", noted)
    one = 4.0 * (60 * 61 / 2 + 60 * 50)
    monkeypatch.setattr(Bench, "free_disk", lambda self: 1.2 * one)
    assert "one after the other" in unit.forecast(unit.cells).note
    assert {cell.depth: value.accuracy for cell, value in unit.run(unit.cells, lambda _: None)} == whole
    assert families == [1, 1]
    monkeypatch.setattr(Bench, "free_disk", lambda self: 0.5 * one)
    assert "GB of disk" in unit.forecast(unit.cells).impossible


def test_a_column_beyond_the_time_is_too_large_and_begun_by_nobody(run: Run) -> None:
    rows = run("paper", "table1", *SMALL, "--max-seconds", "1e-6", "--no-plot", "--json").json()
    assert {row["state"] for row in rows} == {"too large"}
    assert all("--max-seconds" in row["reason"] and row["accuracy"] is None for row in rows)


def test_cnns_are_trained_by_the_grid_and_resumed_point_by_point(run: Run) -> None:
    arguments = ("--columns", "CNN-V", "--depths", "3", "--train", "40", "--test", "40", "--image-size", "4")
    arguments += ("--epochs", "1", "--width", "4", "--no-plot")
    (row,) = run("paper", "table1", *arguments, "--json").json()
    assert row["details"]["points"] == 12 and row["details"]["best_on_test"] >= row["accuracy"]
    with sqlite3.connect("runs/nas.db") as connection:
        assert connection.execute("SELECT COUNT(*) FROM ncntk_paper_parts").fetchone() == (0,)
    connection.close()


def test_table_2_is_the_median_of_draws(run: Run) -> None:
    arguments = ("--columns", "RF-V,CNTK-V", "--depths", "3", "--train", "20", "--test", "40", "--image-size", "4")
    arguments += ("--draws", "4", "--channels", "8")
    features, exact = run("paper", "table2", *arguments, "--json").json()
    accuracies = features["details"]["accuracies"]
    assert len(accuracies) == 4 and features["accuracy"] == np.median(accuracies)
    assert (features["column"], exact["column"]) == ("RF-V", "CNTK-V")
    assert "CNTK-V over RF-V, depth 3: " in run("paper", "table2", *arguments).out


def test_gp_takes_both_kernels_from_one_pass(run: Run, digits: ImageSource) -> None:
    arguments = ("--columns", "GP-V,CNTK-V", "--depths", "3", "--train", "60", "--test", "50", "--image-size", "4")
    weak, strong = run("paper", "gp", *arguments, "--json").json()
    sample = digits.sample(Size(4, 60, 50))
    for row, kind in ((weak, "nngp"), (strong, "ntk")):
        k: Any = kernel(networks.vanilla(3), sample.x, kind=kind)  # type: ignore[call-overload]
        cross: Any = kernel(networks.vanilla(3), sample.x_test, sample.x, kind=kind)  # type: ignore[call-overload]
        scores = regression.holdout_scores(regression.fit(k, sample.y, 10), cross, sample.y_test)
        assert row["accuracy"] == scores.accuracy


def test_the_papers_figure_stands_beside_columns_of_its_size_alone(digits: ImageSource) -> None:
    column = TABLE_1[2]
    assert column.name == "CNTK-V-2K" and column.paper == Size(32, 2000, 10_000)
    assert not digits.is_papers
    # Of the digits, half of the training images at most, so that the column differs from that of all.
    assert digits.size(column, Wishes()) == Size(8, 700, 397)


def test_what_was_right_is_packed_and_paired() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random(37) < 0.5
    assert (unpacked(packed(correct), 37) == correct).all()
    from nas_cntk.paper.rows import Row

    size, other = Size(8, 10, 37), rng.random(37) < 0.5
    rows = [Row("table2", "CNTK-V", 3, size, "done", details={"correct": packed(one)}) for one in (correct, other)]
    gain = correct.astype(float) - other
    assert paired(*rows) == pytest.approx((gain.mean(), gain.std(ddof=1) / np.sqrt(37)))


@pytest.mark.parametrize(
    "arguments, code, says",
    [
        (("table1", "--columns", "CNTK-W"), 2, "the columns are CNN-V"),
        (("table1", "--depths", "2"), 2, "integers from 3"),
        (("table1", "--depths", "3,x"), 2, "integers from 3"),
        (("table1", "--image-size", "9"), 2, "upscaling"),
        (("table1", "--train", "3"), 2, "too few"),
        (("theorem1", "--widths", "64"), 2, "two or more"),
        (("theorem2", "--kappas", "0"), 2, "above 0"),
        (("gp", "--data", "cifar10:none"), 1, "none"),
        (("results",), 1, "there is no database"),
    ],
)
def test_wrong_wishes_are_one_line(run: Run, arguments: tuple[str, ...], code: int, says: str) -> None:
    result = run("paper", *arguments)
    assert result.code == code and says in result.err and len(result.err.splitlines()) == 1


def test_a_missing_matplotlib_is_said_before_any_work(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    honest = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "matplotlib" else honest(name, *rest)
    )
    result = run("paper", "table1", *SMALL)
    assert result.code == 1 and "pip install 'nas-cntk[report]'" in result.err and not Path("runs/nas.db").exists()
    assert run("paper", "table1", *SMALL, "--no-plot").code == 0


def test_a_run_that_ended_before_its_solves_goes_on_from_the_tiles(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = run("paper", "table1", *SMALL[2:], "--columns", "CNTK-V", "--no-plot", "--json", "--db", "whole.db").json()

    def interrupted(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kernel_column, "solve", interrupted)
        assert run("paper", "table1", *SMALL[2:], "--columns", "CNTK-V", "--no-plot").code == 130
        patch.setattr(kernel_column, "gram_family", interrupted)  # not to be computed again
        patch.setattr(kernel_column, "solve", solver.solve)
        found = run("paper", "table1", *SMALL[2:], "--columns", "CNTK-V", "--no-plot", "--json").json()
    assert [row["accuracy"] for row in found] == [row["accuracy"] for row in wanted]


def test_the_page_is_made_from_what_is_recorded(run: Run) -> None:
    run("paper", "table1", *SMALL, "--no-plot")
    run("paper", "theorem1", "--columns", "FC", "--widths", "8,16", "--seeds", "2", "--train", "3", "--no-plot")
    assert run("paper", "results", "--to", "page").code == 0
    page = Path("page/results.md").read_text()
    assert "## Table 1: CNNs and exact kernels, digits" in page and "**FC, depth 3: 3 images of 8x8**" in page
    assert "nas-cntk paper table1 --columns CNTK-V,CNTK-GAP" in page
    for picture in ("table1-digits.png", "theorem1-digits.png"):
        assert f"results/{picture}" in page and Path("page/results", picture).exists()


@pytest.mark.parametrize("blows", [2])
def test_kill_9_costs_no_finished_cell(run: Run, tmp_path: Path, repository: Path, blows: int) -> None:
    arguments = ("table1", "--columns", "CNTK-V,CNTK-GAP", "--depths", "3,4,6", "--train", "300", "--test", "97")
    arguments += ("--no-plot", "--json")
    quiet = run("paper", *arguments, "--db", "quiet.db").json()
    kept: list[set[tuple[str, int, str]]] = []
    for _ in range(blows):
        process = subprocess.Popen(
            [sys.executable, "-m", "nas_cntk", "paper", *arguments, "--db", "killed.db"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(repository)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("table1 "):  # a cell is finished
                break
        time.sleep(0.05)
        process.kill()
        process.communicate()
        with sqlite3.connect("killed.db") as connection:
            found = connection.execute("SELECT column_name, depth, finished FROM ncntk_paper_cells").fetchall()
        connection.close()
        kept.append(set(found))
    assert all(before <= after for before, after in zip(kept, kept[1:], strict=False)), "a finished cell was redone"
    assert 0 < len(kept[0]) < len(quiet)
    rows = run("paper", *arguments, "--db", "killed.db").json()
    assert [(row["column"], row["depth"], row["accuracy"]) for row in rows] == [
        (row["column"], row["depth"], row["accuracy"]) for row in quiet
    ]
