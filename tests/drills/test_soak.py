"""A search that goes on for long: memory and open files stay what they were."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_cntk.report.board import load_board

SOURCE = Path(__file__).resolve().parents[2]
A_TRIAL = 16_384  # bytes that the history of one more trial may take: Optuna keeps what it has proposed


def look(pid: int) -> tuple[int, int, int]:
    """Return the resident bytes, the open files and the threads of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) * 1024, len(os.listdir(f"/proc/{pid}/fd")), int(fields["Threads"])


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_long_search_takes_no_more_memory_or_files(tmp_path: Path, figure: Callable[[str], None]) -> None:
    seconds = int(os.environ.get("NAS_CNTK_SOAK", "300"))
    db = tmp_path / "s.db"
    arguments = ["search", "--trials", "1000000", "--subset", "60", "--holdout", "60", "--study", "s", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "nas_cntk", *arguments, "--sampler", "random", "--db", str(db)],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    count = _counter(db)
    deadline = time.monotonic() + 120
    while count() < 5:  # everything is imported, and every buffer there
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    looks: list[tuple[float, int, int, int, int]] = []
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        assert process.poll() is None, process.communicate()
        looks.append((time.monotonic() - began, count(), *look(process.pid)))
        time.sleep(min(10.0, seconds / 20))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    # The first third may fill caches; from then on the middle of what was seen must not rise.
    third = len(looks) // 3
    early, late = looks[third : 2 * third], looks[2 * third :]
    trials = late[-1][1] - early[0][1]
    grown = statistics.median(one[2] for one in late) - statistics.median(one[2] for one in early)
    middle = statistics.median(one[1] for one in late) - statistics.median(one[1] for one in early)
    files = [one[3] for one in looks]
    threads = [one[4] for one in looks]
    rates = [(part[-1][1] - part[0][1]) / (part[-1][0] - part[0][0]) for part in (looks[:third], late) if len(part) > 1]
    figure(
        f"search of {seconds} s, {looks[-1][1]} trials:"
        f" {looks[third][2] / 2**20:.0f} to {looks[-1][2] / 2**20:.0f} MiB,"
        f" {min(files)} to {max(files)} files, {min(threads)} to {max(threads)} threads,"
        f" {rates[0]:.1f} trials a second at first and {rates[-1]:.1f} at last"
    )
    assert grown <= 8 * 2**20 + A_TRIAL * middle, f"{grown / 2**20:.1f} MiB more after {trials} trials"
    assert statistics.median(files[2 * third :]) <= statistics.median(files[third : 2 * third]) + 2, files
    assert max(threads) <= threads[0] + 4
    assert len(load_board(str(db), "s").rows) >= looks[-1][1]


def _counter(db: Path) -> Callable[[], int]:
    import sqlite3
    from contextlib import closing

    def count() -> int:
        if not db.exists():
            return 0
        try:
            with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=5)) as connection:
                query = "SELECT count(*) FROM ncntk_trials WHERE phase = 'done'"
                return int(connection.execute(query).fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    return count
