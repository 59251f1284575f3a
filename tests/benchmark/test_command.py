"""`nas-cntk benchmark nasbench201` on a dozen cells and images made up for the purpose."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Run, runner

from nas_cntk import nasbench201
from nas_cntk.benchmark import ranking
from nas_cntk.benchmark.table import Cell, distinct, read_table, sample
from nas_cntk.errors import DataError
from nas_cntk.scores.combined import COMPONENTS, combined

DEAD = "|none~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|none~0|nor_conv_3x3~1|none~2|"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield runner(monkeypatch, capsys)
    torch.set_num_threads(threads)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve live cells, two of them the same network, and a dead one; one row more without a target."""
    cells = random.Random(0).sample([c for c in nasbench201.every() if nasbench201.is_live(c)], 11)
    # A skip to node 1 and a conv from there is a conv from the input.
    twins = [
        "|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|",
        "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|",
    ]
    rows = [(c, 80 + 2 * nasbench201.convs(c)) for c in [*cells, *twins, DEAD]]
    lines = ["arch_index,arch_str,acc", *(f"{at},{cell},{acc}" for at, (cell, acc) in enumerate(rows))]
    lines.append(f"99,{nasbench201.text_of(('none',) * 6)},")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.standard_normal((120, 8, 8, 3)) + 2 * rng.standard_normal((3, 8, 8, 3))[y]
    np.savez(tmp_path / "images.npz", x=x.astype(np.float32), y=y)
    return path


COMMON = ("--table", "table.csv", "--target", "acc", "--data", "npz:images.npz", "--image-size", "4")
SMALL = ("--subset", "12", "--holdout", "24", "--db", "b.db")


def test_every_score_of_the_same_cells(run: Run, table: Path) -> None:
    scores = "holdout_accuracy,nngp_holdout_mse,flops,params,jacov,synflow,combined"
    result = run("benchmark", "nasbench201", *COMMON, *SMALL, "--score", scores, "--json", "--csv", "cells.csv")
    found = result.json()
    assert (found["cells"], found["dead"], found["distinct"]) == (14, 1, 13)
    bars = ("params+jacov", "pruned params+jacov")
    assert list(found["scores"]) == [*scores.split(","), *bars]
    for name, score in found["scores"].items():
        assert {"spearman", "kendall", "partial_log_flops", "spearman_top10", "interval", "seconds_per_cell"} <= set(
            score
        )
        assert -1 <= score["spearman"] <= 1 and score["interval"][0] <= score["interval"][1], name
        assert sum(score["cells_by_convs"].values()) == 14 and score["cells"] == 14
        assert score["undefined"] == (0 if name in ("holdout_accuracy", "flops", "params", *bars) else 1)
    assert found["scores"]["flops"]["spearman"] > 0.2, "more is better, and the target counts convs"
    assert found["scores"]["flops"]["seconds_per_cell"] == 0 < found["scores"]["combined"]["seconds_per_cell"]
    assert "partial_log_flops" in found["scores"]["flops"] and found["scores"]["flops"]["partial_log_flops"] is None
    with open("cells.csv", newline="", encoding="utf-8") as file:
        rows = {row["arch_str"]: row for row in csv.DictReader(file)}
    assert len(rows) == 14
    dead = rows[DEAD]
    assert dead["dead"] == "1" and float(dead["holdout_accuracy"]) == pytest.approx(1 / 3) and dead["jacov"] == ""
    assert len({row["key"] for row in rows.values()}) == 13
    assert (Path("b-nasbench201.png")).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    again = run("benchmark", "nasbench201", *COMMON, *SMALL, "--score", scores)
    assert again.code == 0 and "nothing to compute" in again.out
    assert (
        all(f" {bar} (95 %, paired): " in again.out for bar in bars)
        and "Spearman by convs" in again.out
        and "next: nas-cntk search" in again.out
    )
    more = run("benchmark", "nasbench201", *COMMON, *SMALL, "--score", scores + ",zico", "--no-plot")
    assert "zico: 12 cells" in more.out and "exact kernels:" not in more.out and "jacov: 12" not in more.out
    other = run("benchmark", "nasbench201", *COMMON, *SMALL, "--score", "loo_mse", "--cells-per-stage", "2")
    assert "exact kernels: 12 cells" in other.out, "another network is another measurement"


def test_combined_and_the_harder_bar_take_pruned_parameters(run: Run, table: Path) -> None:
    small = "|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|"
    idle = small.replace("none~0|none~1", "nor_conv_3x3~0|none~1", 1)  # node 2 is read by nobody
    table.write_text(table.read_text() + f"100,{idle},70\n")
    options = ("--score", "combined,params,jacov", "--no-plot", "--json", "--csv", "c.csv")
    found = run("benchmark", "nasbench201", *COMMON, *SMALL, *options).json()
    with open("c.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    first, second = (next(row for row in rows if row["arch_str"] == text) for text in (small, idle))
    assert first["key"] == second["key"] and float(first["params"]) < float(second["params"])
    assert first["combined"] == second["combined"]
    assert float(second["combined"]) == combined({name: float(first[name]) for name in COMPONENTS}, 12)
    sizes = np.array([nasbench201.sizes(nasbench201.pruned(row["arch_str"]))[0] for row in rows], dtype=float)
    jacov = np.array([float(row["jacov"] or "-inf") for row in rows])
    target = np.array([float(row["target"]) for row in rows])
    for name, weights in (("params+jacov", [float(row["params"]) for row in rows]), ("pruned params+jacov", sizes)):
        expected = ranking.spearman(ranking.log_rank_sum(np.array(weights), jacov), target)
        assert found["scores"][name]["spearman"] == pytest.approx(expected), name


def test_each_network_may_count_once(run: Run, table: Path) -> None:
    options = ("--score", "flops,params,loo_mse", "--no-plot")
    found = run("benchmark", "nasbench201", *COMMON, *SMALL, *options, "--distinct", "--json", "--csv", "c.csv").json()
    assert (found["cells"], found["distinct"], found["networks_once"]) == (13, 13, True)
    assert all(score["cells"] == 13 for score in found["scores"].values())
    with open("c.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["key"] for row in rows}) == len(rows) == 13
    shown = run("benchmark", "nasbench201", *COMMON, *SMALL, *options, "--distinct").out
    assert "each network counts once" in shown and "networks" in shown.split("Spearman by convs")[1]
    assert run("benchmark", "nasbench201", *COMMON, *SMALL, *options, "--json").json()["cells"] == 14


def test_one_network_is_nothing_to_rank(run: Run, table: Path) -> None:
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *rows[11:13]]) + "\n")  # the twins
    options = ("--score", "loo_mse", "--no-plot")
    assert run("benchmark", "nasbench201", *COMMON, *SMALL, *options).code == 0
    refused = run("benchmark", "nasbench201", *COMMON, *SMALL, *options, "--distinct")
    assert refused.code == 2 and "all 2 cells of the sample are one network: nothing to rank" in refused.err


def test_a_network_is_its_smallest_cell_with_the_mean_target() -> None:
    small = "|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    idle = small.replace("nor_conv_1x1", "nor_conv_3x3")  # node 1 is read by nobody, and its conv counted
    other = "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    cells = [Cell(idle, 60.0, "1"), Cell(other, 90.0, "2"), Cell(small, 70.0, "3")]
    assert distinct(cells, {idle: "a", other: "b", small: "a"}) == (Cell(small, 65.0, "3"), Cell(other, 90.0, "2"))


def test_the_scores_are_those_of_score_architecture(run: Run, table: Path) -> None:
    from nas_cntk import data, scoring

    run(
        "benchmark", "nasbench201", *COMMON, *SMALL, "--cells", "3", "--score", "loo_mse", "--csv", "c.csv", "--no-plot"
    )
    dataset = data.standardise(data.load("npz:images.npz", image_size=4))
    split = data.split(dataset, 12, 24, 0)
    images = split.x, split.y, split.x_holdout, split.y_holdout
    with open("c.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["dead"] == "0":
                arch = nasbench201.architecture(row["arch_str"])
                expected = scoring.score_architecture(arch, *images, score="loo_mse", num_classes=3)
                assert float(row["loo_mse"]) == pytest.approx(expected.values["loo_mse"], rel=1e-6)


def test_short_training_ends_in_time(run: Run, table: Path) -> None:
    options = ("--score", "flops,short_training", "--train-seconds", "0.001", "--no-plot", "--json")
    found = run("benchmark", "nasbench201", *COMMON, *SMALL, *options).json()
    # The dead cell is known without training.
    assert found["scores"]["short_training"]["cells"] == 2 and found["scores"]["flops"]["cells"] == 14


def test_a_larger_sample_begins_with_a_smaller_one(table: Path) -> None:
    whole = read_table(str(table), "acc")
    assert len(whole.cells) == 14 and whole.blank == 1
    assert sample(whole, 9, 5)[:4] == sample(whole, 4, 5) != sample(whole, 4, 6)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *reversed(lines[1:])]))
    assert sample(read_table(str(table), "acc"), 9, 5) == sample(whole, 9, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'arch_str'; it has none"),
        ("a,b\n", "has no column 'arch_str'; it has a, b"),
        ("arch_str,b\n", "has no column 'acc'"),
        ("arch_str,acc\n", "no cell with a acc"),
        ("arch_str,acc\nx,3\n", "line 2: 'x' is no NAS-Bench-201 cell"),
        (f"arch_str,acc\n{DEAD},much\n", "line 2: acc is 'much', no number"),
        (f"arch_str,acc\n{DEAD},inf\n", "no number"),
        (f"arch_str,acc\n{DEAD},1\n{DEAD},2\n", "line 3: cell .* stands there twice"),
        ("arch_str,acc\n" + "x" * 200_000 + ",1\n", "line"),
        ("arch_str,acc\n|,\n", "line 2"),
    ],
)
def test_bad_tables_are_refused_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_table(str(path), "acc")
    assert "\n" not in str(caught.value)


def test_errors_are_one_line(run: Run, table: Path) -> None:
    for arguments, code, words in (
        (("--table", "none.csv"), 1, "cannot be read"),
        (("--score", "acuracy"), 2, "unknown score 'acuracy'"),
        (("--target", "acc2"), 1, "no column 'acc2'"),
        (("--image-size", "9"), 1, "9"),
        (("--cells", "1"), 2, "1"),
    ):
        result = run("benchmark", "nasbench201", *COMMON, *SMALL, *arguments)
        assert result.code == code and words in result.err and "Traceback" not in result.err


def test_killed_it_goes_on(tmp_path: Path, table: Path) -> None:
    command = [sys.executable, "-m", "nas_cntk", "benchmark", "nasbench201", *COMMON, *SMALL, "--no-plot"]
    command += ["--score", "holdout_accuracy,naswot,zico", "--json"]
    source = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    quiet = {"cwd": tmp_path, "env": environment, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, **quiet)
    database = tmp_path / "b.db"
    deadline = time.monotonic() + 60
    while _measured(database) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    started.send_signal(signal.SIGKILL)
    started.wait()
    before = _measured(database)
    assert 3 <= before < 36, "killed in the middle"
    found = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=tmp_path, env=environment).stdout)
    assert _measured(database) == 36  # three parts of twelve distinct live cells, each recorded once
    assert found["scores"]["zico"]["cells"] == 14


def _measured(database: Path) -> int:
    import sqlite3

    if not database.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM ncntk_benchmark_scores").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
