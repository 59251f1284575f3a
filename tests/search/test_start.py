"""A search that starts from another study: which proposals come first, what is refused, what a kill changes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run, runner
from sklearn.datasets import load_digits

from nas_cntk.architecture import Architecture

SPACE = """
from nas_cntk import Builder

def propose(trial, image_shape):
    depth = trial.suggest_int("depth", 1, 4)
    kernel = trial.suggest_categorical("kernel", [1, 3, 5])
    share = trial.suggest_float("share", 0.2, 0.9)
    b = Builder()
    x = b.input()
    for _ in range(depth):
        x = b.relu(b.conv(x, kernel))
    b.dense(b.flatten(b.avg_pool(x, max(1, round(share * image_shape[0])), 1)))
    return b.build()

def siblings(params):
    return [{**params, "depth": depth} for depth in range(1, params["depth"])]
"""
FEW = ("--subset", "60", "--holdout", "60", "--space", "own.py", "--data", "npz:digits.npz")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where study `small` has searched images of 4x4."""
    folder = tmp_path_factory.mktemp("searched")
    digits = load_digits()
    np.savez(folder / "digits.npz", x=digits.images[:200, :, :, None].astype(np.float32), y=digits.target[:200])
    (folder / "own.py").write_text(SPACE)
    command = [sys.executable, "-m", "nas_cntk", "search", *FEW, "--image-size", "4", "--trials", "8", "--quiet"]
    subprocess.run([*command, "--study", "small"], check=True, cwd=folder)
    return folder


@pytest.fixture
def run(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, where study `small` has searched images of 4x4."""
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def board(run: Run, study: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = run("leaderboard", "--study", study, "--json").json()
    return rows


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row["parameters"] for row in sorted(rows, key=lambda row: row["ordinal"])]


def test_the_best_of_a_study_come_first_and_at_this_size(run: Run) -> None:
    best: list[dict[str, Any]] = []
    keys = set()
    for row in board(run, "small"):
        if row["key"] not in keys:
            best.append(row["parameters"])
            keys.add(row["key"])
    done = run("search", *FEW, "--image-size", "8", "--trials", "30", "--study", "large", "--start-from", "small")
    assert done.code == 0 and "the first 5 proposals are those of study small: trials " in done.out
    found = board(run, "large")
    assert in_order(found)[:5] == best[:5]
    assert len(in_order(found)) == 30 and in_order(found)[5:10] != best[:5]
    trial = next(row for row in found if row["trial"] == 0)
    shown = run("show", "0", "--study", "large", "--json").json()
    pools = [
        node for node in Architecture.from_json(json.dumps(shown["architecture"])).nodes if node.op.NAME == "avg_pool"
    ]
    sizes = [getattr(node.op, "size") for node in pools]  # noqa: B009
    assert sizes in ([], [max(1, round(trial["parameters"]["share"] * 8))]), "built for images of 8x8"


def test_trials_are_taken_by_number_and_in_order(run: Run) -> None:
    rows = {row["trial"]: row["parameters"] for row in board(run, "small")}
    done = run("search", *FEW, "--trials", "2", "--study", "two", "--start-from", "small", "--start-trials", "6, 1")
    assert done.code == 0, done.err
    assert in_order(board(run, "two")) == [rows[6], rows[1]]


def test_what_is_left_of_a_start_comes_after_an_interruption(run: Run) -> None:
    rows = {row["trial"]: row["parameters"] for row in board(run, "small")}
    asked = ("--start-from", "small", "--start-trials", "5,4,3,2")
    assert run("search", *FEW, "--trials", "1", "--study", "cut", *asked).code == 0
    assert run("search", *FEW, "--trials", "4", "--study", "cut", *asked).code == 0
    assert in_order(board(run, "cut")) == [rows[n] for n in (5, 4, 3, 2)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--start-from", "smal"), "no study 'smal'"),
        (("--start-from", "small", "--start-trials", "99"), "no finished trial 99 to start from"),
        (("--start-from", "small", "--start-trials", "1;2"), "numbers of trials"),
        (("--start-trials", "1"), "--start-from"),
        (("--start-from", "small", "--space", "plain"), "parameters of one mean nothing in the other"),
        (("--start-from", "small", "--study", "small", "--image-size", "4"), "did not start from 'small'"),
    ],
)
def test_what_is_no_start_is_refused(run: Run, arguments: tuple[str, ...], words: str) -> None:
    done = run("search", *FEW, "--trials", "2", *arguments)
    assert done.code in (1, 2) and words in done.err and done.err.count("\n") == 1
    assert [row["name"] for row in run("studies", "list", "--json").json()] == ["small"]
