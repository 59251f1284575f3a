"""Trouble that is no kill: locks, a full or read-only disk, too little memory, a clock that jumps, signals."""

from __future__ import annotations

import os
import re
import resource
import shutil
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
@pytest.mark.parametrize("number", ["SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.long)])
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


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a read-only file system is a tmpfs")
def test_a_read_only_folder_is_one_line_and_may_be_read(tmp_path: Path, figure: Figure) -> None:
    with small_disk(tmp_path / "disk", "32m") as disk:
        process = start(disk, "search", *SMALL, "--trials", "100000")
        wait_for(lambda: finished(disk / "w.db") >= 2, process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        kept = finished(disk / "w.db")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        writers = (
            ("search", *SMALL, "--trials", "5"),
            ("resume", "--study", "s", "--trials", "100000"),
            ("validate", "--study", "s", "--top", "1", "--only", "cnn", "--epochs", "1", "--width", "4"),
            ("clean",),
            ("report", "--study", "s", "--output", "r.html"),
        )
        for command in writers:
            out, err = (process := start(disk, *command)).communicate(timeout=120)
            assert process.returncode == 1 and "Traceback" not in err, (command, out, err)
            assert err.count("\n") == 1 and ("read-only" in err.lower() or "cannot be written" in err), (command, err)
        for command in (("leaderboard", "--json"), ("studies", "list"), ("show", "0"), ("watch", "--once")):
            out, err = (process := start(disk, *command)).communicate(timeout=120)
            assert process.returncode == 0 and out, (command, err)
        assert finished(disk / "w.db") == kept
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        _, err = (process := start(disk, "search", *SMALL, "--trials", str(kept + 2))).communicate(timeout=120)
        assert process.returncode == 0, err
    figure(f"read-only folder: {len(writers)} commands that write say so in one line, 4 that read work")


CLOCK = """
#include <dlfcn.h>
#include <time.h>
// The wall clock of this process goes back an hour after every 40th look at it, and never on by itself.
extern "C" int clock_gettime(clockid_t clock, struct timespec* time) {
    static auto real = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
    static long looks = 0;
    int result = real(clock, time);
    if (clock == CLOCK_REALTIME) time->tv_sec -= 3600 * (++looks / 40);
    return result;
}
"""


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the clock is turned back by LD_PRELOAD")
def test_a_clock_that_goes_backwards(tmp_path: Path, figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (tmp_path / "clock.cpp").write_text(CLOCK)
    library = tmp_path / "clock.so"
    build = [compiler, "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", str(library), "clock.cpp", "-ldl"]
    subprocess.run(build, cwd=tmp_path, check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    turned = [
        sys.executable,
        "-c",
        "import time; a = time.time(); [time.time() for _ in range(99)]; print(time.time() - a)",
    ]
    assert float(subprocess.run(turned, capture_output=True, text=True, check=True).stdout) < -3600
    processes = [start(tmp_path, "search", *SMALL, "--trials", "12") for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    monkeypatch.delenv("LD_PRELOAD")
    board = load_board(str(tmp_path / "w.db"), "s")
    assert sorted(row.ordinal for row in board.rows) == list(range(12))
    assert all(row.seconds is None or row.seconds >= 0 for row in board.rows), "a trial took less than no time"
    for command in (
        ("leaderboard",),
        ("show", "0"),
        ("watch", "--once"),
        ("report", "--study", "s", "--output", "r.html"),
    ):
        process = start(tmp_path, *command)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, (command, err)
        assert not re.search(r"(?<![\w.])-\d+(\.\d+)? (s|min|h)\b", out), (command, out)
    figure("a clock that goes back an hour again and again, 2 processes: 12 of 12 trials, no negative time shown")


def test_ctrl_c_twice_ends_at_once(tmp_path: Path, figure: Figure) -> None:
    # One network takes many seconds here, and the first Ctrl-C alone is answered between two tiles.
    arguments = ("search", "--study", "s", "--quiet", "--trials", "3", "--subset", "1000", "--holdout", "600")
    process = start(tmp_path, *arguments, "--no-siblings", "--space", "plain")
    wait_for(lambda: _scoring(tmp_path / "w.db"), process)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    took = time.monotonic() - began
    assert process.returncode == 130 and "Traceback" not in err, err
    with closing(sqlite3.connect(tmp_path / "w.db")) as connection:
        left = connection.execute("SELECT count(*) FROM ncntk_trials WHERE phase IN ('asking', 'scoring')").fetchone()
        running = connection.execute("SELECT count(*) FROM trials WHERE state = 'RUNNING'").fetchone()
    again = start(tmp_path, "search", *SMALL[:-3], "--study", "t", "--quiet", "--trials", "2")
    assert again.communicate(timeout=120) and again.returncode == 0
    figure(f"Ctrl-C twice: ended after {took:.1f} s, {left[0]} leases and {running[0]} running trials left")
    assert left == running == (0,)


def _scoring(db: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=5)) as connection:
            query = "SELECT count(*) FROM ncntk_trials WHERE phase = 'scoring' AND key IS NOT NULL"
            return bool(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return False


@pytest.mark.long
def test_a_killed_report_leaves_the_old_one(tmp_path: Path, figure: Figure, times: Callable[[int, int], int]) -> None:
    import random

    process = start(tmp_path, "search", *SMALL, "--trials", "6")
    assert process.communicate(timeout=120) and process.returncode == 0
    report = ("report", "--study", "s", "--output", "r.html")
    began = time.monotonic()
    process = start(tmp_path, *report)
    assert process.communicate(timeout=120) and process.returncode == 0
    took = time.monotonic() - began
    whole = (tmp_path / "r.html").read_bytes()
    rng = random.Random(0)
    kills, blows = 0, times(2, 20)
    while kills < blows:
        process = start(tmp_path, *report)
        time.sleep(rng.uniform(0.5, 1.0) * took)
        process.kill()
        process.communicate()
        if process.returncode == 0:  # done before the blow: the first one was slow
            took *= 0.8
            continue
        kills += 1
        now = (tmp_path / "r.html").read_bytes()
        assert now.endswith(b"</html>\n") and abs(len(now) - len(whole)) < 1000, "half a report"
    process = start(tmp_path, *report)
    assert process.communicate(timeout=120) and process.returncode == 0
    figure(f"report: {kills} x kill -9, never half a file")


STUDY = ("--study", "s")
CNN = ("validate", *STUDY, "0", "--only", "cnn", "--epochs", "1", "--width", "4", "--force")
PAPER = ("paper", "theorem1", "--columns", "FC", "--widths", "4,8", "--seeds", "2", "--train", "3", "--seed", "{}")
# The command, and what it writes beside the database. `{}` is another name in each round, so that it is new.
WRITERS: tuple[tuple[tuple[str, ...], str | None], ...] = (
    (("search", *SMALL[:-3], "--study", "n{}", "--quiet", "--trials", "2"), None),
    (("resume", *STUDY, "--trials", "{more}", "--quiet"), None),
    (CNN, None),
    (("validate", *STUDY, "0", "--only", "kernel", "--train-images", "300", "--force"), None),
    (("export", "0", *STUDY, "--to", "model{}"), "model{}"),
    (("export", "0", *STUDY, "--onnx", "--to", "onnx{}"), "onnx{}"),
    (("export", "0", *STUDY, "--kernel", "--train-images", "300", "--to", "kernel{}"), "kernel{}"),
    (("report", *STUDY, "--output", "r{}.html"), "r{}.html"),
    (("leaderboard", *STUDY, "--csv", "board{}.csv"), "board{}.csv"),
    (("db", "copy", "w.db", "copy{}.db"), "copy{}.db"),
    (PAPER, None),
    (("paper", "results", "--to", "page{}"), "page{}"),
)
WITHOUT_DATABASE: tuple[tuple[tuple[str, ...], str | None], ...] = (
    (("data", "inspect", "digits", "--subset", "60", "--holdout", "60", "--contact-sheet", "c{}.png"), "c{}.png"),
    (("predict", "model", "--data", "digits", "--output", "p{}.csv"), "p{}.csv"),
)


def called(disk: Path, command: tuple[str, ...], number: int) -> tuple[int, str, str]:
    words = [word.format(number, more=100 + number) if "{" in word else word for word in command]
    if command in (one for one, _ in WITHOUT_DATABASE) or command[0] == "db":
        done = subprocess.run(
            [sys.executable, "-m", "nas_cntk", *words],
            cwd=disk,
            env=os.environ | {"PYTHONPATH": str(SOURCE)},
            capture_output=True,
            text=True,
            timeout=240,
        )
        return done.returncode, done.stdout, done.stderr
    process = start(disk, *words)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def filled(disk: Path, free: int) -> None:
    """Write until there are only so many bytes left."""
    with (disk / "full").open("wb") as file:
        left = shutil.disk_usage(disk).free - free
        try:
            while left > 0:
                left -= file.write(bytes(min(left, 2**16)))
                file.flush()
        except OSError:
            pass


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a small file system is a tmpfs")
@pytest.mark.parametrize("free", [0, 8_192, 65_536, 262_144])
def test_every_command_that_writes_on_a_full_disk(tmp_path: Path, free: int, figure: Figure) -> None:
    with small_disk(tmp_path / "disk", "64m") as disk:
        code, _, err = called(disk, ("search", *SMALL, "--trials", "6"), 0)
        assert code == 0, err
        for command in (CNN, ("export", "0", *STUDY, "--to", "model"), PAPER):
            code, _, err = called(disk, command, 0)
            assert code == 0, (command, err)
        kept, refused = finished(disk / "w.db"), 0
        for number, (command, target) in enumerate((*WRITERS, *WITHOUT_DATABASE), 1):
            filled(disk, free)
            code, out, err = called(disk, command, number)
            (disk / "full").unlink()
            said = f"{command} with {free} bytes: exit code {code}\n{out}\n{err}"
            assert "Traceback" not in out + err, said
            if code == 0:
                continue  # it had room enough
            refused += 1
            last = err.splitlines()[-1]
            assert code in (1, 2) and last.startswith("error: ") and err.count("error: ") == 1, said
            assert "disk" in last.lower() or "no space" in last.lower(), said
            if target is not None:
                path = disk / target.format(number)
                assert not path.is_file() or path.suffix == ".db", f"half a file: {said}"
        assert refused > (8 if free == 0 else 0)
        with closing(sqlite3.connect(disk / "w.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert finished(disk / "w.db") >= kept, "a finished trial is gone"
        for number, (command, _) in enumerate((*WRITERS, *WITHOUT_DATABASE), 1):
            code, out, err = called(disk, command, number + 1000 if command[0] == "export" else number)
            assert code == 0, (command, out, err)
    commands = len(WRITERS) + len(WITHOUT_DATABASE)
    figure(f"{commands} commands that write, {free:,} bytes free: {refused} refused in one line, all work with room")
