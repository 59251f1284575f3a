"""kill -9 at random moments: nothing finished is lost, and the end is that of an undisturbed run."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nas_cntk.report.board import load_board

SCRIPT = Path(__file__).with_name("fake_search.py")
TRIALS = 30


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fake_search", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(db: Path, sampler: str, names: str, delay: float, *more: str) -> subprocess.Popen[bytes]:
    arguments = ["--target", str(TRIALS), "--sampler", sampler, "--names", names, "--delay", str(delay), *more]
    return subprocess.Popen([sys.executable, str(SCRIPT), str(db), *arguments])


def board(db: Path) -> list[dict[str, Any]]:
    """The leaderboard as JSON, without what may differ: trial numbers, seconds, times."""
    loaded = load_board(str(db), "drill")
    ordinal_of = {row.trial: row.ordinal for row in loaded.rows}
    rows = []
    for row in loaded.rows:
        document = row.to_dict()
        del document["trial"], document["seconds"]
        document["duplicate_of"] = None if row.duplicate_of is None else ordinal_of[row.duplicate_of]
        document["sibling_of"] = None if row.sibling_of is None else ordinal_of[row.sibling_of]
        if row.duplicate_of is not None:
            document["reason"] = "duplicate"
        rows.append(document)
    return rows


def finished(db: Path) -> dict[int, tuple[int, str, object]]:
    loaded = load_board(str(db), "drill")
    return {row.ordinal: (row.trial, row.state, row.scores.get("holdout_accuracy")) for row in loaded.rows}


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler, names, few, many, more",
    [
        pytest.param("random", "holdout_accuracy", 4, 20, "", marks=pytest.mark.long),
        pytest.param("tpe", "holdout_accuracy", 6, 20, "", marks=pytest.mark.long),  # tests/test_cli.py kills one, too
        pytest.param("tpe", "holdout_accuracy", 4, 20, "--siblings", marks=pytest.mark.long),
        ("tpe", "holdout_accuracy", 4, 15, "--siblings --batch 3"),
        pytest.param("evolution", "holdout_accuracy", 3, 10, "", marks=pytest.mark.long),
        pytest.param("nsga2", "holdout_accuracy,flops", 4, 15, "--siblings", marks=pytest.mark.long),
    ],
)
def test_a_killed_study_ends_as_an_undisturbed_one(
    tmp_path: Path,
    figure: Callable[[str], None],
    times: Callable[[int, int], int],
    sampler: str,
    names: str,
    few: int,
    many: int,
    more: str,
) -> None:
    quiet, disturbed = tmp_path / "quiet.db", tmp_path / "disturbed.db"
    assert start(quiet, sampler, names, 0.0, *more.split()).wait() == 0

    rng = random.Random(f"{sampler} {names}")
    seen: dict[int, tuple[int, str, object]] = {}
    kills, blows = 0, times(few, many)
    while kills < blows:
        process = start(disturbed, sampler, names, 0.05, *more.split())
        # Wait until it works on trials, then strike: most kills would otherwise hit the imports.
        before = _commits(disturbed)
        while process.poll() is None and _commits(disturbed) == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.35))
        process.kill()
        if process.wait() == 0:
            break  # it reached the total before the blow
        kills += 1
        if _commits(disturbed) == before:
            continue
        now = finished(disturbed)
        assert seen.items() <= now.items(), "a finished trial was lost or changed"
        assert len({number for number, _, _ in now.values()}) == len(now), "two trials have one number"
        seen = now
    assert kills >= blows // 2, "the study was over too soon for the drill to mean anything"
    assert start(disturbed, sampler, names, 0.0, *more.split()).wait() == 0

    assert board(disturbed) == board(quiet)
    assert len(board(disturbed)) == TRIALS

    import optuna

    study = optuna.load_study(study_name="drill", storage=f"sqlite:///{disturbed}")
    states = [trial.state.name for trial in study.get_trials()]
    assert states.count("COMPLETE") + states.count("PRUNED") == TRIALS
    assert states.count("RUNNING") == 0
    how = " ".join((sampler, more)).strip()
    figure(f"search, {how}: {kills} x kill -9, {TRIALS} trials equal to an undisturbed run")


def _commits(db: Path) -> int:
    """How far the database has come: grows while trials are worked on."""
    import sqlite3

    if not db.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=5) as connection:
            row = connection.execute("SELECT count(*) FROM ncntk_trials").fetchone()
            other = connection.execute("SELECT count(*) FROM trials").fetchone()
    except sqlite3.OperationalError:
        return 0
    finally:
        if "connection" in locals():
            connection.close()
    return int(row[0]) + int(other[0])


@pytest.mark.slow
@pytest.mark.long
def test_killed_while_the_database_is_made(
    tmp_path: Path, figure: Callable[[str], None], times: Callable[[int, int], int]
) -> None:
    """Blows at the first moments: before, between and after the making of our tables, Optuna's and the study."""
    quiet = tmp_path / "quiet.db"
    assert start(quiet, "random", "holdout_accuracy", 0.0).wait() == 0
    blows = times(3, 10)
    for blow in range(blows):
        db = tmp_path / f"early-{blow}.db"
        process = start(db, "random", "holdout_accuracy", 0.0)
        while process.poll() is None and not db.exists():
            time.sleep(0.001)
        time.sleep(0.24 * blow / blows)
        process.kill()
        process.wait()
        assert start(db, "random", "holdout_accuracy", 0.0).wait() == 0
        assert board(db) == board(quiet)
    figure(f"search, while the database is made: {blows} x kill -9, {TRIALS} trials equal to an undisturbed run")
