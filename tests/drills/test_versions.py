"""Two versions of the program on one database: the newer one brings it up to date, the older one ends in order."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nas_cntk.records.migrations import MIGRATIONS
from nas_cntk.report.board import load_board

PROGRAM = textwrap.dedent("""
    import runpy, sys
    from nas_cntk.records import migrations

    def newer(connection):
        connection.exec_driver_sql("ALTER TABLE ncntk_trials ADD COLUMN mood TEXT")
        connection.exec_driver_sql("CREATE TABLE ncntk_moods (mood TEXT)")

    if sys.argv.pop(1) == "newer":
        migrations.MIGRATIONS = (*migrations.MIGRATIONS, newer)
    script = sys.argv.pop(1)
    sys.argv[0] = script
    sys.path.insert(0, "")
    runpy.run_path(script, run_name="__main__")
""")
SCRIPT = Path(__file__).with_name("fake_search.py")
Figure = Callable[[str], None]


def start(version: str, db: str, target: int, delay: float) -> subprocess.Popen[str]:
    arguments = [db, "--target", str(target), "--sampler", "tpe", "--delay", str(delay)]
    command = [sys.executable, "-c", PROGRAM, version, str(SCRIPT), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(db: str) -> int:
    try:
        return len(load_board(db, "drill").rows)
    except Exception:
        return 0


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def test_a_newer_version_joins_and_the_older_one_ends_in_good_order(
    tmp_path: Path, figure: Figure, request: pytest.FixtureRequest, kind: str
) -> None:
    db = str(tmp_path / "nas.db") if kind == "sqlite" else request.getfixturevalue("new_database")()
    older = start("older", db, 100_000, 0.2)
    deadline = time.monotonic() + 120
    while finished(db) < 3:
        assert older.poll() is None and time.monotonic() < deadline, older.communicate()
        time.sleep(0.05)
    newer = start("newer", db, 20, 0.0)
    _, err = newer.communicate(timeout=120)
    assert newer.returncode == 0, err
    _, err = older.communicate(timeout=60)
    assert older.returncode == 1
    assert (
        err.strip()
        .splitlines()[-1]
        .endswith(
            f"was written by a newer nas-cntk (schema {len(MIGRATIONS) + 1}, this one knows {len(MIGRATIONS)});"
            " upgrade nas-cntk or name another file with --db"
        )
    )
    _, err = start("older", db, 30, 0.0).communicate(timeout=60)
    assert "written by a newer nas-cntk" in err.splitlines()[-1]
    # The trials of both are there, each ordinal once; what the older one had in hand is done.
    again = start("newer", db, 24, 0.0)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    check = subprocess.run(
        [sys.executable, "-c", COUNT, db], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    total = int(check[0])
    assert check == [str(total), str(total), "0"] and total >= 24
    figure(f"two versions on one {kind} database: {total} trials, the older one ended in one line")


COUNT = textwrap.dedent("""
    import sys
    import sqlalchemy as sa
    from nas_cntk.records.database import locate
    with sa.create_engine(locate(sys.argv[1]).url).connect() as connection:
        rows = connection.exec_driver_sql("SELECT ordinal FROM ncntk_trials WHERE phase = 'done'").scalars().all()
        left = connection.exec_driver_sql("SELECT count(*) FROM ncntk_trials WHERE phase <> 'done'").scalar()
    print(len(rows), len(set(rows)), left)
""")


def test_several_processes_bring_one_old_database_up_to_date(tmp_path: Path, figure: Figure) -> None:
    import sqlite3

    db = tmp_path / "old.db"
    with sqlite3.connect(db) as connection:
        connection.executescript((Path(__file__).parents[1] / "records" / "schema_1.sql").read_text())
    connection.close()
    processes = [start("older", str(db), 12, 0.01) for _ in range(3)]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    with sqlite3.connect(db) as connection:
        versions = [row[0] for row in connection.execute("SELECT version FROM ncntk_schema ORDER BY version")]
    connection.close()
    assert versions == list(range(1, len(MIGRATIONS) + 1))
    assert len(load_board(str(db), "drill").rows) == 12
    figure(f"3 processes on a database of schema 1: brought to schema {len(MIGRATIONS)} once, 12 of 12 trials")
