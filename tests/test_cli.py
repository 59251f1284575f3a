"""The command line: what is typed, what is printed, and the exit code."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from command_line import ARCH, Result, Run, runner

from nas_cntk.commands.output import console_of

ROOT = Path(__file__).parents[1]
SPACE = """
from nas_cntk import Builder

def propose(trial, image_shape):
    b = Builder()
    x = b.input()
    for layer in range(trial.suggest_int("depth", 1, 2)):
        x = b.relu(b.conv(x, trial.suggest_categorical(f"kernel_{layer}", [1, 3, 5])))
    b.dense(b.flatten(x))
    return b.build()
"""
SMALL = ("--subset", "40", "--holdout", "40")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, in an empty folder with a small space in it."""
    (tmp_path / "small.py").write_text(SPACE)
    (tmp_path / "arch.json").write_text(json.dumps(ARCH))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return runner(monkeypatch, capsys)


def search(run: Run, *arguments: str) -> Result:
    return run("search", "--space", "small.py", *SMALL, *arguments)


def one_error(result: Result, code: int = 1) -> str:
    assert result.code == code, result
    lines = result.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.err
    return lines[0]


def docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_page_is_current() -> None:
    module = docs()
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == module.page()


def test_every_command_is_on_the_page_and_has_an_example() -> None:
    from typer.main import get_command

    from nas_cntk.cli import app

    module, found = docs(), []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [(name,)] if inner is None else [(name,), *((name, other) for other in inner)]
    assert set(found) | {()} == set(module.COMMANDS)
    for part in module.page().split("## ")[2:]:
        if not part.startswith("nas-cntk studies\n"):
            assert "Example: nas-cntk" in part, part.splitlines()[0]


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "optuna", "sqlalchemy", "sklearn", "cupy", "scipy")
    script = (
        "import sys; sys.argv = ['nas-cntk', '--help']\n"
        "import atexit; from nas_cntk.cli import main\n"
        f"atexit.register(lambda: print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr))\n"
        "main()"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0 and result.stderr.strip() == "[]", result.stderr


def test_a_search_from_its_first_trial_to_the_leaderboard(run: Run) -> None:
    result = search(run, "--trials", "4")
    assert result.code == 0, result.err
    assert "new study digits-small-1" in result.out and "predicted:" in result.out
    assert "subset 40, held out 40" in result.out
    assert [line[:14] for line in result.out.splitlines() if "/4  " in line] == [
        f"{n + 1}/4  trial {n}" + " " * 2 for n in range(4)
    ]
    assert "next: nas-cntk show" in result.out

    rows = run("leaderboard", "--json").json()
    assert len(rows) == 4
    wanted = "trial key state proxy_accuracy proxy_stderr subset params flops seconds cnn_accuracy cnn_recipe"
    for row in rows:
        assert set(wanted.split()) <= set(row) and row["cnn_accuracy"] is None
        assert row["state"] == "COMPLETE" and 0 <= row["proxy_accuracy"] <= 1 and row["subset"] == 40
    accuracies = [row["proxy_accuracy"] for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)

    assert "digits-small-1" in run("leaderboard").out
    assert len(run("leaderboard", "--json", "--top", "2").json()) == 2
    distinct = run("leaderboard", "--json", "--distinct").json()
    assert len({row["key"] for row in distinct}) == len(distinct)

    best = rows[0]["trial"]
    shown = run("show", str(best), "--json").json()
    assert shown["architecture"]["nodes"][0] == {"op": "input"} and shown["key"] == rows[0]["key"]
    screen = run("show", str(best)).out
    assert "conv" in screen and f"next: nas-cntk validate {best} " in screen
    assert "no finished trial 99" in one_error(run("show", "99"))

    import optuna

    assert len(optuna.load_study(study_name="digits-small-1", storage="sqlite:///runs/nas.db").trials) == 4


def test_resume_raises_the_total_and_a_complete_study_says_so(run: Run) -> None:
    search(run, "--trials", "2")
    before = run("leaderboard", "--json").json()
    again = run("resume")
    assert again.code == 0 and "complete" in again.out
    more = run("resume", "--trials", "5")
    assert more.code == 0 and "continuing study digits-small-1 in runs/nas.db: 2 of 5" in more.out
    after = run("leaderboard", "--json").json()
    assert len(after) == 5 and all(row in after for row in before)


def test_an_interrupted_total_equals_an_undisturbed_one(run: Run) -> None:
    search(run, "--trials", "6", "--db", "whole.db")
    search(run, "--trials", "3", "--db", "parts.db", "--study", "s")
    search(run, "--trials", "6", "--db", "parts.db", "--study", "s")

    def keys(db: str) -> list[Any]:
        return [(r["key"], r["proxy_accuracy"], r["state"]) for r in run("leaderboard", "--json", "--db", db).json()]

    assert keys("whole.db") == keys("parts.db")


def test_another_identity_is_refused_and_the_difference_named(run: Run) -> None:
    search(run, "--trials", "1", "--study", "s")
    assert "seed was 0, now 1" in one_error(search(run, "--study", "s", "--seed", "1"))
    assert "subset was 40, now 50" in one_error(
        run("search", "--space", "small.py", "--subset", "50", "--holdout", "40", "--study", "s")
    )
    assert "image size" in one_error(search(run, "--study", "s", "--image-size", "4"))
    assert search(run, "--study", "s", "--trials", "2").code == 0
    Path("small.py").write_text(SPACE + "\n# changed\n")
    assert "the space's source changed" in one_error(run("resume", "--trials", "3"))
    assert len(run("leaderboard", "--json").json()) == 2


def test_changed_data_are_refused(run: Run) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    x, y = rng.random((200, 6, 6)).astype(np.float32), np.arange(200) % 4
    np.savez("d.npz", x=x, y=y)
    arguments = ("search", "--space", "small.py", "--data", "npz:d.npz", "--subset", "20", "--holdout", "20")
    assert run(*arguments, "--trials", "1").code == 0
    Path("d.npz").rename("moved.npz")
    assert one_error(run("resume", "--trials", "2"))
    moved = run("resume", "--trials", "2", "--data", "npz:moved.npz")
    assert moved.code == 0 and "changed since the last run" in moved.out
    x[0, 0, 0] += 0.5
    np.savez("moved.npz", x=x, y=y)
    assert "the data changed" in one_error(run("resume", "--trials", "3"))


def test_a_note_on_the_data_is_said_once(run: Run) -> None:
    import numpy as np

    np.savez("d.npz", x=np.random.default_rng(0).random((200, 6, 6)), y=np.arange(200) % 4)
    arguments = ("--data", "npz:d.npz", "--subset", "20", "--holdout", "20")
    for said in (
        run("search", "--space", "small.py", *arguments, "--trials", "1"),
        run("score", "arch.json", *arguments),
    ):
        assert said.code == 0 and said.out.count("no test set given: 40 of 200 images") == 1


def test_a_space_that_moved_is_found_by_resume(run: Run) -> None:
    search(run, "--trials", "1", "--study", "s")
    Path("elsewhere").mkdir()
    Path("small.py").rename("elsewhere/small.py")
    assert "small.py" in one_error(run("resume", "--trials", "2"))
    moved = run("search", "--space", "elsewhere/small.py", *SMALL, "--study", "s", "--trials", "2")
    assert moved.code == 0, moved.err
    assert run("resume", "--trials", "3").code == 0


def test_a_screen_without_our_letters_shows_question_marks(run: Run) -> None:
    search(run, "--trials", "1")
    command = [sys.executable, "-c", "from nas_cntk.cli import main; main()", "leaderboard"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, env=environment, text=True)
    assert result.returncode == 0 and "held-out accuracy" in result.stdout, result.stderr


def test_a_search_without_a_score_takes_the_space_s_own(run: Run) -> None:
    text = Path(ROOT / "search_spaces" / "plain.py").read_text()
    Path("own.py").write_text(text + "\n\nSCORE = 'alignment_gain,params'\n")
    small = ("search", "--space", "own.py", "--subset", "40", "--holdout", "40", "--trials", "2")
    assert "score alignment_gain,params" in run(*small, "--study", "own").out
    assert "score loo_mse" in run(*small, "--study", "other", "--score", "loo_mse").out
    again = run("search", "--space", "own.py", "--subset", "40", "--holdout", "40", "--trials", "3", "--study", "own")
    assert again.code == 0 and "continuing study own" in again.out
    Path("own.py").write_text(text + "\n\nSCORE = 'accuracy'\n")
    wrong = run(*small, "--study", "wrong")
    assert wrong.code == 2 and "unknown score 'accuracy'" in wrong.err


def test_a_changed_sampler_is_recorded(run: Run) -> None:
    from nas_cntk.report.board import load_board

    search(run, "--trials", "2")
    changed = run("resume", "--trials", "4", "--sampler", "evolution", "--sampler-setting", "population=2")
    assert changed.code == 0 and "changed since the last run, and recorded: trials, sampler" in changed.out
    assert "after 2 trials the sampler tpe became evolution" in run("leaderboard").out
    kept = {str(change["setting"]): change for change in load_board("runs/nas.db", None).changes}
    sampler: Any = kept["sampler"]
    assert sampler["before"]["name"] == "tpe" and sampler["finished"] == 2
    assert sampler["after"] == {"name": "evolution", "population": 2, "tournament": 3, "mutations": 1}


def test_two_scores_make_a_front(run: Run) -> None:
    result = search(run, "--trials", "8", "--score", "holdout_accuracy,flops")
    assert result.code == 0 and "sampler nsga2" in result.out
    front = run("leaderboard", "--pareto", "--json").json()
    rows = run("leaderboard", "--json").json()
    assert 1 <= len(front) <= len(rows)
    if len(front) < len(rows):
        said = f"shown: {len(front)} of {len(rows)} finished trials (Pareto front)"
        assert said in run("leaderboard", "--pareto").out
    for row in rows:
        betters = [f for f in front if f["proxy_accuracy"] >= row["proxy_accuracy"] and f["flops"] <= row["flops"]]
        assert betters, "every trial is matched or bettered by one of the front"


def test_scores_without_kernels_need_none(run: Run) -> None:
    result = search(run, "--trials", "2", "--score", "flops", "--sampler", "random")
    assert result.code == 0 and "no kernel is needed" in result.out
    rows = run("leaderboard", "--json").json()
    assert all(row["proxy_accuracy"] is None and row["scores"]["flops"] == row["flops"] for row in rows)
    assert [row["flops"] for row in rows] == sorted(row["flops"] for row in rows)


def test_dear_proposals_are_pruned_not_waited_for(run: Run) -> None:
    result = search(run, "--trials", "3", "--max-trial-seconds", "1e-6")
    assert result.code == 0 and "would be skipped" in result.out
    rows = run("leaderboard", "--json").json()
    assert {row["state"] for row in rows} == {"PRUNED"}
    assert all(row["reason"].startswith("cost:") and row["key"] for row in rows)
    assert all(not re.search(r"\b0 s", row["reason"]) for row in rows), "seconds below one are not rounded to none"


def test_the_whole_run_ends_by_its_timeout(run: Run) -> None:
    for seconds in ("2", "10", "40"):  # a busy machine may set up for two
        result = search(run, "--trials", "500", "--timeout", seconds, "--sampler", "random", "--study", f"s{seconds}")
        assert result.code == 0 and "the time is up" in result.out
        if rows := run("leaderboard", "--json").json():
            break
    assert 0 < len(rows) < 500
    assert "next: nas-cntk resume" in result.out


def test_studies_are_listed_renamed_and_deleted(run: Run) -> None:
    search(run, "--trials", "1")
    search(run, "--trials", "1", "--sampler", "random")
    listed = run("studies", "list", "--json").json()
    assert [(s["name"], s["finished"], s["target"]) for s in listed] == [
        ("digits-small-2", 1, 1),
        ("digits-small-1", 1, 1),
    ]
    assert run("studies", "rename", "digits-small-1", "first").code == 0
    assert len(run("leaderboard", "--json", "--study", "first").json()) == 1
    assert "--yes" in one_error(run("studies", "delete", "first"), 2)
    assert run("studies", "delete", "first", "--yes").code == 0
    assert "no study 'first'" in one_error(run("leaderboard", "--study", "first"))
    assert len(run("studies", "list", "--json").json()) == 1


def test_clean_says_and_does(run: Run) -> None:
    import optuna

    search(run, "--trials", "1")
    optuna.load_study(study_name="digits-small-1", storage="sqlite:///runs/nas.db").ask()
    dry = run("clean", "--dry-run")
    assert dry.code == 0 and "would remove the running state of trial 1" in dry.out
    assert "would remove" in run("clean", "--dry-run").out
    assert "removed the running state of trial 1" in run("clean").out
    assert "nothing to remove" in run("clean", "--dry-run").out
    assert len(run("leaderboard", "--json").json()) == 1


def test_score_prints_what_a_search_would_find(run: Run) -> None:
    found = run("score", "arch.json", *SMALL, "--json").json()
    assert list(found["values"])[0] == "holdout_accuracy"
    assert found["subset"] == 40 and 0 <= found["values"]["holdout_accuracy"] <= 1
    assert found["params"] > 0 and len(found["key"]) == 32
    plain = run("score", "arch.json", *SMALL)
    assert plain.code == 0 and "holdout_accuracy" in plain.out
    assert "measured on 40 images, held out 40; backend cpu, ridge 0, jitter 0" in plain.out
    Path("only.py").write_text(
        "import json, nas_cntk\n"
        "def propose(trial, image_shape):\n"
        "    with open('arch.json') as file:\n"
        "        return nas_cntk.Architecture.from_json(file.read())\n"
    )
    assert run("search", "--space", "only.py", *SMALL, "--trials", "1").code == 0
    row = run("leaderboard", "--json").json()[0]
    assert row["scores"] == found["values"] and row["key"] == found["key"]
    assert list(row["scores"]) == list(found["values"]), "the scores asked for come first"
    assert row["backend"] == "cpu" and row["ridge"] == 0 and row["jitter"] == found["jitter"]


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown data": (("search", "--data", "digit"), "did you mean 'digits'"),
    "missing data": (("search", "--data", "npz:none.npz"), "none.npz"),
    "upscaling": (("search", "--data", "digits", "--image-size", "9"), "9"),
    "unknown space": (("search", "--space", "plane"), "did you mean plain"),
    "missing space": (("search", "--space", "none.py"), "none.py"),
    "space with a syntax error": (("search", "--space", "syntax.py"), "syntax.py"),
    "space without propose": (("search", "--space", "empty.py"), "propose"),
    "propose that raises": (("search", "--space", "raises.py", *SMALL), "ZeroDivisionError"),
    "propose that exits": (("search", "--space", "exits.py", *SMALL), "exits"),
    "propose that returns a string": (("search", "--space", "string.py", *SMALL), "no Architecture"),
    "database is a folder": (("search", "--db", "."), "is a folder"),
    "database is a text": (("search", "--db", "arch.json"), "not a SQLite database"),
    "foreign database": (("search", "--db", "foreign.db"), "another program"),
    "no database": (("leaderboard",), "there is no database runs/nas.db"),
    "no database to resume": (("resume",), "there is no database"),
    "no database to clean": (("clean",), "there is no database"),
    "foreign database to read": (("leaderboard", "--db", "foreign.db"), "holds no study"),
    "missing architecture": (("score", "none.json"), "none.json cannot be read"),
    "architecture is a folder": (("score", "."), "is a folder"),
    "empty architecture": (("score", "empty.json"), "is empty"),
    "no JSON": (("score", "small.py"), "not JSON"),
    "unknown op": (("score", "op.json"), "unknown op"),
    "too large for the image": (("score", "pool.json"), "pool"),
    "too few images": (("search", "--subset", "3", "--holdout", "3"), ""),
}
WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown score": (("search", "--score", "holdout_acuracy"), "did you mean holdout_accuracy"),
    "study without a name": (("search", "--study", ""), "no name for a study"),
    "study of two lines": (("search", "--study", "a\nb"), "no name for a study"),
    "unknown sampler": (("search", "--sampler", "tpf"), "did you mean tpe"),
    "unknown setting": (("search", "--sampler-setting", "x=1"), "no setting 'x'"),
    "evolution of two scores": (("search", "--sampler", "evolution", "--score", "holdout_mse,flops"), "one score"),
    "ridge": (("search", "--ridge", "much"), "--ridge"),
    "dtype": (("search", "--dtype", "float16"), "--dtype"),
    "backend": (("search", "--backend", "tpu"), "tpu"),
    "database of another kind": (("search", "--db", "mysql://h/x"), "SQLite"),
}


def write_bad(folder: Path) -> None:
    (folder / "syntax.py").write_text("def propose(:\n")
    (folder / "empty.py").write_text("")
    (folder / "raises.py").write_text("def propose(trial, image_shape):\n    return 1 / 0\n")
    (folder / "exits.py").write_text("import sys\ndef propose(trial, image_shape):\n    sys.exit(0)\n")
    (folder / "string.py").write_text("def propose(trial, image_shape):\n    return 'conv'\n")
    (folder / "empty.json").write_text(" ")
    (folder / "op.json").write_text('{"nodes": [{"op": "attention"}]}')
    pool = [{"op": "input"}, {"op": "conv", "kernel": 3, "inputs": [0]}, {"op": "avg_pool", "size": 9, "inputs": [1]}]
    pool += [{"op": "flatten", "inputs": [2]}, {"op": "dense", "inputs": [3]}]
    (folder / "pool.json").write_text(json.dumps({"nodes": pool}))
    with sqlite3.connect(folder / "foreign.db") as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    connection.close()


@pytest.mark.parametrize("name", [*BAD, *WRONG])
def test_bad_input_gets_one_line_and_its_exit_code(run: Run, tmp_path: Path, name: str) -> None:
    write_bad(tmp_path)
    arguments, says = {**BAD, **WRONG}[name]
    line = one_error(run(*arguments), 1 if name in BAD else 2)
    assert says in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "--trials", "0"),
        ("search", "--trials", "9" * 20),
        ("search", "--timeout", "inf"),
        ("search", "--max-trial-seconds", "inf"),
        ("resume", "--trials", "9" * 20),
        ("search", "--seed", "-1"),
        ("lead",),
        ("show",),
    ],
)
def test_wrong_usage_exits_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.code == 2 and "Traceback" not in result.err


def test_a_space_that_fails_later_ends_the_run_and_keeps_the_study(run: Run) -> None:
    # Every proposal for the forecast is fine; then the space's mood changes.
    Path("moody.py").write_text(SPACE + "\n".join([
        "",
        "calls = []",
        "fine = propose",
        "def propose(trial, image_shape):",
        "    calls.append(1)",
        "    if len(calls) > 10:",
        "        raise KeyError('x')",
        "    return fine(trial, image_shape)",
    ]))  # fmt: skip
    assert "KeyError" in one_error(run("search", "--space", "moody.py", *SMALL))
    assert len(run("leaderboard", "--json").json()) == 2
    assert run("resume", "--trials", "4").code == 0
    assert len(run("leaderboard", "--json").json()) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_search_with_130_and_the_study_intact(run: Run, tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "nas_cntk", "search", "--space", "small.py", *SMALL, "--trials", "2000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if " 3/2000" in line:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in out and "next: nas-cntk resume" in out and "Traceback" not in err
    rows = run("leaderboard", "--json").json()
    assert 3 <= len(rows) < 2000
    assert run("clean", "--dry-run").code == 0
    more = str(len(rows) + 2)
    assert run("resume", "--trials", more).code == 0
    assert len(run("leaderboard", "--json").json()) == len(rows) + 2


@pytest.mark.slow
def test_a_real_search_killed_at_random_ends_as_an_undisturbed_one(run: Run, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "nas_cntk", "search", "--space", "small.py", *SMALL, "--trials", "12"]
    command += ["--study", "killed", "--db", "killed.db"]
    search(run, "--trials", "12", "--study", "killed", "--db", "quiet.db")
    for blow in range(6):
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if "/12  " in line:  # a trial is finished: so no trial is struck three times, and given up
                break
        time.sleep(0.05 * blow)
        process.kill()
        process.communicate()
    assert search(run, "--trials", "12", "--study", "killed", "--db", "killed.db").code == 0
    boards = []
    for db in ("quiet.db", "killed.db"):
        rows = run("leaderboard", "--json", "--db", db).json()
        numbers = {row["trial"]: row["ordinal"] for row in rows}
        for row in rows:
            del row["trial"], row["seconds"], row["predicted_seconds"], row["reason"]
            row["duplicate_of"] = numbers.get(row["duplicate_of"])
        boards.append(rows)
    assert boards[0] == boards[1]


def test_lines_are_cut_to_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console = console_of()
    long = "x" * 500
    with console.capture() as captured:
        console.print(long)
    assert captured.get() == long + "\n"
    monkeypatch.setenv("COLUMNS", "70")
    assert console_of().width == 70
