"""Names of studies, classes, files and folders that try to be more than text, through the commands that show them."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from command_line import Result, Run, runner
from PIL import Image

ESCAPES = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202e"
CLASSES = (
    os.fsencode(f"a{ESCAPES}\r\n"),
    b"<script>alert(1)</script>".replace(b"/", b"|"),
    b"'; DROP TABLE ncntk_trials; --",
    b"%s%n {0} [red]x[-red]",
    b"\xff\xfe no text",
    b"z" * 200,
)
STUDY = "'; DROP TABLE ncntk_trials; --<b>%s{0}[red]x[/red]"
SPACE = """
from nas_cntk import Builder

def propose(trial, image_shape):
    b = Builder()
    x = b.relu(b.conv(b.input(), trial.suggest_categorical("'; DROP TABLE ncntk_trials; -- <b>[red]", [1, 3, 5])))
    b.dense(b.flatten(x))
    return b.build()
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "space.py").write_text(SPACE)
    return runner(monkeypatch, capsys)


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """The data of a folder with such a name, such classes, and such files, one of them broken."""
    root = os.path.join(os.fsencode(tmp_path), os.fsencode(f"photos{ESCAPES}<i>"))
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        os.makedirs(os.path.join(root, name))
        for number in range(6):
            pixels = rng.integers(0, 99, (4, 4)) + 20 * label
            with open(os.path.join(root, name, b"%d \x1b[2J\xff<b>'.png" % number), "wb") as file:
                Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    with open(os.path.join(root, CLASSES[0], b"\x1b[31mbroken\n.png"), "wb") as file:
        file.write(b"no image")
    os.mkdir(os.path.join(root, b"\x1b]2;empty\x07"))
    return f"folder:{os.fsdecode(root)}"


def text_alone(result: Result, code: int = 0) -> str:
    """What a command printed: nothing in it does anything on a terminal."""
    assert result.code == code, result
    shown = result.out + result.err
    bad = {letter for letter in shown if letter != "\n" and not letter.isprintable()}
    assert not bad, (bad, shown)
    assert "Traceback" not in shown
    return shown


SMALL = ("--space", "space.py", "--subset", "20", "--holdout", "20", "--trials", "2", "--quiet")


def test_classes_and_files(run: Run, photos: str) -> None:
    refused = text_alone(run("data", "inspect", photos, "--subset", "12", "--holdout", "12"))
    assert "broken" in refused and "no image" in refused
    assert "<script>" in refused and "DROP TABLE" in refused, "what can be seen is shown"
    found = run("data", "inspect", photos, "--json").json()
    assert len(found["classes"]) == len(CLASSES)
    assert "1 of 37 images cannot be used" in text_alone(run("search", "--data", photos, *SMALL), 1)
    small = (*SMALL, "--subset", "12", "--holdout", "12")
    text_alone(run("search", "--data", photos, "--skip-bad", "--study", STUDY, *small))
    config = text_alone(run("studies", "config", STUDY))
    stored = tomllib.loads(config)["data"]
    assert stored.startswith("folder:") and f"photos{ESCAPES}<i>" in stored, "escaped, and read back as it is"


def test_studies_and_parameters(run: Run, tmp_path: Path) -> None:
    text_alone(run("search", "--study", STUDY, *SMALL))
    for command in (("leaderboard",), ("show", "0"), ("studies", "list"), ("studies", "config")):
        shown = text_alone(run(*command))
        assert "[red]" in shown or command[0] == "leaderboard", "no markup"
    rows = list(csv.DictReader(io.StringIO(run("leaderboard", "--csv", "-").out)))
    assert len(rows) == 2
    assert len(run("leaderboard", "--study", STUDY, "--json").json()) == 2
    assert [row["name"] for row in run("studies", "list", "--json").json()] == [STUDY]
    renamed = 'x"); DELETE FROM studies; --'
    text_alone(run("studies", "rename", STUDY, renamed))
    assert "control" not in text_alone(run("studies", "rename", renamed, f"a{ESCAPES}"), 2)
    assert "no study" in text_alone(run("leaderboard", "--study", f"{ESCAPES}' OR 1=1 --"), 1)
    assert len(run("leaderboard", "--study", renamed, "--json").json()) == 2
    text_alone(run("studies", "delete", renamed, "--yes"))
    with closing(sqlite3.connect(tmp_path / "runs" / "nas.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM ncntk_trials").fetchone() == (0,)


def test_a_database_of_a_stranger(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its tables hold is text: no escape sequence reaches the terminal, nor a tag the page."""
    text_alone(run("search", "--study", "plain", *SMALL))
    evil = f"<img src=x>{ESCAPES}[red]"
    with closing(sqlite3.connect(tmp_path / "runs" / "nas.db")) as connection:
        connection.execute("UPDATE studies SET study_name = ?", (evil,))
        (config,) = connection.execute("SELECT config FROM ncntk_studies").fetchone()
        changed = json.loads(config)
        changed["asked"] = {"config": evil, "file": {}, "flags": {"data": evil}}
        connection.execute("UPDATE ncntk_studies SET config = ?, created = ?", (json.dumps(changed), evil))
        connection.execute("UPDATE ncntk_trials SET reason = ?", (evil,))
        connection.commit()
    for command in (("leaderboard",), ("show", "0"), ("studies", "list"), ("studies", "config"), ("clean",)):
        text_alone(run(*command))
    text_alone(run("report", "--output", "page.html"))
    written = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<img src=x>" not in written and not set(written) & set("\x07\x1b\x9b\u202e")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text_alone(run("leaderboard", "--csv", "-"))


def test_an_error_with_a_name(run: Run) -> None:
    assert text_alone(run("predict", f"no{ESCAPES}such", "--data", "digits"), 1).startswith("error: no\ufffd]0;owned")
    for arguments in (("search", "--config", ESCAPES), ("score", ESCAPES), ("search", "--space", f"{ESCAPES}.py")):
        assert "error: " in text_alone(run(*arguments), 1)
