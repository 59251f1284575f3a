"""Trouble that is no kill: a locked database, a full disk, too little memory, signals that ask to end."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from nas_cntk.report.board import load_board

SOURCE = Path(__file__).resolve().parents[2]
SMALL = ("--subset", "60", "--holdout", "60", "--no-siblings", "--study", "s", "--quiet")
Figure = Callable[[str], None]


def start(folder: Path, *arguments: str, db: str = "w.db", **how: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nas_cntk", *arguments, "--db", db],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


def finished(db: Path) -> int:
    if not db.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=5)) as connection:
            found = connection.execute("SELECT count(*) FROM ncntk_trials WHERE phase = 'done'").fetchone()
    except sqlite3.OperationalError:
        return 0
    return int(found[0])


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


def test_a_database_locked_by_another_program_is_waited_for(tmp_path: Path, figure: Figure) -> None:
    db, seconds = tmp_path / "w.db", 4.0
    process = start(tmp_path, "search", *SMALL, "--trials", "12")
    wait_for(lambda: finished(db) >= 2, process)
    with closing(sqlite3.connect(db, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        before = finished(db)
        time.sleep(seconds)
        assert finished(db) == before < 12
        other.execute("COMMIT")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(load_board(str(db), "s").rows) == 12
    figure(f"database locked for {seconds:g} s in mid-search: 12 of 12 trials, no error")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a small file system is a tmpfs")
def test_a_full_disk_is_one_line_and_the_search_goes_on_when_there_is_room(tmp_path: Path, figure: Figure) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        process = start(disk, "search", *SMALL, "--trials", "400")
        _, err = process.communicate(timeout=240)
        assert process.returncode == 1 and err.count("\n") == 1 and "Traceback" not in err
        assert "disk is full" in err or "disk" in err.lower(), err
        subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
        kept = finished(disk / "w.db")
        total = kept + 3
        again = start(disk, "search", *SMALL, "--trials", str(total))
        _, err = again.communicate(timeout=240)
        assert again.returncode == 0, err
        board = load_board(str(disk / "w.db"), "s")
        assert len(board.rows) == total
        with closing(sqlite3.connect(disk / "w.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    figure(f"disk full during a search: one line, {kept} trials kept, {total} of {total} after there was room")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited by Linux alone")
def test_too_little_memory_is_one_line(tmp_path: Path, figure: Figure) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1_600_000_000, 1_600_000_000))

    arguments = ("search", "--trials", "3", "--study", "s", "--quiet", "--space", "plain", "--subset", "60000")
    import numpy as np

    images = np.random.default_rng(0).random((120_000, 4, 4, 1), dtype=np.float32)
    np.savez(tmp_path / "many.npz", x=images, y=np.arange(len(images)) % 2)
    arguments += ("--holdout", "60000", "--max-trial-seconds", "1e8", "--data", "npz:many.npz", "--no-siblings")
    process = start(tmp_path, *arguments, preexec_fn=limit)
    out, err = process.communicate(timeout=240)
    assert "Traceback" not in err, err
    lines = [*out.splitlines(), *err.splitlines()]
    said = [line for line in lines if "memory" in line]
    reasons = [row.reason for row in load_board(str(tmp_path / "w.db"), "s").rows] if process.returncode == 0 else []
    assert said or all("memory" in str(reason) for reason in reasons) and reasons, (process.returncode, out, err)
    figure(f"1.6 GB of address space for a 29 GB kernel: exit code {process.returncode}, {(said or reasons)[0]}")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_a_signal_to_end_ends_it_in_good_order(tmp_path: Path, figure: Figure, number: str) -> None:
    db = tmp_path / "w.db"
    process = start(tmp_path, "search", *SMALL, "--trials", "100000")
    wait_for(lambda: finished(db) >= 2, process)
    began = time.monotonic()
    process.send_signal(getattr(signal, number))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    kept = finished(db)
    with closing(sqlite3.connect(db)) as connection:
        left = connection.execute("SELECT count(*) FROM ncntk_trials WHERE phase NOT IN ('open', 'done')").fetchone()
    assert left == (0,) and len(load_board(str(db), "s").rows) == kept
    figure(f"{number}: ended after {time.monotonic() - began:.1f} s, {kept} trials kept, no lease left")


def test_nohup_keeps_it_alive(tmp_path: Path) -> None:
    db = tmp_path / "w.db"
    process = start(
        tmp_path,
        "search",
        *SMALL,
        "--trials",
        "10",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    wait_for(lambda: finished(db) >= 1, process)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert finished(db) == 10
