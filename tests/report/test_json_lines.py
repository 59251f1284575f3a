"""A search for programs: events as JSON lines; and quiet ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run, runner

SPACE = """
from nas_cntk import Builder

def propose(trial, image_shape):
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), trial.suggest_categorical("kernel", [1, 3, 5])))))
    return b.build()
"""
SEARCH = ("search", "--space", "small.py", "--subset", "40", "--holdout", "40")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "small.py").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    return runner(monkeypatch, capsys)


def test_every_line_is_an_event_and_the_rows_are_those_of_the_leaderboard(run: Run) -> None:
    found = run(*SEARCH, "--trials", "4", "--json-lines")
    assert found.code == 0 and not found.err
    events = [json.loads(line) for line in found.out.splitlines()]
    assert all(event["time"].endswith("+00:00") for event in events)
    begins, ends = events[0], events[-1]
    assert begins["event"] == "begins" and begins["finished"] == 0 and begins["target"] == 4
    assert begins["predicted"]["total"] > 0 and begins["entry_layers_per_second"] > 0 and begins["best"] is None
    rows = {row["trial"]: row for row in run("leaderboard", "--json").json()}
    ended = [event for event in events if event["event"] == "trial_ends"]
    assert [event["finished"] for event in ended] == [1, 2, 3, 4]
    for event in ended:
        row = rows[event["trial"]]
        assert {name: event[name] for name in row} == row
    best = max(row["proxy_accuracy"] for row in rows.values())
    assert (ends["event"], ends["how"], ends["finished"], ends["best"]) == ("ends", "complete", 4, best)
    scored = [event["trial"] for event in events if event["event"] == "trial_begins"]
    assert scored == [n for n in range(4) if rows[n]["duplicate_of"] is None]

    again = run("resume", "--trials", "5", "--json-lines").out.splitlines()
    assert json.loads(again[0])["best"] == best and json.loads(again[-1])["finished"] == 5
    done = [json.loads(line) for line in run("resume", "--json-lines").out.splitlines()]
    assert [event["event"] for event in done] == ["ends"] and done[0]["how"] == "complete"


def test_an_error_is_the_last_event_and_on_standard_error(run: Run) -> None:
    found = run(*SEARCH, "--data", "nothing", "--json-lines")
    assert found.code == 1 and found.err.startswith("error: unknown data 'nothing'")
    event = json.loads(found.out)
    assert event["event"] == "ends" and event["how"] == "failed" and "nothing" in event["message"]


def test_quiet_leaves_one_line(run: Run) -> None:
    found = run(*SEARCH, "--trials", "2", "--quiet")
    assert found.code == 0 and not found.err and found.out.count("\n") == 1
    assert found.out.startswith("study digits-small-1: complete, 2 of 2 trials, best holdout_accuracy ")
    failed = run(*SEARCH, "--data", "nothing", "--quiet")
    assert failed.code == 1 and not failed.out and failed.err.count("\n") == 1


@pytest.mark.parametrize("command", [SEARCH, ("resume",), ("validate",)])
def test_quiet_and_json_lines_exclude_each_other(run: Run, command: tuple[str, ...]) -> None:
    found = run(*command, "--quiet", "--json-lines")
    assert found.code == 2 and found.err.count("\n") == 1 and not Path("runs").exists()


def test_the_events_of_a_validation(run: Run) -> None:
    assert run(*SEARCH, "--trials", "2", "--quiet").code == 0
    validate = ("validate", "--only", "kernel", "--top", "1", "--train-images", "60")
    found = run(*validate, "--json-lines")
    assert found.code == 0 and not found.err
    events = [json.loads(line) for line in found.out.splitlines()]
    assert [event["event"] for event in events] == ["begins", "trial_begins", "trial_ends", "ends"]
    begins, begun, ended, ends = events
    assert begins["target"] == 1 and begins["trials"] == [begun["trial"]] and begins["train_images"]["kernel"] == 60
    assert begun["kind"] == ended["kind"] == "kernel" and begun["key"] == ended["key"]
    assert 0 <= ended["accuracy"] <= 1 and ended["train_images"] == 60
    assert ends["how"] == "complete" and ends["recorded"] == 1
    quiet = run(*validate, "--quiet")
    assert quiet.code == 0 and quiet.out == "validation of digits-small-1: complete, 1 result of 1 architecture\n"
    both = run(*validate, "--json", "--json-lines")
    assert both.code == 2 and both.err.count("\n") == 1
