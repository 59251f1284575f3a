"""Configuration files and completion: a file says what options say, options win, faults are named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import Run, runner

from nas_cntk import completion

SMALL = 'data = "digits"\nspace = "stages"\nsubset = 70\nholdout = 70\n'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return runner(monkeypatch, capsys)


def shown(run: Run, *arguments: str) -> dict[str, object]:
    result = run("search", "--show-config", *arguments)
    assert result.code == 0, result.err
    found = tomllib.loads(result.out)["search"]
    assert isinstance(found, dict)
    return found


def test_a_search_by_file_is_one_by_options(run: Run, tmp_path: Path) -> None:
    Path("nas.toml").write_text(
        f'db = "a.db"\ntrials = 9\n[search]\n{SMALL}trials = 3\nseed = 4\n[validate]\ntop = 1\n'
    )
    assert run("search", "--config", "nas.toml", "--quiet").code == 0
    options = "--data digits --space stages --subset 70 --holdout 70 --trials 3 --seed 4 --db b.db --quiet"
    assert run("search", *options.split()).code == 0
    boards = [run("leaderboard", "--json", "--db", db).json() for db in ("a.db", "b.db")]
    for board in boards:
        for row in board:
            del row["seconds"], row["predicted_seconds"]
    assert boards[0] == boards[1] and len(boards[0]) == 3
    # Outside of a table it holds for resume too: nine trials.
    assert "9 of 9" in run("resume", "--config", "nas.toml", "--quiet").out


def test_options_win_and_what_is_shown_is_a_file_again(run: Run) -> None:
    Path("nas.toml").write_text(
        'score = ["holdout_accuracy", "flops"]\nridge = 0.1\nsiblings = false\nmax-trial-seconds = 5\n'
        'sampler = "tpe"\n[search]\nsampler_setting = {n_startup_trials = 4, constant_liar = false}\n'
    )
    found = shown(run, "--config", "nas.toml", "--ridge", "loo")
    assert found["ridge"] == "loo" and found["score"] == "holdout_accuracy,flops"
    assert found["siblings"] is False and found["max-trial-seconds"] == 5.0
    assert found["sampler-setting"] == ["n_startup_trials=4", "constant_liar=false"]
    assert found["subset"] == 2000 and "study" not in found
    text = run("search", "--show-config", "--config", "nas.toml", "--ridge", "loo").out
    assert "ridge" in text and "# option" in text and "# from nas.toml" in text and "# default" in text
    Path("again.toml").write_text(text)
    assert shown(run, "--config", "again.toml") == found
    assert shown(run, "--config", "again.toml", "--siblings")["siblings"] is True


def test_paths_are_seen_from_the_file(run: Run) -> None:
    Path("there").mkdir()
    Path("there/nas.toml").write_text('data = "folder:images"\nspace = "mine.py"\ndb = "runs/x.db"\n')
    found = shown(run, "--config", "there/nas.toml")
    assert found["data"] == "folder:there/images"
    assert found["space"] == "there/mine.py" and found["db"] == "there/runs/x.db"
    Path("nas.toml").write_text('data = "digits"\nspace = "plain"\ndb = "sqlite:///y.db"\n[search]\ndb = "/z.db"\n')
    found = shown(run, "--config", "nas.toml")
    assert (found["data"], found["space"], found["db"]) == ("digits", "plain", "/z.db")


@pytest.mark.parametrize(
    "text, message",
    [
        ("trails = 3", "unknown key 'trails'; did you mean trials?"),
        ("[search]\ntop = 3", "table [search] of bad.toml: unknown key 'top'"),
        ("[serach]\n", "known tables: [search], [resume], [validate]; did you mean search?"),
        ("search = 3", "search must be a table"),
        ('trials = "3"', "trials must be a whole number, got '3'"),
        ("trials = true", "trials must be a whole number, got True"),
        ("trials = 3.0", "trials must be a whole number, got 3.0"),
        ('timeout = "1"', "timeout must be a number"),
        ("skip-bad = 1", "skip-bad must be true or false, got 1"),
        ("space = []", "space must be a text, got []"),
        ("sampler-setting = 3", "must be a list of texts"),
        ("config = 'x'", "unknown key 'config'"),
        ("x", "is no TOML"),
        ("x = 1\nx = 2", "is no TOML"),
        ("a = " + "[" * 100_000, "is no TOML"),
    ],
)
def test_a_bad_file_is_named_in_one_line(run: Run, text: str, message: str) -> None:
    Path("bad.toml").write_text(text)
    result = run("search", "--config", "bad.toml")
    assert result.code == 1 and message in result.err and result.err.count("\n") == 1
    assert not Path("runs").exists()


def test_a_value_out_of_range_is_wrong_usage(run: Run) -> None:
    Path("bad.toml").write_text("trials = -1")
    result = run("search", "--config", "bad.toml")
    assert result.code == 2 and "--trials" in result.err


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"#" * (2 << 20)])
def test_a_file_that_cannot_be_read(run: Run, content: bytes | None) -> None:
    if content is not None:
        Path("bad.toml").write_bytes(content)
    result = run("search", "--config", "bad.toml")
    assert result.code == 1 and result.err.count("\n") == 1 and "configuration bad.toml" in result.err


def complete(words: str, folder: Path) -> list[str]:
    environment = os.environ | {
        "_NAS_CNTK_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    command = [sys.executable, "-m", "nas_cntk"]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True).stdout.split()


def test_a_shell_completes_options_and_names(run: Run, tmp_path: Path) -> None:
    assert complete("nas-cntk search --spa", tmp_path) == ["--space"]
    assert complete("nas-cntk search --space st", tmp_path) == ["stages"]
    assert complete("nas-cntk search --sampler ", tmp_path) == ["tpe", "random", "nsga2", "evolution"]
    assert complete("nas-cntk search --score holdout_accuracy,fl", tmp_path) == ["holdout_accuracy,flops"]
    assert complete("nas-cntk resume --study d", tmp_path) == [], "no database, no studies and no error"
    Path("nas.toml").write_text(SMALL + "trials = 1")
    assert run("search", "--config", "nas.toml", "--quiet").code == 0
    assert complete("nas-cntk resume --study d", tmp_path) == ["digits-stages-1"]
    shutil.copy("runs/nas.db", "other.db")
    assert complete("nas-cntk leaderboard --db other.db --study digits-", tmp_path) == ["digits-stages-1"]


def test_scores_of_a_list_are_completed_once() -> None:
    assert completion.scores("flops,fl") == []
    assert "params" in completion.scores("") and completion.spaces("nasb") == ["nasbench201"]
