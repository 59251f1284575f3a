"""`nas-cntk db copy`: a study is the same on the other side, goes on there, and what is no copy is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Run, runner

from nas_cntk.records import copying, leases, studies
from nas_cntk.records.leases import Owner
from nas_cntk.records.migrations import open_records
from nas_cntk.search.storage import open_storage

SMALL = ("--subset", "40", "--holdout", "40", "--trials", "12", "--study", "one")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the study `one`."""
    db = tmp_path_factory.mktemp("searched") / "a.db"
    command = [sys.executable, "-m", "nas_cntk", "search", *SMALL, "--db", str(db), "--quiet"]
    subprocess.run(command, check=True, cwd=db.parent)
    return db


@pytest.fixture
def run(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, in a folder where a.db has the study `one`."""
    shutil.copy(searched, tmp_path / "a.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return runner(monkeypatch, capsys)


@pytest.fixture(params=["sqlite", "postgresql"])
def other(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return "b.db"
    make: Callable[[], str] = request.getfixturevalue("new_database")
    return make()


def board(run: Run, db: str) -> Any:
    return run("leaderboard", "--study", "one", "--json", "--db", db).json()


def test_a_copy_is_equal_there_and_back_again_and_goes_on(run: Run, other: str) -> None:
    weights = Path("a-artifacts/one/k-standard.safetensors")
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    there = run("db", "copy", "a.db", other)
    assert there.code == 0 and "copied one: 12 trials, " in there.out, there.err
    assert board(run, other) == board(run, "a.db")
    back = run("db", "copy", other, "c.db", "--study", "one")
    assert back.code == 0 and board(run, "c.db") == board(run, "a.db")
    assert Path("c-artifacts/one/k-standard.safetensors").read_bytes() == b"weights"
    for db in (other, "c.db", "a.db"):
        assert run("resume", "--trials", "16", "--db", db, "--quiet").code == 0
    found = [[(row["ordinal"], row["key"], row["scores"]) for row in board(run, db)] for db in (other, "c.db", "a.db")]
    assert found[0] == found[1] == found[2], "the sampler knows the same trials"


def test_what_a_killed_copy_has_left_is_copied_anew(run: Run, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(copying, "_architectures", killed)  # Optuna's part is there by then, and ours is not
        run("db", "copy", "a.db", other)
    assert run("studies", "list", "--json", "--db", other).json() == []
    assert run("db", "copy", "a.db", other).code == 0
    assert board(run, other) == board(run, "a.db")


def test_a_copy_that_differs_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = copying._ours

    def wrong(records: Any, study_id: int) -> Any:
        found = whole(records, study_id)
        if records.location.path.name == "b.db":
            next(iter(found.values()))[0]["target"] += 1
        return found

    monkeypatch.setattr(copying, "_ours", wrong)
    done = run("db", "copy", "a.db", "b.db")
    assert done.code == 1 and "differs from the original" in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.db", "a.db"), "the same database"),
        (("none.db", "b.db"), "there is no database none.db"),
        (("a.db", "b.db", "--study", "two"), "no study 'two'"),
    ],
)
def test_what_cannot_be_copied_is_one_line(run: Run, arguments: tuple[str, ...], words: str) -> None:
    done = run("db", "copy", *arguments)
    assert done.code in (1, 2) and words in done.err and done.err.count("\n") == 1


def test_a_name_that_is_taken_and_a_study_under_way_are_refused(run: Run) -> None:
    assert run("db", "copy", "a.db", "b.db").code == 0
    assert "has a study 'one' already" in run("db", "copy", "a.db", "b.db").err
    records = open_records("a.db", write=True)
    study = studies.find_study(records, "one")
    storage = open_storage(records)
    leases.claim(records, study.study_id, 13, Owner.current())
    assert "being searched" in run("db", "copy", "a.db", "c.db").err
    storage.engine.dispose()
    records.close()
