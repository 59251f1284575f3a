"""Several processes on one study: the total is exact, nothing is done twice, nobody is left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from nas_cntk.records.database import locate
from nas_cntk.report.board import load_board

SOURCE = Path(__file__).resolve().parents[2]
SMALL = ("--subset", "60", "--holdout", "60", "--study", "s", "--quiet")


@dataclass(frozen=True)
class Place:
    """Where a drill runs, and its database."""

    folder: Path
    db: str


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place(tmp_path, str(tmp_path / "w.db"))
    return Place(tmp_path, request.getfixturevalue("new_database")())


def start(place: Place, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nas_cntk", *arguments, *SMALL[4:], "--db", place.db],
        cwd=place.folder,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ask(place: Place, query: str) -> list[tuple[Any, ...]]:
    location = locate(place.db)
    if not location.server and not location.path.exists():
        return []
    url = location.url if location.server else f"sqlite:///file:{location.path}?mode=ro&uri=true"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]
    except sa.exc.DBAPIError:
        return []


def workers_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def check(place: Place, trials: int) -> None:
    board = load_board(place.db, "s")
    assert len(board.rows) == trials and sorted(row.ordinal for row in board.rows) == list(range(trials))
    scored = [row for row in board.rows if row.state == "COMPLETE" and row.duplicate_of is None]
    assert len({row.key for row in scored}) == len(scored), "an architecture was scored twice"
    assert ask(place, "SELECT count(*) FROM ncntk_trials WHERE phase != 'done'") == [(0,)]
    if not locate(place.db).server:
        assert ask(place, "PRAGMA integrity_check") == [("ok",)]
    states = dict(ask(place, "SELECT state, count(*) FROM trials GROUP BY state"))
    assert states.get("COMPLETE", 0) + states.get("PRUNED", 0) == trials and "RUNNING" not in states


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are found through /proc")
def test_four_workers_two_of_them_killed_reach_the_total_exactly(place: Place, figure: Callable[[str], None]) -> None:
    rng = random.Random(0)
    parent = start(place, "search", *SMALL[:4], "--trials", "50", "--workers", "4", "--seed", "1")
    for blow in (5, 15):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and parent.poll() is None:
            if ask(place, f"SELECT 1 FROM ncntk_trials WHERE phase = 'done' AND ordinal >= {blow}"):
                break
            time.sleep(0.02)
        victims = workers_of(parent.pid)
        assert victims, "the search was over too soon for the drill to mean anything"
        os.kill(rng.choice(victims), signal.SIGKILL)
    out, err = parent.communicate(timeout=240)
    assert parent.returncode == 0, err
    assert "50 of 50 trials" in out
    check(place, 50)
    kind = "PostgreSQL" if locate(place.db).server else "SQLite"
    figure(f"4 workers on {kind}, 2 x kill -9: 50 of 50 trials, none scored twice")


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are found through /proc")
def test_workers_end_with_their_parent_and_another_run_goes_on(place: Place) -> None:
    parent = start(place, "search", *SMALL[:4], "--trials", "100000", "--workers", "2")
    deadline = time.monotonic() + 120
    while not ask(place, "SELECT 1 FROM ncntk_trials WHERE phase = 'done'") and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = workers_of(parent.pid)
    assert len(workers) == 2
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)

    total = 2 + max(ordinal for (ordinal,) in ask(place, "SELECT ordinal FROM ncntk_trials"))
    again = start(place, "resume", "--trials", str(total), "--workers", "2")
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    check(place, total)


@pytest.mark.long
def test_ctrl_c_ends_all_and_an_error_of_a_worker_is_said(place: Place) -> None:
    parent = start(place, "search", *SMALL[:4], "--trials", "100000", "--workers", "2")
    deadline = time.monotonic() + 120
    while not ask(place, "SELECT 1 FROM ncntk_trials WHERE phase = 'done'") and time.monotonic() < deadline:
        time.sleep(0.02)
    parent.send_signal(signal.SIGINT)
    out, err = parent.communicate(timeout=60)
    assert parent.returncode == 130, err
    assert ask(place, "SELECT count(*) FROM ncntk_trials WHERE phase NOT IN ('open', 'done')") == [(0,)]

    # The space's file fails in the workers alone: the parent draws eight proposals to predict what they cost.
    (place.folder / "mine.py").write_text(
        "from nas_cntk import Builder\nimport sys\n"
        "def propose(trial, image_shape):\n"
        "    if 'nas_cntk.search.worker' in ' '.join(sys.orig_argv):\n"
        "        raise ValueError('not here')\n"
        "    b = Builder()\n"
        "    b.dense(b.flatten(b.relu(b.conv(b.input(), trial.suggest_categorical('k', [1, 3])))))\n"
        "    return b.build()\n"
    )
    arguments = ("--space", "mine.py", "--study", "t", "--db", place.db, "--workers", "2", "--trials", "3")
    failed = subprocess.run(
        [sys.executable, "-m", "nas_cntk", "search", *SMALL[:4], *arguments],
        cwd=place.folder,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert "a worker ended with an error: propose of space mine raised ValueError at line 5: not here" in failed.stderr
